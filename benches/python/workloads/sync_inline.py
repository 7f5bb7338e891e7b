"""Publish to one sync handler that runs before publish returns."""

from __future__ import annotations

from harness.goal import times
from harness.race import race
from harness.settings import Settings
from peers.inline import PLAIN, inline
from workloads import Outcome

TITLE = "publish to one sync handler, inline"

contenders = inline(1)


def measure(settings: Settings) -> Outcome:
    counts = race(TITLE, contenders, settings)
    reads = race(f"{TITLE}, handler reads", contenders, settings, reads=True)
    return Outcome([counts, reads], [times(counts, PLAIN, 2.0)])
