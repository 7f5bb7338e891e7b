"""T7: the network between the buses and the broker does what networks do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from faults.processes import Spawned
from faults.proxy import CALM, Fault, Proxy, one_of_each
from faults.rabbit_site import RabbitSite
from faults.report import Result
from faults.runs.plan import Plan, Scale
from faults.site import Site

CLAIM_IDLE = 15.0
"""Longer than anybody is cut off: who is for so long is taken to be gone, and what he handled
meanwhile is handled again."""

HEARTBEAT = 1.0
"""Both sides of a connection to RabbitMQ that is half open notice it within twice that."""

RATE = 200.0
WINDOW = 200
"""How many publishes may be under way."""


def carry_out(site: Site, scale: Scale, result: Result) -> Result:
    """Two consumers of one group, each of which could take what the other was given."""
    with _proxy(site) as proxy:
        for name in ("c0", "c1"):
            site.consumer(name, options={"claim_idle": CLAIM_IDLE})
        producer = _producer(site)
        site.note_base()
        _do_what_networks_do(site, proxy, producer, scale, result)
        result.add("raw_copies", site.copies())
        site.conclude(result)
    return result


def carry_out_on_rabbit(site: RabbitSite, scale: Scale, result: Result) -> Result:
    """One consumer: what was given to it over a connection that is lost the broker gives out once
    more, and nobody but itself knows what it has handled of that."""
    with _proxy(site) as proxy:
        site.consumer(options={"heartbeat": HEARTBEAT})
        producer = _producer(site, heartbeat=HEARTBEAT)
        site.connect_anew(WINDOW + 50)
        site.note_base()
        _do_what_networks_do(site, proxy, producer, scale, result)
        site.conclude(result)
        result.add("left_out_copies", site.duplicates())
    return result


@contextlib.contextmanager
def _proxy(site: Site) -> Iterator[Proxy]:
    """A proxy between the broker and all that is begun from now on."""
    with Proxy(site.url, site.rng.randrange(2**32)) as proxy:
        site.url = proxy.url
        yield proxy


def _producer(site: Site, **options: Any) -> Spawned:
    options["outbox"] = {"timeout": 5.0}
    producer = site.producer(rate=RATE, window=WINDOW, options=options)
    site.await_count("done", 200)
    return producer


def _do_what_networks_do(
    site: Site, proxy: Proxy, producer: Spawned, scale: Scale, result: Result
) -> None:
    """Faults in random order, strength and length, with short calms between them; then it must
    work again, and all must come to its end."""
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


NETWORK = Plan(
    "T7",
    "the network does what networks do",
    quick=Scale(events=0, faults=16),
    full=Scale(events=0, faults=200, rounds=10),
    carry_out=carry_out,
)

RABBIT_NETWORK = Plan(
    "T7R",
    "the network before RabbitMQ does what networks do",
    quick=Scale(events=0, faults=6),
    full=Scale(events=0, faults=200, rounds=10),
    carry_out=carry_out_on_rabbit,
    site=RabbitSite,
)
