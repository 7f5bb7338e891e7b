"""Whoever looks after a stream takes nothing from its readers: what they are given comes by their
reads, in its order, however late it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from brokers import redis_server
from brokers.redis_server import RedisServer
from brokers.waiting import until
from tiebeam import Event, EventBus

from faults.proxy import Proxy

pytestmark = [pytest.mark.broker, redis_server.NEEDED]

STREAM = "{tiebeam:orders:0}"
CLAIM_IDLE = 60.0
"""What a read was given is left alone for less."""


def entry(n: int) -> str:
    """An event as any client may write it."""
    return json.dumps(
        {
            "event_id": f"evt_{n}",
            "event_type": "orders.placed",
            "timestamp": 1645541585432,
            "producer": "somebody",
            "version": 1,
            "payload": {"n": n},
        }
    )


def test_what_a_read_was_given_is_not_taken_up_beside_it(run: Any) -> None:
    """Where something was left by others, it is looked what this process has: what an answer that
    is late has in it is no part of that, and what others left is, wherever it stands."""
    handled: list[tuple[int, int]] = []

    def handle(event: Event) -> None:
        handled.append((event.payload["n"], event.metadata["retry_count"]))

    with RedisServer() as server, Proxy(server.url) as proxy:
        client = server.client()

        def add(n: int) -> None:
            client.xadd(STREAM, {"data": entry(n)})

        def add_and_leave(n: int) -> None:
            """In the same moment it is given to somebody who has been gone for long."""
            at_once = client.pipeline(transaction=True)
            at_once.xadd(STREAM, {"data": entry(n)})
            at_once.xreadgroup("g", "gone", {STREAM: ">"})
            added, _ = at_once.execute()
            idle = int(CLAIM_IDLE * 1000)
            client.xclaim(STREAM, "g", "gone", 0, [added], idle=idle, justid=True)

        async def main() -> None:
            bus = EventBus("c", url=proxy.url, claim_idle=CLAIM_IDLE)
            bus.subscribe("orders.placed", handle, group="g")
            async with bus:
                await bus.ready()
                add(1)
                await until(lambda: len(handled) == 1)
                proxy.hold(b"BLOCK")
                add_and_leave(2)
                add(3)  # which the read that waits is given
                await until(lambda: client.xpending(STREAM, "g")["pending"] == 2)
                add_and_leave(4)
                await until(lambda: len(handled) >= 3)  # what was left, behind it and before it
                assert sorted(handled) == [(1, 0), (2, 1), (4, 1)]
                proxy.let_go()
                await until(lambda: len(handled) == 4)
                assert handled[-1] == (3, 0)
                await until(lambda: client.xpending(STREAM, "g")["pending"] == 0)

        run(main())


def test_signs_of_life_take_nothing(run: Any) -> None:
    handled: list[tuple[int, int]] = []

    def handle(event: Event) -> None:
        handled.append((event.payload["n"], event.metadata["retry_count"]))

    with RedisServer() as server, Proxy(server.url) as proxy:
        client = server.client()

        def sweeps() -> int:
            return int(client.info("commandstats").get("cmdstat_xautoclaim", {}).get("calls", 0))

        async def main() -> None:
            async with (
                EventBus("serves", url=proxy.url) as serves,
                EventBus("asks", url=server.url) as asks,
            ):
                serves.handle("orders.place", handle)
                await serves.ready()
                proxy.hold(b"BLOCK")
                await asks.send("orders.place", {"n": 1})  # which the read that waits is given
                for n in (2, 3):
                    await asks.send("orders.place", {"n": n})
                before = sweeps()
                await until(lambda: sweeps() >= before + 2)
                [stream] = client.scan_iter("*:command:orders.place}")
                [group] = client.xinfo_groups(stream)
                assert group["pending"] == 1
                proxy.let_go()
                await until(lambda: len(handled) == 3)
                assert handled == [(1, 0), (2, 0), (3, 0)]

        run(main())
