"""What somebody takes off the broker: it is counted and told, and the work goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from brokers import redis_server
from brokers.redis_server import RedisServer
from brokers.waiting import until
from tiebeam import EventBus

pytestmark = [pytest.mark.broker, redis_server.NEEDED]

STREAM = "{tiebeam:orders:0}"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def listen(bus: EventBus, topic: str) -> list[dict[str, Any]]:
    """What is told of it from now on."""
    told: list[dict[str, Any]] = []
    bus.subscribe(topic, lambda event: told.append(event.payload), run_in="inline")
    return told


def test_entries_trimmed_under_somebody_who_is_gone_are_counted_and_told(
    server: RedisServer, run: Any
) -> None:
    client = server.client()
    client.xgroup_create(STREAM, "g", "0", mkstream=True)

    async def main() -> None:
        async with EventBus("p", url=server.url) as publisher:
            for n in range(20):
                await publisher.publish("orders.placed", {"n": n})
        given: Any = client.xreadgroup("g", "ghost", {STREAM: ">"}, count=15)
        assert len(given[0][1]) == 15
        client.xtrim(STREAM, maxlen=8, approximate=False)  # 12 of the 15 are no more
        seen: list[int] = []
        bus = EventBus("c", url=server.url, claim_idle=0.2)
        told = listen(bus, "system.events_lost")
        bus.subscribe("orders.placed", lambda event: seen.append(event.payload["n"]), group="g")
        async with bus:
            await until(lambda: sum(word["lost_by_trim"] for word in told) >= 12)
            await until(lambda: len(seen) >= 8)
            await bus.drain()
            assert sum(word["lost_by_trim"] for word in told) == 12
            assert {(word["stream"], word["group"]) for word in told} == {(STREAM, "g")}
            assert sorted(seen) == list(range(12, 20))

    run(main())
    assert client.xpending(STREAM, "g")["pending"] == 0


async def publisher_of(server: RedisServer, n: int) -> None:
    async with EventBus("p", url=server.url) as publisher:
        await publisher.publish("orders.placed", {"n": n})


def test_entries_trimmed_before_anybody_had_them_are_counted_and_told(
    server: RedisServer, run: Any
) -> None:
    client = server.client()
    seen: list[int] = []

    async def main() -> None:
        async with EventBus("p", url=server.url) as publisher:
            async with EventBus("c", url=server.url) as bus:
                bus.subscribe("orders.placed", lambda e: seen.append(e.payload["n"]), group="g")
                await bus.ready()
                for n in range(5):
                    await publisher.publish("orders.placed", {"n": n})
                await until(lambda: len(seen) == 5)
            for n in range(5, 30):
                await publisher.publish("orders.placed", {"n": n})
            client.xtrim(STREAM, maxlen=10, approximate=False)  # 15 of the 25 are no more
            bus = EventBus("d", url=server.url)
            told = listen(bus, "system.events_lost")
            bus.subscribe("orders.placed", lambda e: seen.append(e.payload["n"]), group="g")
            async with bus:
                await until(lambda: len(seen) >= 15 and told)
                await bus.drain()
                # What was trimmed after it was handled is no loss, and nothing is told twice.
                client.xtrim(STREAM, maxlen=2, approximate=False)
                await publisher.publish("orders.placed", {"n": 30})
                await until(lambda: 30 in seen)
                # The server lost count where entries were gone; the next loss is told as it is.
                await until(lambda: client.xinfo_groups(STREAM)[0]["lag"] == 0)
            assert [word["lost_by_trim"] for word in told] == [15]
            assert seen == [*range(5), *range(20, 31)]
        client.xtrim(STREAM, maxlen=0, approximate=False)
        for n in range(31, 40):
            await publisher_of(server, n)
        client.xtrim(STREAM, maxlen=6, approximate=False)  # 3 of the 9 are no more
        told.clear()
        first, second = EventBus("e", url=server.url), EventBus("f", url=server.url)
        words = [listen(bus, "system.events_lost") for bus in (first, second)]
        for bus in (first, second):
            bus.subscribe("orders.placed", lambda e: seen.append(e.payload["n"]), group="g")
        async with first, second:
            await until(lambda: len(seen) == 16 + 6)
            await until(lambda: any(words))
        assert sorted(seen[16:]) == list(range(34, 40))
        everything = [word["lost_by_trim"] for heard in words for word in heard]
        assert set(everything) == {3}, "as much as there was"

    run(main())


@pytest.mark.parametrize("how", ["flushall", "del", "xgroup destroy"])
def test_a_stream_or_group_that_vanishes_is_told_and_made_again(
    how: str, server: RedisServer, run: Any
) -> None:
    async def main() -> None:
        seen: list[int] = []
        bus = EventBus("c", url=server.url)
        told = listen(bus, "system.stream_reset")
        bus.subscribe("orders.placed", lambda event: seen.append(event.payload["n"]), group="g")
        async with bus:
            await bus.publish("orders.placed", {"n": 0})
            await until(lambda: 0 in seen)
            client = server.client()
            if how == "flushall":
                client.flushall()
            elif how == "del":
                client.delete(STREAM)
            else:
                client.xgroup_destroy(STREAM, "g")
            began = time.monotonic()
            await bus.publish("orders.placed", {"n": 1})
            await until(lambda: 1 in seen)
            assert time.monotonic() - began < 2.0
            await until(lambda: told)
            assert told == [{"stream": STREAM, "group": "g"}]
            await bus.drain()
            assert seen == [0, 1]  # what is given out again from the oldest on is known

    run(main())


def test_a_server_that_comes_back_with_nothing_is_told_of_too(run: Any) -> None:
    async def main() -> None:
        with RedisServer("--appendonly", "no") as server:
            seen: list[int] = []
            bus = EventBus("c", url=server.url)
            told = listen(bus, "system.stream_reset")
            bus.subscribe("orders.placed", lambda event: seen.append(event.payload["n"]), group="g")
            async with bus:
                await bus.publish("orders.placed", {"n": 0})
                await until(lambda: 0 in seen)
                server.kill()
                server.launch()
                await bus.publish("orders.placed", {"n": 1})
                await until(lambda: 1 in seen)
                await until(lambda: told)
                assert told == [{"stream": STREAM, "group": "g"}]
                await bus.drain()
                assert seen == [0, 1]

    run(main())
