"""T1: the broker is killed while events are published."""

from __future__ import annotations

from faults.report import Result
from faults.runs.killing import kill_while_publishing, note_recovery
from faults.runs.plan import Plan, Scale
from faults.site import Site

WINDOW = 200
RATE = 4_000.0


def carry_out(site: Site, scale: Scale, result: Result) -> Result:
    """Kill the server each time another share of the events is acknowledged."""
    site.consumer()
    producer = site.producer(window=WINDOW, rate=RATE)
    site.await_count("done", 500)
    site.note_base()
    up = kill_while_publishing(site, producer, scale)
    result.take(site.findings())
    note_recovery(site, result, up)
    result.add("raw_copies", site.copies(), most=len(up) * WINDOW)
    site.conclude(result)
    return result


BROKER_KILL = Plan(
    "T1",
    "the broker is killed while events are published",
    quick=Scale(events=6_000, faults=3),
    full=Scale(events=50_000, faults=3, rounds=20),
    carry_out=carry_out,
)
