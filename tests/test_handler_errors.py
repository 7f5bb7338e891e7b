"""What becomes of whatever a handler may raise."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest
from conftest import FAST, GUARD, Bench
from tiebeam import Event, EventBus

if sys.version_info < (3, 11):
    BaseExceptionGroup = ExceptionGroup = None  # the tests that need them are skipped


class BrokenStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Odd(BaseException):
    pass


@pytest.mark.parametrize("place", ["thread", "inline"])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Odd("odd")])
def test_base_exceptions_in_a_thread_are_shown_and_kept(
    bus: EventBus, unraisable: list[BaseException], error: BaseException, place: str
) -> None:
    def handler(event: Event) -> None:
        if event.payload["n"] == 0:
            raise error

    bus.subscribe("a", handler, run_in=place, retry=FAST)
    bus.publish("a", {"n": 0})
    bus.publish("a", {"n": 1})
    bus.drain_sync(GUARD)
    (letter,) = bus.dead_letters.list()
    assert (letter.error_type, letter.attempts, letter.category) == (
        type(error).__name__,
        1,
        "internal",
    )
    assert unraisable == [error]
    assert bus.books().total.delivered == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["async", "loop"])
@pytest.mark.parametrize("waits", [False, True])
def test_base_exceptions_on_a_loop_end_the_loop(
    error: BaseException, place: str, waits: bool
) -> None:
    bus = EventBus()

    async def handler(_event: Event) -> None:
        if waits:
            await asyncio.sleep(0)
        raise error

    def sync_handler(_event: Event) -> None:
        raise error

    async def main() -> None:
        if place == "async":
            bus.subscribe("a", handler, retry=FAST)
        else:
            bus.subscribe("a", sync_handler, run_in="loop", retry=FAST)
        await bus.publish("a")
        await asyncio.sleep(GUARD)

    with pytest.raises(type(error)):
        asyncio.run(main())
    (letter,) = bus.dead_letters.list()
    assert letter.error_type == type(error).__name__
    assert bus.close_sync(0) == []
    assert bus.books().balanced


def test_cancelled_error_raised_by_a_handler_is_a_failure(run: Any, bench: Bench) -> None:
    async def main() -> None:
        seen: list[int] = []

        def handler(event: Event) -> None:
            if event.payload["n"] == 0:
                raise asyncio.CancelledError("mine")
            seen.append(event.payload["n"])

        async with EventBus() as bus:
            bench.subscribe(bus, "a", handler)
            for n in range(3):
                await bus.publish("a", {"n": n})
            await bus.drain()
            assert seen == [1, 2]
            (letter,) = bus.dead_letters.list()
            assert letter.error_type == "CancelledError"

    run(main())


def test_an_exception_without_a_text(run: Any, bench: Bench) -> None:
    async def main() -> None:
        def handler(_event: Event) -> None:
            raise BrokenStr

        async with EventBus() as bus:
            bench.subscribe(bus, "a", handler, retry=False)
            await bus.publish("a")
            await bus.drain()
            (letter,) = bus.dead_letters.list()
            assert letter.error_type == "BrokenStr"
            assert "could not be formatted" in letter.message

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in 3.11")
def test_exception_groups(bus: EventBus) -> None:
    def handler(_event: Event) -> None:
        raise ExceptionGroup("several", [ValueError("one"), ConnectionError("two")])

    bus.subscribe("a", handler, retry=False)
    bus.publish("a")
    bus.drain_sync(GUARD)
    (letter,) = bus.dead_letters.list()
    assert letter.error_type == "ExceptionGroup"
    assert "two" in (letter.traceback or "")


def test_a_huge_traceback_is_bounded(bus: EventBus) -> None:
    def handler(_event: Event) -> None:
        raise ValueError("é" * 1_000_000)

    bus.subscribe("a", handler)
    bus.publish("a")
    bus.drain_sync(GUARD)
    (letter,) = bus.dead_letters.list()
    assert letter.traceback is not None
    assert len(letter.traceback.encode()) < 17 * 1024


def test_a_failing_inline_handler_never_fails_the_publisher(bus: EventBus) -> None:
    calls: list[int] = []

    def broken(_event: Event) -> None:
        calls.append(threading.get_ident())
        raise ConnectionError("x")

    bus.subscribe("a", broken, run_in="inline", retry=FAST)
    bus.publish("a")
    assert calls[0] == threading.get_ident()
    bus.drain_sync(GUARD)
    assert len(calls) == 3
    assert threading.get_ident() not in calls[1:]  # retries never block the publisher
    assert len(bus.dead_letters) == 1
