"""Two copies of one event: whichever is left out, the other one is handled."""

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


def test_the_copy_that_went_to_somebody_who_is_gone_is_handled_after_all(run: Any) -> None:
    """The first copy was given to one who is gone; the second, sent again because the answer to
    the first got lost, says behind which entry that may stand."""
    with RedisServer() as server:
        client = server.client()
        client.xgroup_create(STREAM, "g", "0", mkstream=True)

        async def main() -> None:
            seen: list[int] = []
            async with EventBus("p", url=server.url) as publisher:
                await publisher.publish("orders.placed", {"n": 1}, event_id="evt_one")
                given: Any = client.xreadgroup("g", "ghost", {STREAM: ">"})
                ((_, ((_, fields),)),) = given
                client.xadd(STREAM, {**fields, "again": "0-0"})
                await publisher.publish("orders.placed", {"n": 2})
            bus = EventBus("c", url=server.url, claim_idle=1.0)
            bus.subscribe("orders.placed", lambda event: seen.append(event.payload["n"]), group="g")
            async with bus:
                await until(lambda: 2 in seen)
                await until(lambda: client.xpending(STREAM, "g")["pending"] == 0)
                await bus.drain()
                assert sorted(seen) == [1, 2]
                assert bus.books().duplicates == 1

        run(main())


def test_a_copy_that_was_left_out_does_not_count_as_handled(run: Any) -> None:
    """One process has both copies, and goes away before it has handled the first."""
    with RedisServer() as server:
        client = server.client()

        async def main() -> None:
            begun = asyncio.Event()

            async def hang(event: Event) -> None:
                begun.set()
                await asyncio.Event().wait()

            first = EventBus("first", url=server.url, claim_idle=0.5)
            first.subscribe("orders.placed", hang, group="g")
            async with EventBus("p", url=server.url) as publisher:
                await first.ready()
                await publisher.publish("orders.placed", {"n": 1}, event_id="evt_one")
                await asyncio.wait_for(begun.wait(), 10.0)
                entries: Any = client.xrange(STREAM)
                client.xadd(STREAM, entries[0][1])
                await until(lambda: first.books().duplicates == 1)
                await until(lambda: client.xpending(STREAM, "g")["pending"] == 1)
            await first.close(0.0)
            seen: list[int] = []
            bus = EventBus("second", url=server.url, claim_idle=0.5)
            bus.subscribe("orders.placed", lambda event: seen.append(event.payload["n"]), group="g")
            async with bus:
                await until(lambda: client.xpending(STREAM, "g")["pending"] == 0)
                await bus.drain()
                assert seen == [1]

        run(main())
