"""What was given out twice is taken up one by one, and only as long as nobody else has it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from brokers import redis_server
from brokers.redis_server import RedisServer
from brokers.waiting import until
from tiebeam import Event, EventBus

pytestmark = [pytest.mark.broker, redis_server.NEEDED]

STREAM = "{tiebeam:orders:0}"
CLAIM_IDLE = 0.5


def test_what_waits_for_its_turn_is_not_taken_back_from_whoever_took_it_over(run: Any) -> None:
    with RedisServer() as server:
        client = server.client()
        client.xgroup_create(STREAM, "g", "0", mkstream=True)

        async def main() -> None:
            gates = [asyncio.Event(), asyncio.Event()]
            begun: list[tuple[str, int]] = []

            def bus_of(name: str) -> EventBus:
                async def handle(event: Event) -> None:
                    begun.append((name, event.payload["n"]))
                    await gates[event.payload["n"]].wait()

                bus = EventBus(name, url=server.url, claim_idle=CLAIM_IDLE)
                bus.subscribe("orders.placed", handle, group="g", concurrency=4)
                return bus

            async with EventBus("p", url=server.url) as publisher:
                for n in (0, 1):
                    await publisher.publish("orders.placed", {"n": n}, key=str(n))
            given: Any = client.xreadgroup("g", "ghost", {STREAM: ">"})
            entries = [entry for entry, _ in given[0][1]]
            client.xclaim(STREAM, "g", "ghost", 0, entries)  # for the second time
            async with bus_of("a"):
                await until(lambda: ("a", 0) in begun)
                async with bus_of("b"):
                    await until(lambda: ("b", 1) in begun)
                    gates[0].set()
                    await until(lambda: client.xpending(STREAM, "g")["pending"] == 1)
                    await asyncio.sleep(4 * CLAIM_IDLE)  # in which nobody takes it from b
                    assert begun == [("a", 0), ("b", 1)]
                    gates[1].set()
                    await until(lambda: client.xpending(STREAM, "g")["pending"] == 0)
                    assert begun == [("a", 0), ("b", 1)]

        run(main())
