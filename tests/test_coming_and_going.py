"""Members of a group that join and leave all the time, as deployments and restarts make them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from brokers import rabbitmq_server, redis_server
from brokers.waiting import until
from tiebeam import Event, EventBus

pytestmark = pytest.mark.broker

EVENTS = 2_000


@pytest.fixture(
    params=[
        pytest.param(redis_server.RedisServer, id="redis", marks=redis_server.NEEDED),
        pytest.param(rabbitmq_server.RabbitMqServer, id="rabbitmq", marks=rabbitmq_server.NEEDED),
    ]
)
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    with request.param() as server:
        yield server


class Work:
    """What is at work, and how often it was."""

    def __init__(self) -> None:
        self.at_work: set[int] = set()
        self.at_once: list[int] = []
        self.times: Counter[int] = Counter()

    async def do(self, event: Event) -> None:
        n = event.payload["n"]
        if n in self.at_work:
            self.at_once.append(n)
        self.at_work.add(n)
        await asyncio.sleep(0.001)  # the work itself
        self.at_work.discard(n)
        self.times[n] += 1


@pytest.mark.parametrize("seed", [1, 2])
def test_whoever_leaves_takes_nothing_along_and_nothing_is_done_twice(
    server: Any, seed: int, run: Any
) -> None:
    """One leaves its subscription, one its bus; what each had goes to whoever is there."""
    work, over = Work(), asyncio.Event()
    chance = random.Random(seed)
    joined = Counter[str]()

    async def stay() -> None:
        await asyncio.sleep(chance.uniform(0.02, 0.2))  # how long somebody is there

    async def comes_and_goes(name: str) -> None:
        async with EventBus(name, url=server.url, batch_size=50) as bus:
            while not over.is_set():
                with bus.subscribe("job.*", work.do, group="workers", concurrency=4):
                    await bus.ready()
                    joined[name] += 1
                    await stay()

    async def connects_and_goes(name: str) -> None:
        while not over.is_set():
            async with EventBus(name, url=server.url, batch_size=50) as bus:
                bus.subscribe("job.*", work.do, group="workers", concurrency=4)
                await bus.ready()
                joined[name] += 1
                await stay()

    async def main() -> None:
        async with EventBus("stays", url=server.url, batch_size=50) as bus:
            bus.subscribe("job.*", work.do, group="workers")
            await bus.ready()
            others = [
                asyncio.create_task(comes_and_goes("a")),
                asyncio.create_task(comes_and_goes("b")),
                asyncio.create_task(connects_and_goes("c")),
            ]
            for n in range(EVENTS):
                await bus.publish("job.do", {"n": n})
            await until(lambda: len(work.times) == EVENTS)
            over.set()
            await asyncio.gather(*others)
            await until(lambda: not work.at_work)
            assert bus.dead_letters.list() == []

    run(main())
    assert work.at_once == [], "two at once had it"
    assert {n: times for n, times in work.times.items() if times > 1} == {}
    assert all(joined[name] >= 3 for name in "abc"), joined
