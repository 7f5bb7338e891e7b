"""T1: the broker is killed while events are published."""

from __future__ import annotations

import time

from faults.checker import percentile, recoveries
from faults.report import Result
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
    up, before = [], site.count("acked")
    for number in range(1, scale.faults + 1):
        site.await_count("acked", before + scale.events * number // (scale.faults + 1))
        site.server.kill()
        time.sleep(site.rng.uniform(0.0, 0.5))  # it is down for so long
        site.server.launch()
        up.append(time.monotonic())
    site.await_count("acked", before + scale.events)
    producer.ask()
    site.settle()
    found = site.findings()
    result.take(found)
    result.add("kills", len(up))
    copies = site.copies()
    result.add("raw_copies", copies, most=len(up) * WINDOW)
    result.add("recovery_s", percentile(recoveries(site.offers(), up), 0.99), most=5.0)
    result.sizes(site.grown())
    result.need(all(books["balanced"] for books in site.books()), "books that do not balance")
    return result


BROKER_KILL = Plan(
    "T1",
    "the broker is killed while events are published",
    quick=Scale(events=6_000, faults=3),
    full=Scale(events=50_000, faults=3, rounds=20),
    carry_out=carry_out,
)
