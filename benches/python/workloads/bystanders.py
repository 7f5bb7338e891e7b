"""What an event costs while a thousand other subscriptions want other topics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from tiebeam import EventBus

from harness.contender import Contenders, Run
from harness.envelope import PAYLOAD, TYPE, envelope
from harness.goal import Goal
from harness.race import race
from harness.settings import Settings
from harness.tally import Tally
from workloads import Outcome, chunks

TITLE = "an event beside 1,000 other subscriptions"
OTHERS = 1_000
YIELD_EVERY = 100
ALONE, AMONG = "tiebeam, alone", f"tiebeam, among {OTHERS:,} others"


def measure(settings: Settings) -> Outcome:
    contenders = Contenders()
    contenders.add(ALONE)(partial(_tiebeam, 0))
    contenders.add(AMONG)(partial(_tiebeam, OTHERS))
    contenders.add("asyncio.Queue, alone")(partial(_queues, 0))
    contenders.add(f"asyncio.Queue, among {OTHERS:,} others")(partial(_queues, OTHERS))
    table = race(TITLE, contenders, settings)
    row = table.row(AMONG)
    measured = table.times(row) if row else None
    return Outcome([table], [Goal(TITLE, "<=", 1.1, "x the cost without them", measured)])


async def _tiebeam(others: int, tally: Tally) -> AsyncGenerator[Run, None]:
    async def idle(_event: object) -> None:
        raise AssertionError("nobody publishes this")

    bus = EventBus("bench")
    bus.subscribe(TYPE, tally.async_event_handler())
    for number in range(others):  # half of them patterns, a quarter within the category
        pattern = [
            f"other_{number}.#",
            f"other_{number}.thing",
            f"market_data.s{number}.*",
            f"other.*.t{number}",
        ][number % 4]
        bus.subscribe(pattern, idle, name=f"other_{number}")

    async def run(events: int) -> None:
        publish = bus.publish
        for chunk in chunks(events, YIELD_EVERY):
            for _ in range(chunk):
                await publish(TYPE, PAYLOAD)
            await asyncio.sleep(0)
        await tally.over()

    yield run
    await bus.close(0)


async def _queues(others: int, tally: Tally) -> AsyncGenerator[Run, None]:
    """A queue and a task for each subscription, found by a dict."""
    queues: dict[str, list[asyncio.Queue[Any]]] = {}
    workers = []

    def subscribe(topic: str, handler: Any) -> None:
        queue: asyncio.Queue[Any] = asyncio.Queue(10_000)
        queues.setdefault(topic, []).append(queue)

        async def work() -> None:
            while True:
                await handler(await queue.get())

        workers.append(asyncio.create_task(work()))

    async def idle(_event: object) -> None:
        raise AssertionError("nobody publishes this")

    subscribe(TYPE, tally.async_handler())
    for number in range(others):
        subscribe(f"other_{number}.thing", idle)

    async def run(events: int) -> None:
        for chunk in chunks(events, YIELD_EVERY):
            for _ in range(chunk):
                event = envelope(TYPE, PAYLOAD)
                for queue in queues[TYPE]:
                    await queue.put(event)
            await asyncio.sleep(0)
        await tally.over()

    yield run
    for worker in workers:
        worker.cancel()
