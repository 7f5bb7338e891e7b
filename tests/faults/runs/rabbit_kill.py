"""T5: RabbitMQ is killed while events are published and handled."""

from __future__ import annotations

from faults.rabbit_site import RabbitSite
from faults.report import Result
from faults.runs.killing import kill_while_publishing, note_recovery
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
    up = kill_while_publishing(site, producer, scale)
    result.take(site.findings(), may=("disorder",))
    note_recovery(site, result, up)
    site.conclude(result)
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
