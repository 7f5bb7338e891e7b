"""A broker that stands still hangs nobody: neither those who publish, nor their event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from brokers import redis_server
from brokers.redis_server import RedisServer
from brokers.waiting import until
from tiebeam import EventBus
from tiebeam.bus import OutboxOptions
from tiebeam.exceptions import DependencyError, OutcomeUnknown

pytestmark = [pytest.mark.broker, redis_server.NEEDED]

LIMIT = 0.8
"""How long an event may wait to be taken."""

SLACK = 0.7
"""By how much a word of that may be late, on a busy machine."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class Heartbeat:
    """A task that wants its turn again and again, and notes the longest wait for it."""

    longest = 0.0

    async def __aenter__(self) -> Heartbeat:
        self._task = asyncio.create_task(self._beat())
        return self

    async def _beat(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)  # what it waits for is its turn
            self.longest = max(self.longest, time.monotonic() - before)

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()


async def outcome(bus: EventBus, n: int) -> tuple[str, float]:
    """What a publisher is told, and after how long."""
    began = time.monotonic()
    try:
        await bus.publish("orders.placed", {"n": n}, event_id=f"e{n}")
    except OutcomeUnknown:
        return "unknown", time.monotonic() - began
    except DependencyError:
        return "refused", time.monotonic() - began
    return "acked", time.monotonic() - began


def test_who_publishes_hears_in_time_and_the_loop_goes_on(server: RedisServer, run: Any) -> None:
    async def main() -> None:
        outbox: OutboxOptions = {"timeout": LIMIT}
        async with Heartbeat() as heart, EventBus("p", url=server.url, outbox=outbox) as bus:
            assert (await outcome(bus, 0))[0] == "acked"
            server.freeze()
            first = asyncio.create_task(outcome(bus, 1))
            told = [await first, *await asyncio.gather(*(outcome(bus, n) for n in range(2, 40)))]
            # What went out, and was not answered, may be there.
            assert told[0][0] == "unknown"
            assert {word for word, _ in told} <= {"unknown", "refused"}
            assert max(after for _, after in told) < LIMIT + SLACK, told
            assert heart.longest < SLACK
            assert bus.trouble or bus.unsent == 0 or told
            server.thaw()
            assert (await outcome(bus, 40))[0] == "acked"

    run(main())


def test_what_nobody_knew_is_handled_once_when_it_is_published_again(
    server: RedisServer, run: Any
) -> None:
    async def main() -> None:
        seen: list[int] = []
        consumers = [EventBus(name, url=server.url) for name in ("a", "b")]
        for consumer in consumers:
            consumer.subscribe(
                "orders.placed", lambda event: seen.append(event.payload["n"]), group="g"
            )
        publisher = EventBus("p", url=server.url, outbox={"timeout": LIMIT})
        async with consumers[0], consumers[1], publisher as bus:
            await outcome(bus, 0)
            server.freeze()
            told = await asyncio.gather(*(outcome(bus, n) for n in range(1, 30)))
            unknown = [n for n, (word, _) in enumerate(told, 1) if word == "unknown"]
            assert unknown
            again = [asyncio.create_task(outcome(bus, n)) for n in unknown]
            await asyncio.sleep(0)  # they are under way
            server.thaw()
            assert {word for word, _ in await asyncio.gather(*again)} == {"acked"}
            last = await outcome(bus, 99)
            assert last[0] == "acked"
            # Each of the two has some of them.
            await until(lambda: {*unknown, 0, 99} <= set(seen))
            client = server.client()
            await until(lambda: client.xpending("{tiebeam:orders:0}", "g")["pending"] == 0)
            for consumer in consumers:
                await consumer.drain()
            assert len(seen) == len(set(seen)), sorted(seen)

    run(main())


def test_a_plain_thread_hears_in_time_too(server: RedisServer) -> None:
    with EventBus("p", url=server.url, outbox={"timeout": LIMIT}) as bus:
        bus.publish("orders.placed", {"n": 0}).wait()
        server.freeze()
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            bus.publish("orders.placed", {"n": 1}).wait()
        assert time.monotonic() - began < LIMIT + SLACK
        server.thaw()


def test_leaving_the_bus_hangs_no_longer_than_its_grace(server: RedisServer, run: Any) -> None:
    async def main() -> None:
        bus = EventBus("p", url=server.url, outbox={"timeout": LIMIT})
        bus.subscribe("orders.placed", lambda event: None, group="g")
        await bus.ready()
        server.freeze()
        left = bus.publish("orders.placed", {"n": 1})
        began = time.monotonic()
        await bus.close(0.5)
        assert time.monotonic() - began < 4.0
        with pytest.raises((OutcomeUnknown, DependencyError)):
            await left
        server.thaw()

    run(main())
