"""Publish to one async handler that runs in a task of its own.

Not all peers decouple: where the handler runs inside publish, the name says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from tiebeam import EventBus

from harness.contender import Contenders, Run
from harness.envelope import PAYLOAD, TYPE, envelope
from harness.goal import times
from harness.race import race
from harness.settings import Settings
from harness.tally import Tally
from workloads import Outcome, chunks

TITLE = "publish to one async handler, decoupled"
QUEUE = "asyncio.Queue"
YIELD_EVERY = 100
CAPACITY = 10_000

contenders = Contenders()


def measure(settings: Settings) -> Outcome:
    counts = race(TITLE, contenders, settings)
    reads = race(f"{TITLE}, handler reads", contenders, settings, reads=True)
    return Outcome([counts, reads], [times(counts, QUEUE, 3.0)])


@contenders.add("tiebeam")
async def tiebeam(tally: Tally) -> AsyncGenerator[Run, None]:
    bus = EventBus("bench", capacity=CAPACITY)
    bus.subscribe(TYPE, tally.async_event_handler())

    async def run(events: int) -> None:
        publish = bus.publish
        for chunk in chunks(events, YIELD_EVERY):
            for _ in range(chunk):
                await publish(TYPE, PAYLOAD)
            await asyncio.sleep(0)
        await tally.over()

    yield run
    await bus.close(0)


@contenders.add("tiebeam, receipts not awaited")
async def tiebeam_at_once(tally: Tally) -> AsyncGenerator[Run, None]:
    """Where room is certain, nobody need wait for it."""
    bus = EventBus("bench", capacity=CAPACITY)
    bus.subscribe(TYPE, tally.async_event_handler())

    async def run(events: int) -> None:
        publish = bus.publish
        for chunk in chunks(events, YIELD_EVERY):
            for _ in range(chunk):
                publish(TYPE, PAYLOAD)
            await asyncio.sleep(0)
        await tally.over()

    yield run
    await bus.close(0)


@contenders.add(QUEUE)
async def queue(tally: Tally) -> AsyncGenerator[Run, None]:
    queue: asyncio.Queue[dict[str, object]] = asyncio.Queue(CAPACITY)
    handler = tally.async_handler()

    async def work() -> None:
        while True:
            await handler(await queue.get())

    async def run(events: int) -> None:
        put = queue.put
        for chunk in chunks(events, YIELD_EVERY):
            for _ in range(chunk):
                await put(envelope(TYPE, PAYLOAD))
            await asyncio.sleep(0)
        await tally.over()

    worker = asyncio.create_task(work())
    yield run
    worker.cancel()


@contenders.add("nautilus_trader + asyncio.Queue", needs="nautilus_trader")
async def nautilus(tally: Tally) -> AsyncGenerator[Run, None]:
    from peers.nautilus import message_bus

    queue: asyncio.Queue[dict[str, object]] = asyncio.Queue(CAPACITY)
    handler = tally.async_handler()
    bus = message_bus()
    bus.subscribe(TYPE, queue.put_nowait)

    async def work() -> None:
        while True:
            await handler(await queue.get())

    async def run(events: int) -> None:
        publish = bus.publish
        for chunk in chunks(events, YIELD_EVERY):
            for _ in range(chunk):
                publish(TYPE, envelope(TYPE, PAYLOAD))
            await asyncio.sleep(0)
        await tally.over()

    worker = asyncio.create_task(work())
    yield run
    worker.cancel()
    bus.dispose()


@contenders.add("blinker send_async (inside publish)", needs="blinker")
async def blinker(tally: Tally) -> AsyncGenerator[Run, None]:
    from blinker import Signal

    signal = Signal()
    handler = tally.async_handler()  # blinker itself keeps a weak reference
    signal.connect(handler)

    async def run(events: int) -> None:
        send = signal.send_async
        for chunk in chunks(events, YIELD_EVERY):
            for _ in range(chunk):
                await send(envelope(TYPE, PAYLOAD))
            await asyncio.sleep(0)
        await tally.over()

    yield run


@contenders.add("anyio memory stream", needs="anyio")
async def anyio(tally: Tally) -> AsyncGenerator[Run, None]:
    from anyio import create_memory_object_stream

    sender, receiver = create_memory_object_stream[dict[str, object]](CAPACITY)
    handler = tally.async_handler()

    async def work() -> None:
        async for event in receiver:
            await handler(event)

    async def run(events: int) -> None:
        send = sender.send
        for chunk in chunks(events, YIELD_EVERY):
            for _ in range(chunk):
                await send(envelope(TYPE, PAYLOAD))
            await asyncio.sleep(0)
        await tally.over()

    worker = asyncio.create_task(work())
    yield run
    sender.close()
    await worker
    receiver.close()


@contenders.add("pyee AsyncIOEventEmitter", needs="pyee", share=0.5)
async def pyee(tally: Tally) -> AsyncGenerator[Run, None]:
    from pyee.asyncio import AsyncIOEventEmitter

    emitter = AsyncIOEventEmitter()
    emitter.on(TYPE, tally.async_handler())

    async def run(events: int) -> None:
        emit = emitter.emit
        for chunk in chunks(events, YIELD_EVERY):
            for _ in range(chunk):
                emit(TYPE, envelope(TYPE, PAYLOAD))
            await asyncio.sleep(0)
        await tally.over()

    yield run


@contenders.add("FastStream in memory (inside publish)", needs="faststream", share=0.005)
async def faststream(tally: Tally) -> AsyncGenerator[Run, None]:
    from peers.faststream import broker, in_memory

    nats = broker()
    handler = tally.async_handler()

    @nats.subscriber(TYPE)
    async def on_event(event: dict[str, object]) -> None:
        await handler(event)

    async with in_memory(nats) as started:

        async def run(events: int) -> None:
            for _ in range(events):
                await started.publish(envelope(TYPE, PAYLOAD), TYPE)
            await tally.over()

        yield run


@contenders.add("bubus", needs="bubus", share=0.005)
async def bubus(tally: Tally) -> AsyncGenerator[Run, None]:
    from peers.bubus import BATCH, PriceUpdate, event, event_bus

    bus = event_bus("decoupled")
    bus.on(PriceUpdate, tally.async_event_handler())

    async def run(events: int) -> None:
        for chunk in chunks(events, BATCH):
            for _ in range(chunk - 1):
                bus.dispatch(event())
            await bus.dispatch(event())
        await tally.over()

    yield run
    await bus.stop(clear=True)
