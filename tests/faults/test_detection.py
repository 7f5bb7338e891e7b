"""A connection that is dead and was never closed is noticed; and whoever connects again and again
does so with patience."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from brokers import rabbitmq_server, redis_server
from brokers.rabbitmq_server import RabbitMqServer
from brokers.redis_server import RedisServer
from brokers.waiting import until
from tiebeam import EventBus

from faults.proxy import CALM, Fault, Proxy

pytestmark = [
    pytest.mark.broker,
    pytest.mark.slow,
    redis_server.NEEDED,
    rabbitmq_server.NEEDED,
]

STREAM = "{tiebeam:orders:0}"

UNANSWERED = 15.0
"""A Redis server that does not answer for so long, in seconds, is lost."""
HEARTBEAT = 1
"""RabbitMQ's is gone when it was silent for twice as long."""
RECONNECT = 4.0
"""To connect again, on a busy machine; and until RabbitMQ has noticed, too, that whoever it gave an
event to is gone."""

STORM = 5.0
FLAP = Fault("flap", flap=True)
PERIOD = 0.3

LINKS = {"redis": 6, "amqp": 2}
"""What connects, one connection at a time each. Redis: who reads, who looks after what others left
and who takes it up, who acknowledges, who sends, who trims; RabbitMQ: who reads and who sends."""


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitMqServer]:
    with RabbitMqServer() as server:
        yield server


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def consumer(url: str, seen: list[int], **options: Any) -> EventBus:
    """A bus that notes the number of each event that it handles."""
    bus = EventBus("c", url=url, **options)
    bus.subscribe("orders.placed", lambda event: seen.append(event.payload["n"]), group="g")
    return bus


def test_a_redis_server_that_answers_no_more_is_noticed(redis: RedisServer, run: Any) -> None:
    client, seen = redis.client(), list[int]()

    def pending() -> int:
        given: Any = client.xpending(STREAM, "g")
        return int(given["pending"])

    async def main(proxy: Proxy) -> None:
        bus = consumer(proxy.url, seen, claim_idle=60.0)
        async with bus, EventBus("p", url=redis.url) as publisher:
            await publisher.publish("orders.placed", {"n": 0})
            await until(lambda: 0 in seen)
            await until(lambda: pending() == 0)
            await until(lambda: client.info("clients")["blocked_clients"] == 1)
            proxy.swallow_all()
            await publisher.publish("orders.placed", {"n": 1})
            # It was given to a connection over which it never comes.
            assert pending() == 1
            assert seen == [0]
            await publisher.publish("orders.placed", {"n": 2})
            await until(lambda: {1, 2} <= set(seen), UNANSWERED + RECONNECT)
            await until(lambda: pending() == 0)
        assert sorted(seen) == [0, 1, 2]

    with Proxy(redis.url) as proxy:
        run(main(proxy))


@pytest.mark.parametrize(
    ("query", "options"),
    [(f"/?heartbeat={HEARTBEAT}", {}), ("", {"heartbeat": HEARTBEAT})],
    ids=["in the URL", "as an option"],
)
def test_a_rabbitmq_broker_whose_heart_beats_no_more_is_noticed(
    query: str, options: dict[str, Any], rabbit: RabbitMqServer, run: Any
) -> None:
    seen: list[int] = []

    async def main(proxy: Proxy) -> None:
        bus = consumer(proxy.url, seen, **options)
        async with bus, EventBus("p", url=rabbit.url) as publisher:
            await publisher.publish("orders.placed", {"n": 0})
            await until(lambda: 0 in seen)
            proxy.swallow_all()
            await publisher.publish("orders.placed", {"n": 1})
            await until(lambda: 1 in seen, 2 * HEARTBEAT + RECONNECT)
            await publisher.publish("orders.placed", {"n": 2})
            await until(lambda: 2 in seen)
            await bus.drain()
        assert seen == [0, 1, 2]

    with Proxy(rabbit.url + query) as proxy:
        run(main(proxy))


def tries(seconds: float) -> int:
    """How often one who is refused may try in that time: at once, and after waits that are at least
    half of 50 ms, 100 ms and so on, up to 2 s."""
    count, wait, at = 1, 0.05, 0.0
    while (at := at + wait / 2) <= seconds:
        count, wait = count + 1, min(2.0, wait * 2)
    return count


async def storm(url: str, flapping: bool) -> tuple[int, int]:
    """Reset every connection for a while, or every other moment of it; how many were taken, and how
    many may have been. Then all is well again."""
    seen: list[int] = []
    with Proxy(url) as proxy:
        async with consumer(proxy.url, seen) as bus:
            await bus.publish("orders.placed", {"n": 0})
            await until(lambda: 0 in seen)
            sent: list[Any] = []
            before, most = proxy.taken, 0
            end = time.monotonic() + STORM
            while (began := time.monotonic()) < end:
                proxy.set(FLAP)
                while time.monotonic() < (began + PERIOD if flapping else end):
                    sent.append(bus.publish("orders.placed", {"n": len(sent) + 1}))
                    await asyncio.sleep(PERIOD / 3)  # it lasts so long
                # Once it is over each makes one more, which lasts.
                most += tries(time.monotonic() - began) + 1
                proxy.set(CALM)
                if flapping:
                    await asyncio.sleep(PERIOD)  # and the calm, too
            taken = proxy.taken - before
            await asyncio.gather(*sent)
            await until(lambda: len(seen) > len(sent))
            await until(lambda: bus.trouble is None)
            await bus.drain()
    assert sorted(seen) == list(range(len(sent) + 1))
    return taken, most * LINKS[url.partition(":")[0]]


@pytest.mark.parametrize("flapping", [False, True], ids=["refused", "flapping"])
def test_nobody_storms_a_broker_that_is_not_there(
    flapping: bool, redis: RedisServer, rabbit: RabbitMqServer, run: Any
) -> None:
    async def main() -> None:
        both = [storm(server.url, flapping) for server in (redis, rabbit)]
        for taken, most in await asyncio.gather(*both):
            assert 0 < taken <= most

    run(main())
