"""What we are to reach beside others, as ratios of one run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.goal import Goal, at_least, at_most

Figures = Mapping[str, Sequence[float]]
"""By contender: its rates, one for each round, or its latencies of all rounds."""

WHAT = {"rate": "events per second", "p50": "p50 of the latency", "p99": "p99 of the latency"}


@dataclass(frozen=True)
class Aim:
    """How many times the figure of others ours is to be."""

    who: str
    figure: Literal["rate", "p50", "p99"]
    """A rate is to reach the bound, a latency to stay below it."""
    bound: float
    beside: tuple[str, ...]
    """The best of those that ran."""

    def judge(self, rates: Figures, waits: Figures) -> Goal:
        """What was reached."""
        figures = rates if self.figure == "rate" else waits
        ran = [other for other in self.beside if figures.get(self.who) and figures.get(other)]
        ratios = {self._ratio(figures[self.who], figures[other]): other for other in ran}
        # The best of the others is who leaves us the worst ratio.
        bound, worst = (at_least, min) if self.figure == "rate" else (at_most, max)
        reached = worst(ratios, default=None)
        other = " or ".join(self.beside) if reached is None else ratios[reached]
        return bound(f"{self.who}: {WHAT[self.figure]}", self.bound, f"x {other}", reached)

    def _ratio(self, ours: Sequence[float], theirs: Sequence[float]) -> float:
        if self.figure == "rate":
            # Those of a round were taken one after the other: what slows one slows both.
            return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        return percentile(ours, self.figure) / percentile(theirs, self.figure)


def percentile(waits: Sequence[float], which: Literal["p50", "p99"]) -> float:
    """Of all latencies."""
    return statistics.quantiles(waits, n=100)[int(which[1:]) - 1]
