"""Several handlers at a time: in order for each key, side by side across keys."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import EventBus
from tiebeam.testing import TestBus, run


class Watch:
    """Notes what runs at the same time, and in which order it began."""

    def __init__(self) -> None:
        self.began: list[tuple[str, int]] = []
        self.running: set[str] = set()
        self.most = 0
        self.lock = threading.Lock()

    def enter(self, event: Any) -> None:
        key, n = event.payload["symbol"], event.payload["n"]
        with self.lock:
            assert key not in self.running, f"two of {key} at a time"
            self.running.add(key)
            self.most = max(self.most, len(self.running))
            self.began.append((key, n))

    def leave(self, event: Any) -> None:
        with self.lock:
            self.running.remove(event.payload["symbol"])

    def of(self, key: str) -> list[int]:
        return [n for other, n in self.began if other == key]


def test_on_the_loop() -> None:
    async def main() -> None:
        watch = Watch()

        async def handler(event: Any) -> None:
            watch.enter(event)
            await asyncio.sleep(1.0)
            watch.leave(event)

        async with TestBus() as bus:
            bus.subscribe("a", handler, concurrency=3, key="payload.symbol", name="x")
            for n in range(12):
                bus.publish("a", {"symbol": "XYZ"[n % 3], "n": n})
            await bus.advance(0.5)
            assert watch.began == [("X", 0), ("Y", 1), ("Z", 2)]
            await bus.advance(3.4)
            assert bus.handled("x") == 9
            await bus.advance(0.2)
            assert bus.handled("x") == 12
            assert watch.most == 3
            for key in "XYZ":
                assert watch.of(key) == sorted(watch.of(key))

    run(main())


def test_on_the_loop_with_fewer_handlers_than_keys() -> None:
    async def main() -> None:
        watch = Watch()

        async def handler(event: Any) -> None:
            watch.enter(event)
            await asyncio.sleep(1.0)
            watch.leave(event)

        async with TestBus() as bus:
            bus.subscribe("a", handler, concurrency=2, key="payload.symbol", name="x")
            for n in range(30):
                bus.publish("a", {"symbol": "ABCDE"[n % 5], "n": n})
            await bus.advance(15.5)
            assert (bus.handled("x"), watch.most) == (30, 2)
            for key in "ABCDE":
                assert watch.of(key) == sorted(watch.of(key))

    run(main())


def test_on_threads() -> None:
    watch = Watch()

    def handler(event: Any) -> None:
        watch.enter(event)
        watch.leave(event)

    with EventBus() as bus:
        bus.subscribe("a", handler, concurrency=4, key="payload.symbol", name="x")
        for n in range(2000):
            bus.publish("a", {"symbol": f"S{n % 7}", "n": n})
        bus.drain_sync(GUARD)
        assert bus.books()["x"].delivered == 2000
        assert bus.books().balanced
        for key in range(7):
            assert watch.of(f"S{key}") == sorted(watch.of(f"S{key}"))


def test_two_keys_meet_on_threads() -> None:
    both = threading.Barrier(2)
    with EventBus() as bus:
        # Each waits for the other: with one at a time, neither would come back.
        bus.subscribe("a", lambda _: both.wait(GUARD), concurrency=2, name="x", retry=False)
        bus.publish("a", key="x")
        bus.publish("a", key="y")
        bus.drain_sync(GUARD)
        assert bus.books()["x"].delivered == 2


def test_a_retry_holds_back_its_own_key_only() -> None:
    async def main() -> None:
        seen: list[Any] = []

        async def handler(event: Any) -> None:
            seen.append((event.key, event.payload["n"], event.retry_count))
            if event.payload["n"] == 0 and event.retry_count == 0:
                raise ConnectionError

        async with TestBus() as bus:
            retry: Any = {"initial_delay": 5.0, "jitter": "none"}
            bus.subscribe("a", handler, concurrency=2, retry=retry, name="x")
            for n, key in enumerate(["x", "x", "y", "x"]):
                bus.publish("a", {"n": n}, key=key)
            await bus.advance(1.0)
            assert seen == [("x", 0, 0), ("y", 2, 0)]
            await bus.advance(5.0)
            assert seen[2:] == [("x", 0, 1), ("x", 1, 0), ("x", 3, 0)]

    run(main())


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_the_end_leaves_nothing_uncounted(end: str) -> None:
    async def main() -> None:
        async def handler(event: Any) -> None:
            await asyncio.sleep(1.0)

        async with TestBus() as bus:
            subscription = bus.subscribe("a", handler, concurrency=2, name="x")
            for _ in range(5):
                bus.publish("a", key="one")
            await bus.advance(0.5)
            if end == "cancel":
                assert subscription.cancel() == 4
            else:
                await bus.close(0.1)
            await bus.advance(1.0)
            total = bus.books().total
            assert (total.in_flight, total.balanced) == (0, True)
            assert total.dropped == 4

    run(main())
