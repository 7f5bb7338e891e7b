"""Handlers wherever they run: success, retries, fallbacks, and what they do to their bus."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from conftest import FAST, GUARD, Bench, Gate
from tiebeam import Event, EventBus
from tiebeam._core import Clock
from tiebeam.exceptions import PermanentError, TransientError

# --- success and failure, wherever it runs


def test_a_handler_gets_the_event(run: Any, bench: Bench) -> None:
    async def main() -> None:
        seen: list[Any] = []
        async with EventBus() as bus:
            bench.subscribe(bus, "a", lambda event: seen.append(event.payload["n"]))
            for n in range(300):
                await bus.publish("a", {"n": n})
            await bus.drain()
            assert seen == list(range(300))
            assert bus.books().total.delivered == 300

    run(main())


def test_retries_then_success(run: Any, bench: Bench) -> None:
    async def main() -> None:
        counts: list[int] = []

        def flaky(event: Event) -> None:
            counts.append(event.retry_count)
            if len(counts) < 3:
                raise ConnectionError("not yet")

        async with EventBus() as bus:
            bench.subscribe(bus, "a", flaky, retry=FAST)
            await bus.publish("a")
            await bus.drain()
            assert counts == [0, 1, 2]
            assert len(bus.dead_letters) == 0
            assert bus.books().total.delivered == 1

    run(main())


@pytest.mark.parametrize(
    ("error", "category", "attempts"),
    [
        (ConnectionError("x"), "transient", 3),
        (TimeoutError("x"), "transient", 3),
        (TransientError("x"), "transient", 3),
        (RuntimeError("x"), "transient", 3),
        (ConnectionRefusedError("x"), "dependency", 3),
        (PermanentError("x"), "permanent", 1),
        (ValueError("x"), "permanent", 1),
        (KeyError("x"), "permanent", 1),
        (TypeError("x"), "permanent", 1),
        (AttributeError("x"), "internal", 1),
        (AssertionError("x"), "internal", 1),
        (NameError("x"), "internal", 1),
    ],
)
def test_categories_decide_about_retries(
    bus: EventBus, error: Exception, category: str, attempts: int
) -> None:
    def handler(_event: Event) -> None:
        raise error

    bus.subscribe("a", handler, retry=FAST)
    bus.publish("a")
    bus.drain_sync(GUARD)
    (letter,) = bus.dead_letters.list()
    assert (letter.category, letter.attempts) == (category, attempts)
    assert letter.error_type == type(error).__name__


def test_a_longest_delay_below_the_first_one_is_refused(bus: EventBus) -> None:
    bus.subscribe("a", print, retry={"initial_delay": 60})  # the longest is then as long
    with pytest.raises(ValueError, match=r"max_delay \(10 s\) must not be shorter"):
        bus.subscribe("a", print, retry={"initial_delay": 60, "max_delay": 10})


def test_a_fallback_runs_after_the_last_attempt(run: Any, bench: Bench) -> None:
    async def main() -> None:
        calls: list[str] = []

        def handler(_event: Event) -> None:
            calls.append("handler")
            raise ConnectionError("x")

        def fallback(event: Event) -> None:
            calls.append(f"fallback {event.payload['n']}")
            if event.payload["n"]:
                raise ValueError("neither")

        async with EventBus() as bus:
            bench.subscribe(bus, "a", handler, retry={**FAST, "max_attempts": 2}, fallback=fallback)
            await bus.publish("a", {"n": 0})
            await bus.drain()
            assert calls == ["handler"] * 2 + ["fallback 0"]
            assert bus.books().total.delivered == 1
            await bus.publish("a", {"n": 1})
            await bus.drain()
            (letter,) = bus.dead_letters.list()
            assert (letter.reason, letter.message) == ("fallback_failed", "x")

    run(main())


def test_an_async_fallback(run: Any) -> None:
    async def main() -> None:
        seen: list[int] = []

        async def fallback(event: Event) -> None:
            await asyncio.sleep(0)
            seen.append(event.payload["n"])

        def sync_handler(_event: Event) -> None:
            raise ValueError("x")

        async def async_handler(_event: Event) -> None:
            raise ValueError("x")

        async with EventBus() as bus:
            bus.subscribe("a", sync_handler, fallback=fallback)
            bus.subscribe("a", async_handler, fallback=fallback)
            for n in range(5):
                await bus.publish("a", {"n": n})
            await bus.drain()
            assert sorted(seen) == sorted([*range(5), *range(5)])
            assert len(bus.dead_letters) == 0

    run(main())


def test_one_raises_one_hangs_the_others_go_on(run: Any) -> None:
    async def main() -> None:
        good: list[int] = []
        good_sync: list[int] = []
        done, done_sync = asyncio.Event(), threading.Event()
        gate = Gate()

        async def hangs(_event: Event) -> None:
            await asyncio.Event().wait()

        async def raises(_event: Event) -> None:
            raise ValueError("x")

        async def works(event: Event) -> None:
            await asyncio.sleep(0)
            good.append(event.payload["n"])
            if len(good) == 100:
                done.set()

        def works_too(event: Event) -> None:
            good_sync.append(event.payload["n"])
            if len(good_sync) == 100:
                done_sync.set()

        bus = EventBus()
        bus.subscribe("a", raises)
        bus.subscribe("a", hangs)
        for _ in range(6):  # more than there are eager threads
            bus.subscribe("a", gate.pass_through)
        bus.subscribe("a", works)
        bus.subscribe("a", works_too)
        for n in range(100):
            await bus.publish("a", {"n": n})
        await done.wait()
        await asyncio.to_thread(done_sync.wait, GUARD)
        assert good == good_sync == list(range(100))
        gate.open()
        await bus.close(0)
        assert bus.books().balanced

    run(main())


# --- inside handlers


def test_handlers_may_do_anything_to_the_bus(run: Any, bench: Bench) -> None:
    async def main() -> None:
        seen: list[str] = []
        async with EventBus() as bus:

            def handler(event: Event) -> None:
                n = event.payload["n"]
                seen.append(f"outer {n}")
                bus.publish("b", {"n": n})
                inner = bus.subscribe(
                    "c", lambda _event: seen.append(f"inner {n}"), run_in="inline"
                )
                bus.publish("c")
                inner.cancel()
                bus.books()
                bus.explain("a")
                bus.dead_letters.list()
                repr(bus)
                if n == 2:
                    assert outer.cancel() >= 0

            outer = bench.subscribe(bus, "a", handler)
            bus.subscribe("b", lambda event: seen.append(f"next {event.payload['n']}"))
            for n in range(3):
                await bus.publish("a", {"n": n})
            await bus.drain()
            await bus.publish("a", {"n": 3})
            await bus.drain()
        assert sorted(seen) == sorted(
            f"{what} {n}" for what in ("outer", "inner", "next") for n in range(3)
        )
        assert bus.books().balanced

    run(main())


def test_a_handler_may_feed_itself(run: Any, bench: Bench) -> None:
    async def main() -> None:
        seen: list[int] = []
        async with EventBus() as bus:

            def handler(event: Event) -> None:
                seen.append(event.payload["n"])
                if event.payload["n"]:
                    bus.publish("a", {"n": event.payload["n"] - 1})

            bench.subscribe(bus, "a", handler)
            await bus.publish("a", {"n": 50})
            await bus.drain()
            assert seen == list(range(50, -1, -1))

    run(main())


def test_a_handler_may_close_its_bus(run: Any) -> None:
    async def main() -> None:
        bus = EventBus()
        closed = asyncio.Event()

        async def handler(_event: Event) -> None:
            await bus.close(0)
            closed.set()

        bus.subscribe("a", handler)
        await bus.publish("a")
        await closed.wait()
        await asyncio.sleep(0)
        assert bus.closed
        assert bus.books().balanced

    run(main())


# --- the breaker


def test_an_open_breaker_pauses_and_burns_nothing() -> None:
    clock = Clock.simulated()
    broken = True
    seen: list[int] = []
    states: list[str] = []

    def handler(event: Event) -> None:
        if broken:
            raise ConnectionError("down")
        seen.append(event.payload["n"])

    def advance(seconds: float) -> None:
        until = clock.nanos() + int(seconds * 1e9)
        while clock.step(until):
            pass

    with EventBus(clock=clock) as bus:
        bus.subscribe(
            "system.circuit_breaker.*", lambda event: states.append(event.payload["state"])
        )
        subscription = bus.subscribe("a", handler, retry=False, name="mine")
        for n in range(20):
            bus.publish("a", {"n": n})
        while not states:
            pass
        for _ in range(1000):
            assert subscription.queued == 15
        assert len(bus.dead_letters) == 5  # the threshold, and none for the open time
        broken = False
        advance(30)
        bus.drain_sync(GUARD)
        assert seen == list(range(5, 20))
        assert states == ["open", "closed"]
        assert bus.books()["mine"].dead_lettered == 5
