"""A broker that is killed again and again, whichever it is."""

from __future__ import annotations

import time

from faults.checker import percentile, recoveries
from faults.processes import Spawned
from faults.report import Result
from faults.runs.plan import Scale
from faults.site import Site

RECOVERY = 5.0
"""How soon it takes events again after it is there again, in seconds."""


def kill_while_publishing(site: Site, producer: Spawned, scale: Scale) -> list[float]:
    """Kill it each time another share of the events is acknowledged, and wait until all that was
    acknowledged is handled; when it was there again, each time."""
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
    return up


def note_recovery(site: Site, result: Result, up: list[float]) -> None:
    """How many kills there were, and how soon events were taken after them."""
    result.add("kills", len(up))
    result.add("recovery_s", percentile(recoveries(site.offers(), up), 0.99), most=RECOVERY)
