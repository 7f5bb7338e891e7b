"""The agents. None imports another: they know each other's events, commands and requests only.

Everything is numbered. `data_collection` gives each candle a `seq`; every analysis agent says
exactly one thing about each `seq`; `decision_engine` decides once it has heard all of them, in
order, and `virtual_trading` settles in the same order. So agents run side by side, and the result
is that of the input alone.
"""
