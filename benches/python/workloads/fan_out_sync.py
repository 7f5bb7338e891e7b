"""One event to a hundred sync handlers, which run before publish returns."""

from __future__ import annotations

from harness.goal import times
from harness.race import race
from harness.settings import Settings
from peers.inline import NAUTILUS, inline
from workloads import Outcome

TITLE = "fan-out to 100 sync handlers, inline"
SUBSCRIBERS = 100
UNIT = "ns per delivery"

contenders = inline(SUBSCRIBERS)


def measure(settings: Settings) -> Outcome:
    how = {"fan_out": SUBSCRIBERS, "unit": UNIT}
    counts = race(TITLE, contenders, settings, **how)
    reads = race(f"{TITLE}, handlers read", contenders, settings, reads=True, **how)
    return Outcome([counts, reads], [times(counts, NAUTILUS, 2.0)])
