"""Copies for everybody: whoever loses its connection for a moment misses none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from brokers import rabbitmq_server, redis_server
from brokers.waiting import until
from tiebeam import EventBus

pytestmark = pytest.mark.broker

ROUNDS, EACH = 3, 100


@pytest.fixture(
    params=[
        pytest.param(redis_server.RedisServer, id="redis", marks=redis_server.NEEDED),
        pytest.param(rabbitmq_server.RabbitMqServer, id="rabbitmq", marks=rabbitmq_server.NEEDED),
    ]
)
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    with request.param() as server:
        yield server


def cut_all(server: Any) -> None:
    """End every connection there is."""
    if isinstance(server, redis_server.RedisServer):
        with server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    else:
        server.ctl("close_all_connections", "a test")


def test_who_loses_its_connection_misses_nothing(server: Any, run: Any) -> None:
    seen: dict[str, list[int]] = {"a": [], "b": []}
    resets: list[Any] = []

    async def main() -> None:
        async with (
            EventBus("feed", url=server.url) as feed,
            EventBus("a", url=server.url) as a,
            EventBus("b", url=server.url) as b,
        ):
            a.subscribe("news.*", lambda event: seen["a"].append(event.payload))
            b.subscribe("news.*", lambda event: seen["b"].append(event.payload), broadcast=True)
            for bus in (a, b):
                bus.subscribe("system.stream_reset", lambda event: resets.append(event.payload))
            await asyncio.gather(a.ready(), b.ready())
            number = 0
            for _ in range(ROUNDS):
                cutting = asyncio.ensure_future(asyncio.to_thread(cut_all, server))
                for _ in range(EACH):
                    await feed.publish("news.flash", number)
                    number += 1
                await cutting
                await feed.publish("news.flash", number)
                number += 1
            await until(lambda: all(len(copies) >= number for copies in seen.values()))
            await asyncio.gather(a.drain(), b.drain())
            assert {name: sorted(copies) for name, copies in seen.items()} == {
                name: list(range(number)) for name in seen
            }
            assert resets == []

    run(main())


@rabbitmq_server.NEEDED
def test_of_a_process_that_leaves_nothing_stays(run: Any) -> None:
    with rabbitmq_server.RabbitMqServer() as server:

        async def main() -> None:
            async with EventBus("a", url=server.url) as a, EventBus("b", url=server.url) as b:
                a.subscribe("news.*", lambda event: None)
                a.respond("news.last", lambda event: 1)
                await a.ready()
                assert await b.request("news.last", {}) == 1
                names = await asyncio.to_thread(server.ctl, "list_queues", "name")
                assert ".broadcast." in names
                assert ".reply." in names

        run(main())
        left = server.ctl("list_queues", "name")
        assert ".broadcast." not in left, left
        assert ".reply." not in left, left
        assert ".request." not in left, left
