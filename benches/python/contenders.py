"""What is measured: one event's way from the publisher to the end of its handler.

Every contender carries the same envelope (id, type, millisecond timestamp, producer, version, a
copy of the payload's three fields, metadata) and its handler reads one field of the payload. The
peers make theirs by the cheapest fair means: a dict, with an id from a counter instead of a
unique one. Tiebeam's is the full one, as users get it: a time-ordered unique id, a payload that
is checked and encoded, lineage, and a mailbox with its books.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any, Protocol

from tiebeam import EventBus

TYPE = "market_data.price_update"
PAYLOAD = {"symbol": "BTCUSDT", "price": 38245.5, "volume": 2.15}

YIELD_EVERY = 100
"""The async publishers let the loop run after so many events."""

_numbers = itertools.count()


def envelope(event_type: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The peers' event."""
    event_id = f"evt_{next(_numbers):032x}"
    return {
        "event_id": event_id,
        "event_type": event_type,
        "timestamp": time.time_ns() // 1_000_000,
        "producer": "bench",
        "version": 1,
        "payload": payload.copy(),
        "metadata": {"priority": "normal", "correlation_id": event_id, "retry_count": 0},
    }


class Tally:
    """What the handlers add up: proof that every event came, with its payload."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0


class SyncContender(Protocol):
    """Publishes and handles inside one call."""

    name: str

    def run(self, events: int) -> None: ...
    def close(self) -> None: ...


class AsyncContender(Protocol):
    """Publishes to a queue that another task works off."""

    name: str

    async def run(self, events: int) -> None: ...
    async def close(self) -> None: ...


# --- sync inline --------------------------------------------------------------------------


class InlineTiebeam:
    name = "tiebeam, run_in='inline'"

    def __init__(self, tally: Tally) -> None:
        self._bus = EventBus("bench")

        def handler(event: Any) -> None:
            tally.count += 1
            tally.total += event.payload["price"]

        self._bus.subscribe(TYPE, handler, run_in="inline")

    def run(self, events: int) -> None:
        publish = self._bus.publish
        for _ in range(events):
            publish(TYPE, PAYLOAD)

    def close(self) -> None:
        self._bus.close_sync(0)


def _dict_handler(tally: Tally) -> Callable[[dict[str, Any]], None]:
    def handler(event: dict[str, Any]) -> None:
        tally.count += 1
        tally.total += event["payload"]["price"]

    return handler


class PlainLoop:
    name = "for handler in handlers"

    def __init__(self, tally: Tally) -> None:
        self._handlers = {TYPE: [_dict_handler(tally)]}

    def run(self, events: int) -> None:
        handlers = self._handlers
        for _ in range(events):
            event = envelope(TYPE, PAYLOAD)
            for handler in handlers[TYPE]:
                handler(event)

    def close(self) -> None:
        self._handlers.clear()


class Blinker:
    name = "blinker"

    def __init__(self, tally: Tally) -> None:
        from blinker import Namespace

        self._signal = Namespace().signal(TYPE)
        self._handler = _dict_handler(tally)  # blinker itself keeps a weak reference
        self._signal.connect(self._handler)

    def run(self, events: int) -> None:
        send = self._signal.send
        for _ in range(events):
            send(envelope(TYPE, PAYLOAD))

    def close(self) -> None:
        self._signal.disconnect(self._handler)


# --- async decoupled ----------------------------------------------------------------------


class _Countdown:
    """Tells when the last of a round's events was handled."""

    def __init__(self) -> None:
        self._left = 0
        self._done = asyncio.Event()

    def start(self, events: int) -> None:
        self._left = events
        self._done.clear()

    def one(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._done.set()

    async def over(self) -> None:
        await self._done.wait()


class AsyncTiebeam:
    name = "tiebeam, async def"

    def __init__(self, tally: Tally) -> None:
        self._bus = EventBus("bench")
        self._countdown = _Countdown()

        async def handler(event: Any) -> None:
            tally.count += 1
            tally.total += event.payload["price"]
            self._countdown.one()

        self._bus.subscribe(TYPE, handler)

    async def run(self, events: int) -> None:
        publish = self._bus.publish
        self._countdown.start(events)
        for number in range(events):
            await publish(TYPE, PAYLOAD)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        await self._countdown.over()

    async def close(self) -> None:
        await self._bus.close(0)


class Queue:
    name = "asyncio.Queue"

    def __init__(self, tally: Tally) -> None:
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(10_000)
        self._countdown = _Countdown()

        async def handler(event: dict[str, Any]) -> None:
            tally.count += 1
            tally.total += event["payload"]["price"]
            self._countdown.one()

        async def work() -> None:
            while True:
                await handler(await self._queue.get())

        self._worker = asyncio.get_running_loop().create_task(work())

    async def run(self, events: int) -> None:
        put = self._queue.put
        self._countdown.start(events)
        for number in range(events):
            await put(envelope(TYPE, PAYLOAD))
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        await self._countdown.over()

    async def close(self) -> None:
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)


SYNC: list[Callable[[Tally], SyncContender]] = [InlineTiebeam, PlainLoop, Blinker]
ASYNC: list[Callable[[Tally], AsyncContender]] = [AsyncTiebeam, Queue]
