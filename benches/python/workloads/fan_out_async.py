"""One event to a hundred async handlers, each with a queue of its own.

The publisher lets the loop run after every event, which is a hundred deliveries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from tiebeam import EventBus

from harness.contender import Contenders, Run
from harness.envelope import PAYLOAD, TYPE, envelope
from harness.goal import times
from harness.race import race
from harness.settings import Settings
from harness.tally import Tally
from workloads import Outcome

TITLE = "fan-out to 100 async handlers"
QUEUES = "an asyncio.Queue per subscriber"
SUBSCRIBERS = 100
CAPACITY = 10_000
UNIT = "ns per delivery"

contenders = Contenders()


def measure(settings: Settings) -> Outcome:
    how = {"fan_out": SUBSCRIBERS, "unit": UNIT}
    counts = race(TITLE, contenders, settings, **how)
    reads = race(f"{TITLE}, handlers read", contenders, settings, reads=True, **how)
    return Outcome([counts, reads], [times(counts, QUEUES, 3.0)])


@contenders.add("tiebeam")
async def tiebeam(tally: Tally) -> AsyncGenerator[Run, None]:
    bus = EventBus("bench", capacity=CAPACITY)
    for number in range(SUBSCRIBERS):
        bus.subscribe(TYPE, tally.async_event_handler(), name=f"handler_{number}")

    async def run(events: int) -> None:
        publish = bus.publish
        for _ in range(events):
            await publish(TYPE, PAYLOAD)
            await asyncio.sleep(0)
        await tally.over()

    yield run
    await bus.close(0)


@contenders.add(QUEUES)
async def queues(tally: Tally) -> AsyncGenerator[Run, None]:
    queues: list[asyncio.Queue[object]] = [asyncio.Queue(CAPACITY) for _ in range(SUBSCRIBERS)]

    async def work(
        queue: asyncio.Queue[object], handler: Callable[[object], Awaitable[None]]
    ) -> None:
        while True:
            await handler(await queue.get())

    async def run(events: int) -> None:
        for _ in range(events):
            event = envelope(TYPE, PAYLOAD)
            for queue in queues:
                await queue.put(event)
            await asyncio.sleep(0)
        await tally.over()

    workers = [asyncio.create_task(work(queue, tally.async_handler())) for queue in queues]
    yield run
    for worker in workers:
        worker.cancel()


@contenders.add("blinker send_async (inside publish)", needs="blinker")
async def blinker(tally: Tally) -> AsyncGenerator[Run, None]:
    from blinker import Signal

    signal = Signal()
    handlers = [tally.async_handler() for _ in range(SUBSCRIBERS)]  # kept: blinker does not
    for handler in handlers:
        signal.connect(handler)

    async def run(events: int) -> None:
        for _ in range(events):
            await signal.send_async(envelope(TYPE, PAYLOAD))
            await asyncio.sleep(0)
        await tally.over()

    yield run
    handlers.clear()
