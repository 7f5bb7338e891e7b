"""Time limits and concurrency of handlers."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from conftest import GUARD, Gate
from tiebeam import Event, EventBus

# --- time limits


def test_an_async_handler_that_takes_too_long_is_cancelled(run: Any) -> None:
    async def main() -> None:
        cancelled: list[int] = []
        later: list[int] = []

        async def handler(event: Event) -> None:
            n = event.payload["n"]
            if n == 0:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled.append(n)
                    raise
            later.append(n)

        async with EventBus() as bus:
            bus.subscribe("a", handler, timeout=0.02, retry=False, name="mine")
            for n in range(3):
                await bus.publish("a", {"n": n})
            await bus.drain()
            assert cancelled == [0]
            assert later == [1, 2]
            (letter,) = bus.dead_letters.list()
            assert (letter.error_type, letter.category) == ("TimeoutError", "transient")
            assert "mine" in letter.message

    run(main())


def test_a_sync_handler_that_takes_too_long_is_left_behind(bus: EventBus, gate: Gate) -> None:
    stalled: list[dict[str, Any]] = []
    later: list[int] = []
    bus.subscribe("system.handler_stalled", lambda event: stalled.append(event.payload))

    def handler(event: Event) -> None:
        if event.payload["n"] == 0:
            gate.pass_through()
        else:
            later.append(event.payload["n"])

    bus.subscribe("a", handler, timeout=0.02, retry=False, name="mine")
    for n in range(3):
        bus.publish("a", {"n": n})
    bus.drain_sync(GUARD)
    assert later == [1, 2]
    assert [event["subscription"] for event in stalled] == ["mine"]
    assert bus.books().abandoned_threads == 1
    gate.open()
    assert len(bus.dead_letters) == 1


def test_a_fallback_follows_a_time_limit(run: Any) -> None:
    async def main() -> None:
        gate = Gate()
        seen: list[str] = []

        async def hangs(_event: Event) -> None:
            await asyncio.Event().wait()

        async with EventBus() as bus:
            how = {"timeout": 0.02, "retry": False}
            bus.subscribe("a", hangs, fallback=lambda _event: seen.append("async"), **how)
            bus.subscribe(
                "a", gate.pass_through, fallback=lambda _event: seen.append("sync"), **how
            )
            await bus.publish("a")
            await bus.drain()
            assert sorted(seen) == ["async", "sync"]
            assert len(bus.dead_letters) == 0
            gate.open()

    run(main())


def test_a_time_limit_hits_no_other_event(run: Any) -> None:
    """Handlers that end at about their time limit, one after the other on the same task."""

    async def main() -> None:
        outcomes: list[int] = []

        async def handler(event: Event) -> None:
            await asyncio.sleep(0.005 if event.payload["n"] % 2 else 0)
            outcomes.append(event.payload["n"])

        async with EventBus() as bus:
            bus.subscribe("a", handler, timeout=0.005, retry=False, name="mine")
            for n in range(200):
                await bus.publish("a", {"n": n})
            await bus.drain()
            # Those that did not wait so long were not cut short in a slower one's place.
            assert set(range(0, 200, 2)) <= set(outcomes)
            letters = bus.dead_letters.list()
            assert len(outcomes) + len(letters) == 200
            assert {letter.error_type for letter in letters} <= {"TimeoutError"}

    run(main())


def test_an_async_fallback_after_a_cancellation_has_a_task_of_its_own(run: Any) -> None:
    async def main() -> None:
        seen: list[int] = []

        async def hangs(event: Event) -> None:
            if event.payload["n"] == 0:
                await asyncio.Event().wait()
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            raise ValueError("x")  # with a cancellation that is still to come

        async def fallback(event: Event) -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            seen.append(event.payload["n"])

        async with EventBus() as bus:
            bus.subscribe("a", hangs, fallback=fallback, timeout=0.02, retry=False)
            for n in range(3):
                await bus.publish("a", {"n": n})
            await bus.drain()
            assert seen == [0, 1, 2]
            assert bus.books().total.delivered == 3

    run(main())


# --- concurrency


@pytest.mark.parametrize("place", ["thread", "async"])
def test_events_published_at_once_are_handled_at_once(run: Any, place: str) -> None:
    async def main() -> None:
        gate = threading.Barrier(8, timeout=GUARD)
        waiting: list[asyncio.Event] = []

        def sync_handler(_event: Event) -> None:
            gate.wait()

        async def async_handler(_event: Event) -> None:
            door = asyncio.Event()
            waiting.append(door)
            if len(waiting) == 8:
                for other in waiting:
                    other.set()
            await door.wait()

        async with EventBus() as bus:
            bus.subscribe("a", sync_handler if place == "thread" else async_handler, concurrency=8)
            for _ in range(8):
                bus.publish("a")
            await bus.drain()
            assert bus.books().total.delivered == 8

    run(main())


@pytest.mark.parametrize("place", ["thread", "async"])
def test_concurrency_is_a_limit(run: Any, place: str) -> None:
    async def main() -> None:
        running, most, lock = 0, 0, threading.Lock()

        def change(by: int) -> None:
            nonlocal running, most
            with lock:
                running += by
                most = max(most, running)

        def sync_handler(_event: Event) -> None:
            change(1)
            threading.Event().wait(0.001)
            change(-1)

        async def async_handler(_event: Event) -> None:
            change(1)
            await asyncio.sleep(0.001)
            change(-1)

        async with EventBus() as bus:
            bus.subscribe("a", sync_handler if place == "thread" else async_handler, concurrency=3)
            for _ in range(100):
                bus.publish("a")
            await bus.drain()
            assert (most, running) == (3, 0)

    run(main())
