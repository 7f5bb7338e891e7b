"""T4: handlers that take longer than silence may last before others take their events over."""

from __future__ import annotations

from typing import Any

from faults.report import Result
from faults.runs.plan import Plan, Scale
from faults.site import Site

CLAIM_IDLE = 0.3
WORK = 1.0


def carry_out(site: Site, scale: Scale, result: Result) -> Result:
    """Two consumers, each of which would like to have what the other is at work on."""
    plan: dict[str, Any] = {
        "work": WORK,
        "how": {"group": "g", "concurrency": 16},
        "options": {"claim_idle": CLAIM_IDLE},
    }
    for name in ("c0", "c1"):
        site.consumer(name, **plan)
    site.note_base()
    # Each key has its own place in line: with as many keys as places, all are at work.
    site.producer(count=scale.events, keys=1_000)
    site.settle(within=60.0 + scale.events * WORK / 16)
    result.take(site.findings(), may=("disorder",))
    calls = sum(entry.word == "begin" for calls in site.calls().values() for entry in calls)
    result.add("calls", calls, most=scale.events)
    least = min(sum(entry.word == "done" for entry in calls) for calls in site.calls().values())
    result.need(least > 0, "one of two did it all: this shows nothing")
    site.conclude(result)
    return result


SLOW_HANDLER = Plan(
    "T4",
    "handlers are slower than claim_idle",
    quick=Scale(events=150, faults=0),
    full=Scale(events=5_000, faults=0),
    carry_out=carry_out,
)
