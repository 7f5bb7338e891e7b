"""T7: the network between the buses and the server does what networks do."""

from __future__ import annotations

import time

from faults.proxy import CALM, Fault, Proxy, one_of_each
from faults.report import Result
from faults.runs.plan import Plan, Scale
from faults.site import Site

CLAIM_IDLE = 15.0
"""Longer than anybody is cut off: who is for so long is taken to be gone, and what he handled
meanwhile is handled again."""


def carry_out(site: Site, scale: Scale, result: Result) -> Result:
    """Faults in random order, strength and length, with short calms between them."""
    with Proxy(site.server.port, site.rng.randrange(2**32)) as proxy:
        site.url = proxy.url
        for name in ("c0", "c1"):
            site.consumer(name, options={"claim_idle": CLAIM_IDLE})
        producer = site.producer(rate=200.0, options={"outbox": {"timeout": 5.0}})
        site.await_count("done", 200)
        site.note_base()
        schedule: list[Fault] = []
        while len(schedule) < scale.faults:
            round_ = one_of_each(site.rng)
            site.rng.shuffle(round_)
            schedule += round_
        for fault in schedule[: scale.faults]:
            proxy.set(fault)
            time.sleep(site.rng.uniform(0.2, 1.0))  # it lasts so long
            proxy.set(CALM)
            time.sleep(site.rng.uniform(0.1, 1.0))
        before = site.count("acked")
        site.await_count("acked", before + 100)  # it works again
        producer.ask()
        site.settle()
        result.take(site.findings(), may=("disorder",))
        result.add("faults", scale.faults)
        result.add("connections_taken", proxy.taken)
        result.add("raw_copies", site.copies())
        result.sizes(site.grown())
        result.need(all(books["balanced"] for books in site.books()), "books that do not balance")
    return result


NETWORK = Plan(
    "T7",
    "the network does what networks do",
    quick=Scale(events=0, faults=16),
    full=Scale(events=0, faults=200, rounds=10),
    carry_out=carry_out,
)
