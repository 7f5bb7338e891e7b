"""T5: RabbitMQ is killed while events are published and handled."""

from __future__ import annotations

import time

from faults.checker import percentile, recoveries
from faults.rabbit_site import RabbitSite
from faults.report import Result
from faults.runs.plan import Plan, Scale

RATE = 1_500.0
SETTLED = 1_000
"""A queue that is seconds old may be gone after a kill, on older brokers: so many events first."""


def carry_out(site: RabbitSite, scale: Scale, result: Result) -> Result:
    """Kill the broker each time another share of the events is acknowledged."""
    site.consumer()
    producer = site.producer(rate=RATE)
    site.await_count("done", SETTLED)
    site.connect_anew()
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
    result.take(site.findings(), may=("disorder",))
    result.add("kills", len(up))
    result.add("recovery_s", percentile(recoveries(site.offers(), up), 0.99), most=5.0)
    result.sizes(site.grown())
    result.need(all(books["balanced"] for books in site.books()), "books that do not balance")
    result.add("left_out_copies", site.duplicates())
    return result


RABBIT_KILL = Plan(
    "T5",
    "RabbitMQ is killed while events are published",
    quick=Scale(events=6_000, faults=2),
    full=Scale(events=40_000, faults=4, rounds=5),
    carry_out=carry_out,
    site=RabbitSite,
)
