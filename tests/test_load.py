"""Load: two million deliveries of eight threads to a hundred subscriptions of every kind.

None is missing, each producer's order is kept at each subscription, and the books balance.
``TIEBEAM_LOAD`` sets how many events are published; each is delivered a hundred times.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

from conftest import GUARD
from tiebeam import Event, EventBus

EVENTS = int(os.environ.get("TIEBEAM_LOAD", "20000"))
THREADS = 8
SUBSCRIPTIONS = 100


class Ledger:
    """What one subscription saw, without keeping it: the next number that each producer owes."""

    def __init__(self) -> None:
        self.next = [0] * THREADS
        self.wrong: list[tuple[int, int, int]] = []
        self.lock = threading.Lock()

    def enter(self, event: Event) -> None:
        number: int = event.payload
        producer, n = divmod(number, EVENTS)
        with self.lock:  # what runs inside publish comes on eight threads at once
            expected = self.next[producer]
            if n != expected and len(self.wrong) < 10:
                self.wrong.append((producer, expected, n))
            self.next[producer] = n + 1


def subscribe(bus: EventBus, number: int) -> Ledger:
    ledger = Ledger()

    async def waits_now_and_then(event: Event) -> None:
        ledger.enter(event)
        if event.payload % 97 == number:
            await asyncio.sleep(0)

    async def handler(event: Event) -> None:
        ledger.enter(event)

    pattern = ("load.#", "load.*", "load.x", "#")[number % 4]
    if number % 4 == 0:
        bus.subscribe(pattern, ledger.enter, run_in="inline", name=f"inline {number}")
    elif number % 4 == 1:
        bus.subscribe(pattern, ledger.enter, name=f"thread {number}")
    elif number % 4 == 2:
        bus.subscribe(pattern, handler, name=f"async {number}")
    else:
        bus.subscribe(pattern, waits_now_and_then, name=f"async, waits {number}")
    return ledger


def test_two_million_deliveries() -> None:
    each = EVENTS // THREADS

    async def main() -> None:
        # Small enough that publishers wait for room.
        async with EventBus("load", capacity=1000) as bus:
            ledgers = [subscribe(bus, number) for number in range(SUBSCRIPTIONS)]
            failed: list[BaseException] = []

            def produce(producer: int) -> None:
                try:
                    for n in range(each):
                        bus.publish("load.x", producer * EVENTS + n).wait(GUARD * 4)
                except BaseException as error:
                    failed.append(error)

            producers = [threading.Thread(target=produce, args=(n,)) for n in range(THREADS)]
            for producer in producers:
                producer.start()
            for producer in producers:
                await asyncio.to_thread(producer.join)
            assert not failed, failed[0]
            await bus.drain()

            wrong: Any = [ledger.wrong for ledger in ledgers if ledger.wrong]
            assert not wrong, wrong[0]
            assert all(ledger.next == [each] * THREADS for ledger in ledgers), "some are missing"
            books = bus.books()
            assert books.balanced, str(books)
            assert books.events == each * THREADS
            assert books.total.published == each * THREADS * SUBSCRIPTIONS
            assert books.total.delivered == books.total.published
            assert books.total.in_flight == 0

    asyncio.run(main())
