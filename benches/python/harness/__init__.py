"""How contenders take turns, prove what they did, and are shown.

| file | idea |
| --- | --- |
| `envelope` | the event that every peer carries |
| `tally` | the handlers, which count, and the proof |
| `contender` | one way to do what a workload asks for |
| `race` | contenders in rounds |
| `overhead` | what a wrapper adds to a call |
| `table`, `goal`, `report` | figures; what they should be; both for people and for programs |
| `settings` | how much of everything, and on which loop |
"""
