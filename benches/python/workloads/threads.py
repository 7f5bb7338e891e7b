"""From another thread to a handler on a loop: many events in a row, and a single one.

A figure is the median over the batches of a round, from before the first publish in the thread
to after the last handler on the loop, per event. Between two batches the loop sleeps.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tiebeam import EventBus

from harness.contender import Contenders, Run
from harness.envelope import PAYLOAD, TYPE, envelope
from harness.goal import Goal, at_most
from harness.race import race
from harness.settings import Settings
from harness.table import Table
from harness.tally import Miscount, Tally
from workloads import Outcome

IN_BATCHES = "from a thread to a loop, batches of 1,000"
ON_LOOP = "tiebeam, published on the loop itself"
CROSSING = "what the thread adds to publishing on the loop"
SINGLE = "from a thread to a loop, one event"
BARE = "call_soon_threadsafe, without an event"
BATCH = 1_000


def measure(settings: Settings) -> Outcome:
    batches = race(IN_BATCHES, _contenders(BATCH), settings, handlers_share=BATCH)
    single = race(SINGLE, _contenders(1), settings)
    ours = batches.rows[0]
    return Outcome(
        [batches, single],
        [
            at_most(IN_BATCHES, 500, "ns per event", ours.median if ours.values else None),
            at_most(CROSSING, 500, "ns per event", _crossing(batches)),
            _against_bare(single),
        ],
    )


def _crossing(table: Table) -> float | None:
    """The median of the differences within the rounds."""
    ours, there = table.rows[0], table.row(ON_LOOP)
    if there is None or not ours.values:
        return None
    pairs = zip(ours.values, there.values, strict=True)
    return statistics.median(across - here for across, here in pairs)


def _against_bare(table: Table) -> Goal:
    row = table.row(BARE)
    measured = 1 / table.times(row) if row and table.rows[0].values else None
    return at_most(SINGLE, 1.2, "x the bare wake-up", measured)


def _contenders(batch: int) -> Contenders:
    contenders = Contenders()
    share = 1.0 if batch > 1 else 0.1  # a round trip between threads takes its time
    contenders.add("tiebeam", share=share)(partial(_tiebeam, batch))
    if batch > 1:
        contenders.add(ON_LOOP, share=share)(partial(_on_loop, batch))
    contenders.add(BARE, share=share)(partial(_bare, batch))
    contenders.add("call_soon_threadsafe per event", share=share)(partial(_call_soon, batch))
    contenders.add("run_coroutine_threadsafe, asyncio.Queue", share=share * 0.5)(
        partial(_queue, batch)
    )
    return contenders


class _Batches:
    """Sends batches from a thread, each after the last event of the one before was handled."""

    def __init__(self, name: str, batch: int, send: Callable[[int], None]) -> None:
        self._name = name
        self._batch = batch
        self._send = send
        self._handled = batch
        self._end = 0
        self._over = threading.Semaphore(0)
        self._thread = ThreadPoolExecutor(1)

    def one(self) -> None:
        """One more was handled."""
        self._handled += 1
        if self._handled == self._batch:
            self._end = time.perf_counter_ns()
            self._over.release()

    async def run(self, events: int) -> float:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._send_all, events // self._batch)

    def _send_all(self, batches: int) -> float:
        return statistics.median(self._send_one() for _ in range(max(1, batches)))

    def _send_one(self) -> float:
        self._check()
        self._handled = 0
        begin = time.perf_counter_ns()
        self._send(self._batch)
        if not self._over.acquire(timeout=30):
            self._check()
        return (self._end - begin) / self._batch

    def _check(self) -> None:
        """Between two batches: none of the last one is missing, and none came twice."""
        if self._handled != self._batch:
            raise Miscount(f"{self._name}: a handler saw {self._handled} events, not {self._batch}")

    def close(self) -> None:
        self._check()
        self._thread.shutdown()


async def _tiebeam(batch: int, _tally: Tally) -> AsyncGenerator[Run, None]:
    bus = EventBus("bench")

    def send(count: int) -> None:
        publish = bus.publish
        for _ in range(count):
            publish(TYPE, PAYLOAD)

    batches = _Batches("tiebeam", batch, send)
    one = batches.one

    async def handler(_event: object) -> None:
        one()

    bus.subscribe(TYPE, handler)
    yield batches.run
    batches.close()
    await bus.close(0)


async def _on_loop(batch: int, _tally: Tally) -> AsyncGenerator[Run, None]:
    """The same events and the same handler without a thread: what crossing is compared with."""
    bus = EventBus("bench")
    done = asyncio.Event()
    handled = end = 0

    async def handler(_event: object) -> None:
        nonlocal handled, end
        handled += 1
        if handled == batch:
            end = time.perf_counter_ns()
            done.set()

    async def send_one() -> float:
        nonlocal handled
        handled = 0
        done.clear()
        publish = bus.publish
        begin = time.perf_counter_ns()
        for _ in range(batch):
            publish(TYPE, PAYLOAD)
        await done.wait()
        if handled != batch:
            raise Miscount(f"{ON_LOOP}: a handler saw {handled} events, not {batch}")
        return (end - begin) / batch

    async def run(events: int) -> float:
        return statistics.median([await send_one() for _ in range(max(1, events // batch))])

    bus.subscribe(TYPE, handler)
    yield run
    await bus.close(0)


async def _bare(batch: int, _tally: Tally) -> AsyncGenerator[Run, None]:
    """What the loop takes, whatever is sent: the floor."""
    loop = asyncio.get_running_loop()

    def send(count: int) -> None:
        call_soon = loop.call_soon_threadsafe
        for _ in range(count):
            call_soon(one)

    batches = _Batches(BARE, batch, send)
    one = batches.one
    yield batches.run
    batches.close()


async def _call_soon(batch: int, _tally: Tally) -> AsyncGenerator[Run, None]:
    loop = asyncio.get_running_loop()

    def handler(_event: object) -> None:
        one()

    def send(count: int) -> None:
        call_soon = loop.call_soon_threadsafe
        for _ in range(count):
            call_soon(handler, envelope(TYPE, PAYLOAD))

    batches = _Batches("call_soon_threadsafe per event", batch, send)
    one = batches.one
    yield batches.run
    batches.close()


async def _queue(batch: int, _tally: Tally) -> AsyncGenerator[Run, None]:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[object] = asyncio.Queue(10_000)

    async def handler(_event: object) -> None:
        one()

    async def work() -> None:
        while True:
            await handler(await queue.get())

    def send(count: int) -> None:
        for _ in range(count):
            asyncio.run_coroutine_threadsafe(queue.put(envelope(TYPE, PAYLOAD)), loop)

    batches = _Batches("run_coroutine_threadsafe", batch, send)
    one = batches.one
    worker = asyncio.create_task(work())
    yield batches.run
    batches.close()
    worker.cancel()
