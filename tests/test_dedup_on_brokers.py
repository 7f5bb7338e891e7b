"""Ids seen lately, on brokers: what comes twice is handled once, as long as it is remembered."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pika
import pytest
from brokers import redis_server
from brokers.waiting import until
from tiebeam import Event, EventBus

pytestmark = pytest.mark.broker

WINDOW = 2.0
"""How long ids are remembered where that is tried; the steps inside of it take milliseconds."""

SIZE = 10


@pytest.fixture
def site(server: Any) -> dict[str, Any]:
    """Where a bus of this test is."""
    return {"url": server.url, "prefix": f"dedup-{uuid.uuid4().hex[:8]}"}


Repeat = Callable[[str, int], Awaitable[None]]
"""Publishes the event of this id and number."""


def by_bus(_server: Any, bus: EventBus, _prefix: str) -> Repeat:
    """Whoever is not sure that it came through."""

    async def repeat(event_id: str, n: int) -> None:
        receipt = bus.publish("order.placed", {"n": n}, event_id=event_id)
        await receipt
        assert receipt.event_id == event_id

    return repeat


def by_client(server: Any, _bus: EventBus, prefix: str) -> Repeat:
    """Another client, which knows nothing of tiebeam."""

    def write(event_id: str, n: int) -> None:
        data = json.dumps(
            {
                "event_id": event_id,
                "event_type": "order.placed",
                "timestamp": 1645541585432,
                "payload": {"n": n},
            }
        )
        if isinstance(server, redis_server.RedisServer):
            with server.client() as client:
                client.xadd(f"{{{prefix}:order:0}}", {"data": data})
        else:
            with pika.BlockingConnection(pika.URLParameters(server.url)) as connection:
                channel = connection.channel()
                channel.confirm_delivery()
                channel.basic_publish(prefix, "order.placed", data.encode())

    async def repeat(event_id: str, n: int) -> None:
        await asyncio.to_thread(write, event_id, n)

    return repeat


@pytest.fixture(params=[by_bus, by_client])
def sender(request: pytest.FixtureRequest) -> Any:
    return request.param


async def over(begun: float) -> None:
    """Wait until what was remembered by ``begun`` at the latest is not any more."""
    await asyncio.sleep(begun + WINDOW - time.monotonic() + 0.05)  # the time itself is tried


# -- the window ---------------------------------------------------------------------------


def test_once_inside_of_the_window_and_again_after_it(
    server: Any, site: dict[str, Any], sender: Any, run: Any
) -> None:
    async def main() -> None:
        seen: list[tuple[str, int]] = []
        async with (
            EventBus("reader", dedup={"window": WINDOW}, **site) as reader,
            EventBus("writer", dedup=False, **site) as writer,
        ):
            repeat = sender(server, writer, site["prefix"])
            note = lambda e: seen.append((e.event_id, e.payload["n"]))  # noqa: E731
            reader.subscribe("order.*", note, group="g")
            await reader.ready()
            begun = time.monotonic()
            await repeat("order-17", 1)
            await until(lambda: seen)
            await repeat("order-17", 2)
            await repeat("order-17", 3)
            await repeat("order-18", 4)
            await until(lambda: seen[-1][1] == 4)
            assert time.monotonic() - begun < WINDOW, "too slow for this test"
            assert seen == [("order-17", 1), ("order-18", 4)]
            assert reader.books().duplicates == 2
            await over(time.monotonic())
            await repeat("order-17", 5)
            await until(lambda: seen[-1][1] == 5)
            assert reader.books().duplicates == 2
        assert seen == [("order-17", 1), ("order-18", 4), ("order-17", 5)]

    run(main())


def test_a_broadcast_leaves_copies_out_and_counts_them(site: dict[str, Any], run: Any) -> None:
    async def main() -> None:
        seen: list[int] = []
        async with (
            EventBus("reader", **site) as reader,
            EventBus("writer", dedup=False, **site) as writer,
        ):
            reader.subscribe("order.*", lambda e: seen.append(e.payload["n"]), broadcast=True)
            await reader.ready()
            for n in range(3):
                await writer.publish("order.placed", {"n": n}, event_id="order-17")
            await writer.publish("order.placed", {"n": 3})
            await until(lambda: 3 in seen)
            assert seen == [0, 3]
            assert reader.books().duplicates == 2

    run(main())


def test_so_many_ids_are_remembered_and_not_more(site: dict[str, Any], run: Any) -> None:
    async def main() -> None:
        seen: list[int] = []
        async with (
            EventBus("reader", dedup={"size": SIZE}, **site) as reader,
            EventBus("writer", dedup=False, **site) as writer,
        ):
            reader.subscribe("order.*", lambda e: seen.append(e.payload["n"]), group="g")
            await reader.ready()
            for n in range(SIZE // 2):
                await writer.publish("order.placed", {"n": n}, event_id=f"order-{n}")
            await writer.publish("order.placed", {"n": -1}, event_id="order-0")
            await writer.publish("order.placed", {"n": 100}, event_id="order-100")
            await until(lambda: 100 in seen)
            assert -1 not in seen, "few have come since"
            for n in range(101, 101 + 2 * SIZE):
                await writer.publish("order.placed", {"n": n}, event_id=f"order-{n}")
            await until(lambda: 100 + 2 * SIZE in seen)
            await writer.publish("order.placed", {"n": -2}, event_id="order-0")
            await until(lambda: -2 in seen)

    run(main())


def test_without_it_each_copy_is_handled(site: dict[str, Any], run: Any) -> None:
    async def main() -> None:
        seen: list[int] = []
        async with EventBus("reader", dedup=False, **site) as bus:
            bus.subscribe("order.*", lambda e: seen.append(e.payload["n"]), group="g")
            await bus.ready()
            for n in range(3):
                await bus.publish("order.placed", {"n": n}, event_id="order-17")
            await until(lambda: seen == [0, 1, 2])
            assert bus.books().duplicates == 0

    run(main())


@redis_server.NEEDED
def test_redis_knows_after_a_restart_what_was_handled(
    redis: redis_server.RedisServer, run: Any
) -> None:
    site: dict[str, Any] = {"url": redis.url, "prefix": "restart"}

    async def main() -> None:
        seen: list[int] = []
        async with EventBus("writer", dedup=False, **site) as writer:
            for n in range(2):
                async with EventBus("reader", **site) as reader:
                    reader.subscribe("order.*", lambda e: seen.append(e.payload["n"]), group="g")
                    await reader.ready()
                    await writer.publish("order.placed", {"n": n}, event_id="order-17")
                    await writer.publish("order.placed", {"n": 10 + n})
                    await until(lambda last=10 + n: last in seen)  # type: ignore[misc]
                    assert reader.books().duplicates == n
        assert seen == [0, 10, 11]

    run(main())


# -- several members of a group -----------------------------------------------------------


class Group:
    """Two members of a group, each with an id that it has handled; and a publisher."""

    def __init__(self, server: Any, site: dict[str, Any], **remembers: Any) -> None:
        dedup: Any = remembers
        self.server, self.site = server, site
        self.seen: list[tuple[str, str]] = []
        self.members = [EventBus(name, dedup=dedup, **site) for name in ("a", "b")]
        self.writer = EventBus("writer", dedup=False, **site)

    @property
    def key(self) -> str:
        """Where Redis has what they have handled."""
        return f"{{{self.site['prefix']}:order:0}}:seen:g"

    @property
    def handled(self) -> list[str]:
        return [event_id for _, event_id in self.seen]

    @property
    def duplicates(self) -> int:
        return sum(member.books().duplicates for member in self.members)

    async def publish(self, event_id: str) -> None:
        await self.writer.publish("order.placed", event_id=event_id)

    async def __aenter__(self) -> Group:
        for member in self.members:

            def note(event: Event, name: str = member.name) -> None:
                self.seen.append((name, event.event_id))

            member.subscribe("order.*", note, group="g")
            await member.ready()
        n = 0
        while not self.know_of_each_other():
            n += 1
            await self.publish(f"first-{n}")
            await until(lambda: len(self.seen) == n)  # noqa: B023
        self.seen.clear()
        return self

    def know_of_each_other(self) -> bool:
        """Whether both have handled something; on Redis, since they say so on the server."""
        return {name for name, event_id in self.seen if self.is_told(event_id)} == {"a", "b"}

    def is_told(self, event_id: str) -> bool:
        """Whether it has come to its end for the server, too."""
        if not isinstance(self.server, redis_server.RedisServer):
            return event_id in self.handled
        with self.server.client() as client:
            return client.zscore(self.key, event_id) is not None

    async def __aexit__(self, *_error: object) -> None:
        for bus in (*self.members, self.writer):
            await bus.close()


@redis_server.NEEDED
def test_what_one_member_has_handled_no_other_one_does(
    redis: redis_server.RedisServer, run: Any
) -> None:
    """Where that is not so, the transport says so: RabbitMQ has no ``shared_dedup``."""
    site: dict[str, Any] = {"url": redis.url, "prefix": "members"}

    async def main() -> None:
        async with Group(redis, site) as group:
            assert group.members[0].capabilities["shared_dedup"]
            ids = [f"order-{n}" for n in range(20)]
            for _ in range(3):
                for event_id in ids:
                    await group.publish(event_id)
                await group.publish(last := f"last-{time.monotonic()}")
                await until(lambda last=last: last in group.handled)  # type: ignore[misc]
                await until(lambda: set(ids) <= set(group.handled))
                await until(lambda: all(map(group.is_told, ids)))
            handled = [event_id for event_id in group.handled if event_id in ids]
            assert sorted(handled) == sorted(ids)
            assert group.duplicates == 2 * len(ids)

    run(main())


@redis_server.NEEDED
def test_after_the_window_any_member_handles_it_again(
    redis: redis_server.RedisServer, run: Any
) -> None:
    site: dict[str, Any] = {"url": redis.url, "prefix": "window"}

    async def main() -> None:
        async with Group(redis, site, window=WINDOW) as group:
            ids = [f"order-{n}" for n in range(20)]
            begun = time.monotonic()
            for n in range(2):
                for event_id in ids:
                    await group.publish(event_id)
                await until(lambda: all(map(group.is_told, ids)))
                await until(lambda n=n: group.duplicates == n * len(ids))  # type: ignore[misc]
            assert time.monotonic() - begun < WINDOW, "too slow for this test"
            assert sorted(group.handled) == sorted(ids)
            await over(time.monotonic())
            for event_id in ids:
                await group.publish(event_id)
            handled_or_left_out = lambda: len(group.handled) + group.duplicates == 3 * len(ids)  # noqa: E731
            await until(handled_or_left_out)
            again = set(group.handled[len(ids) :])
            assert set(ids) - again == set(), "left out, although the window is over"

    run(main())


@redis_server.NEEDED
def test_what_redis_remembers_is_bounded(redis: redis_server.RedisServer, run: Any) -> None:
    """By their number, in a group and of a command, and by the time."""
    site: dict[str, Any] = {"url": redis.url, "prefix": "bounded"}
    client = redis.client()

    async def main() -> None:
        async with (
            Group(redis, site, size=SIZE) as group,
            Group(redis, {**site, "prefix": "brief"}, window=WINDOW) as brief,
            EventBus("clerk", dedup={"size": SIZE}, **site) as clerk,
        ):
            orders: list[str] = []
            clerk.handle("order.place", lambda event: orders.append(event.event_id))
            await clerk.ready()
            commands = "{bounded:command:order.place}:seen:handlers"
            ids = [f"order-{n}" for n in range(20 * SIZE)]
            for event_id in ids:
                await group.publish(event_id)
                await brief.publish(event_id)
                await group.writer.send("order.place", event_id=event_id)
            await until(lambda: set(ids) <= set(group.handled) and len(orders) == len(ids))
            await until(lambda: set(ids) <= set(brief.handled))
            assert client.zcard(brief.key) > SIZE, "they are remembered as long as the window"
            await until(lambda: client.zcard(group.key) <= SIZE, within=15.0)
            await until(lambda: client.zcard(commands) <= SIZE, within=15.0)
            assert client.zcard(group.key) == client.zcard(commands) == SIZE
            assert set(client.zrange(commands, 0, -1)) == set(orders[-SIZE:]), "not the newest"
            await until(lambda: client.zcard(brief.key) == 0, within=15.0)

    run(main())
    client.close()
