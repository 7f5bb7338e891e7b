"""T2: the broker stands still for a while, so that answers come late, or too late."""

from __future__ import annotations

import time

from faults.checker import percentile, recoveries
from faults.report import Result
from faults.runs.plan import Plan, Scale
from faults.site import Site

LONG = 7.0
"""Longer than the server may take to answer: whoever waited does not know the outcome."""


def carry_out(site: Site, scale: Scale, result: Result) -> Result:
    """Freeze the server for random times, the first of them longer than anybody waits."""
    for name in ("c0", "c1"):
        site.consumer(name)
    outbox = {"timeout": 1.5}
    producer = site.producer(rate=400.0, options={"outbox": outbox})
    site.await_count("done", 200)
    site.note_base()
    up, frozen = [], 0.0
    for number in range(scale.faults):
        for spawned in (*site.consumers, producer):
            assert spawned.process.poll() is None
        site.server.freeze()
        pause = LONG if number == 0 else min(20.0, 0.1 + site.rng.expovariate(1.5))
        time.sleep(pause)
        frozen += pause
        site.server.thaw()
        up.append(time.monotonic())
        before = site.count("acked")
        site.await_count("acked", before + site.rng.randint(50, 400))
    producer.ask()
    site.settle()
    found = site.findings()
    result.take(found, may=("disorder",))  # across processes none is promised
    result.add("pauses", len(up))
    result.add("frozen_total", frozen)
    result.add("raw_copies", site.copies())
    late = sum(
        entry.word in ("acked", "unknown") and "unknown" in entry.more
        for ledger in site.offers()
        for entry in ledger
    )
    result.add("outcome_unknown_first", late)
    result.need(late > 0, "no outcome was ever unknown: the pauses show nothing")
    result.add("recovery_s", percentile(recoveries(site.offers(), up), 0.99), most=5.0)
    site.conclude(result)
    return result


BROKER_PAUSE = Plan(
    "T2",
    "the broker stands still",
    quick=Scale(events=0, faults=5),
    full=Scale(events=0, faults=20, rounds=10),
    carry_out=carry_out,
)
