"""Dead letters as a broker keeps them: for all processes, until their end is known."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pika
import pytest
from brokers.rabbitmq_server import INSTALLED, RabbitMqServer
from brokers.redis_server import RedisServer
from brokers.waiting import GUARD, until
from tiebeam import ConfigurationError, DependencyError, EventBus

pytestmark = pytest.mark.broker

ONCE: Any = {"max_attempts": 1}

T = TypeVar("T")


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMqServer]:
    if not INSTALLED:
        pytest.skip("rabbitmq-server is not installed")
    with RabbitMqServer() as server:
        yield server


@pytest.fixture(params=["redis", "rabbitmq"])
def url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param).url
    return url


@pytest.fixture
def prefix() -> str:
    """Names of a test's own."""
    return f"letters-{uuid.uuid4().hex[:8]}"


async def told(ask: Callable[[], Awaitable[T]]) -> T:
    """The first true thing that awaiting ``ask()`` gives."""
    end = time.monotonic() + GUARD
    while not (found := await ask()):
        assert time.monotonic() < end, f"not within {GUARD} s: {ask}"
        await asyncio.sleep(0.01)
    return found


async def give_up(url: str, prefix: str, *numbers: int) -> None:
    """A process that gives up events, and ends."""
    async with EventBus("first", url=url, prefix=prefix) as bus:

        @bus.subscribe("order.*", group="orders", name="orders", retry=ONCE)
        async def fail(_event: Any) -> None:
            raise ValueError("no stock")  # permanent: no breaker opens

        await bus.ready()
        for number in numbers:
            await bus.publish("order.placed", number)
        await told(lambda: all_are_kept(bus, len(numbers)))


async def all_are_kept(bus: EventBus, count: int) -> bool:
    return len(await bus.dead_letters.everywhere.list()) == count


def test_they_outlive_those_who_gave_them_up(url: str, prefix: str, run: Any) -> None:
    async def main() -> None:
        await give_up(url, prefix, 1, 2)
        async with EventBus("tool", url=url, prefix=prefix) as tool:
            first, second = await tool.dead_letters.everywhere.list()
            assert (first.event.payload, second.event.payload) == (1, 2)
            assert (first.event.producer, first.subscription) == ("first", "orders")
            assert first.id == 0
            assert first.name in repr(first)
            assert len(tool.dead_letters) == 0
            assert await tool.dead_letters.everywhere.replay() == 2
        # Nobody of the group ran: it is handled when somebody does.
        async with EventBus("second", url=url, prefix=prefix) as bus:
            seen: list[int] = []
            bus.subscribe("order.*", lambda event: seen.append(event.payload), group="orders")
            await until(lambda: len(seen) == 2)
            await bus.drain()
            assert seen == [1, 2]
            assert await bus.dead_letters.everywhere.list() == []

    run(main())


def test_threads_do_it_too(url: str, prefix: str, run: Any) -> None:
    run(give_up(url, prefix, 1, 2, 3))
    with EventBus("tool", url=url, prefix=prefix) as tool:
        kept = tool.dead_letters.everywhere
        names = [letter.name for letter in kept.list_sync()]
        assert kept.purge_sync(names[0]) == 1
        assert kept.replay_sync(names[1:2]) == 1
        assert [letter.name for letter in kept.list_sync()] == names[2:]
        assert kept.purge_sync(event_type="order.cancelled") == 0
        assert kept.purge_sync(subscription="orders") == 1


def test_two_who_replay_the_same_have_it_handled_once(url: str, prefix: str, run: Any) -> None:
    async def main() -> None:
        await give_up(url, prefix, *range(20))
        async with (
            EventBus("one", url=url, prefix=prefix) as one,
            EventBus("other", url=url, prefix=prefix) as other,
            EventBus("worker", url=url, prefix=prefix) as worker,
        ):
            seen: list[int] = []
            worker.subscribe("order.*", lambda event: seen.append(event.payload), group="orders")
            await worker.ready()
            replays = [bus.dead_letters.everywhere.replay() for bus in (one, other)]
            await asyncio.gather(*replays)
            await until(lambda: len(seen) >= 20)
            assert await told(lambda: all_are_kept(one, 0))
            await worker.publish("order.placed", "the last")
            await until(lambda: "the last" in seen)
            assert sorted(seen[:-1]) == list(range(20))

    run(main())


def test_one_that_is_handled_again_here_stays_until_that_has_succeeded(
    url: str, prefix: str, run: Any
) -> None:
    async def main() -> None:
        handling = asyncio.Event()
        replayed = False

        async def fail_first(_event: Any) -> None:
            if not replayed:
                raise RuntimeError("no stock")
            handling.set()
            await asyncio.Event().wait()

        bus = EventBus("first", url=url, prefix=prefix)
        bus.subscribe("order.*", fail_first, group="orders", retry=ONCE, timeout=60)
        await bus.ready()
        await bus.publish("order.placed", 7)
        await told(lambda: all_are_kept(bus, 1))
        replayed = True
        assert bus.dead_letters.replay() == 1
        await asyncio.wait_for(handling.wait(), GUARD)
        await bus.close(0)  # in the middle of it
        async with EventBus("tool", url=url, prefix=prefix) as tool:
            (letter,) = await tool.dead_letters.everywhere.list()
            assert letter.event.payload == 7

    run(main())


def test_one_that_fails_again_is_one_letter(url: str, prefix: str, run: Any) -> None:
    async def main() -> None:
        async with EventBus("first", url=url, prefix=prefix) as bus:
            attempts: list[int] = []

            @bus.subscribe("order.*", group="orders", retry=ONCE)
            async def fail(_event: Any) -> None:
                attempts.append(1)
                raise RuntimeError(f"failure {len(attempts)}")

            await bus.ready()
            await bus.publish("order.placed", 7)
            await told(lambda: all_are_kept(bus, 1))
            assert bus.dead_letters.replay() == 1
            kept = bus.dead_letters.everywhere

            async def second() -> bool:
                return [letter.message for letter in await kept.list()] == ["failure 2"]

            await told(second)
            # What is thrown away here is gone everywhere.
            assert bus.dead_letters.purge() == 1
            await told(lambda: all_are_kept(bus, 0))

    run(main())


def test_what_is_out_of_date_stays(url: str, prefix: str, run: Any) -> None:
    async def main() -> None:
        async with EventBus("first", url=url, prefix=prefix) as bus:

            @bus.subscribe("order.*", group="orders", retry=ONCE)
            async def fail(_event: Any) -> None:
                raise RuntimeError("no stock")

            await bus.ready()
            await bus.publish("order.placed", 7, deadline=1.0)
            kept = bus.dead_letters.everywhere
            (letter,) = await told(kept.list)
            over = letter.event.timestamp / 1000 + 1.0
            await until(lambda: time.time() > over)
            assert await kept.replay() == 0
            assert len(await kept.list()) == 1

    run(main())


def test_mistakes_are_told(redis: RedisServer, prefix: str, run: Any) -> None:
    with EventBus("tool", url=redis.url, prefix=prefix) as tool:
        kept: Any = tool.dead_letters.everywhere
        with pytest.raises(ValueError, match="limit: must be at least 1, got 0"):
            kept.list_sync(limit=0)
        with pytest.raises(TypeError, match=r"names of dead letters are a string, .* got .*int"):
            kept.replay_sync(7)
        with pytest.raises(TypeError, match="names of dead letters"):
            kept.purge_sync([7])
        assert repr(kept) == "<DeadLettersEverywhere>"
    with RedisServer() as server, EventBus("tool", url=server.url, prefix=prefix) as tool:
        server.kill()
        with pytest.raises(DependencyError, match="is the server running"):
            tool.dead_letters.everywhere.list_sync()


def test_what_others_wrote_among_them_is_no_harm(
    redis: RedisServer, prefix: str, run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run(give_up(redis.url, prefix, 1))
    client = redis.client()
    dead = f"{{{prefix}}}:dead"
    ((_id, fields),) = client.xrange(dead)
    client.xadd(dead, {"data": "no letter", "stream": fields["stream"]})
    client.xadd(dead, {"something": "else"})
    client.xadd(dead, {"data": fields["data"], "stream": "victim"})
    gone = json.loads(fields["data"])
    gone["group"] = "nobody"
    client.xadd(dead, {"data": json.dumps(gone), "stream": fields["stream"]})
    with EventBus("tool", url=redis.url, prefix=prefix) as tool:
        kept = tool.dead_letters.everywhere
        assert len(kept.list_sync()) == 3
        assert kept.replay_sync() == 1
        assert not client.exists("victim")
        assert len(kept.list_sync()) == 2


def declared_by_another(server: RabbitMqServer, queue: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(server.url))
    connection.channel().queue_declare(queue, durable=True)
    connection.close()


def test_a_queue_that_is_no_stream_is_not_emptied(
    rabbitmq: RabbitMqServer, prefix: str, run: Any
) -> None:
    declared_by_another(rabbitmq, f"{prefix}.dead.letters")

    async def main() -> None:
        async with EventBus("first", url=rabbitmq.url, prefix=prefix) as bus:

            @bus.subscribe("order.*", group="orders", retry=ONCE)
            async def fail(_event: Any) -> None:
                raise RuntimeError("no stock")

            await bus.ready()
            await bus.publish("order.placed", 7)
            await until(lambda: len(bus.dead_letters))
            with pytest.raises(ConfigurationError, match=r"`letters-\w+\.dead\.letters`, which is"):
                await bus.dead_letters.everywhere.list()

    run(main())


def test_what_the_broker_gave_up_is_among_them(
    rabbitmq: RabbitMqServer, prefix: str, run: Any
) -> None:
    run(give_up(rabbitmq.url, prefix, 1))  # so that the group is there
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    event = {"event_id": "evt_9", "event_type": "order.placed", "timestamp": 1, "payload": 9}
    connection.channel().basic_publish(
        "",
        f"{prefix}.group.orders",
        json.dumps(event).encode(),
        pika.BasicProperties(expiration="1"),
    )
    connection.close()

    async def main() -> None:
        async with EventBus("second", url=rabbitmq.url, prefix=prefix) as bus:
            kept = bus.dead_letters.everywhere
            await told(lambda: all_are_kept(bus, 2))
            _first, letter = await kept.list()
            assert (letter.reason, letter.event.payload) == ("expired", 9)
            assert letter.error_type == "GivenUpByBroker"
            assert letter.subscription == f"{prefix}.group.orders"
            seen: list[Any] = []
            bus.subscribe("order.*", lambda event: seen.append(event.payload), group="orders")
            assert await kept.replay(letter.name) == 1
            await until(lambda: seen)
            assert seen == [9]
            assert await told(lambda: all_are_kept(bus, 1))

    run(main())
