"""Every call that blocks, on the thread whose event loop must do what it waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import Event, EventBus, WouldDeadlock

CALLS: dict[str, Callable[[EventBus], Any]] = {
    "publish": lambda bus: bus.publish("full").wait(),
    "request": lambda bus: bus.request("ask").wait(),
    "request many": lambda bus: bus.request("ask", n=1).wait(),
    "wait_for": lambda bus: bus.wait_for("never").wait(),
    "stream": lambda bus: next(iter(bus.stream("never"))),
    "drain": lambda bus: bus.drain_sync(),
    "close": lambda bus: bus.close_sync(),
}


def in_a_thread(main: Callable[[], None]) -> None:
    """So that a call that blocks its loop for ever is a failure, and not the end of the tests."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            main()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(GUARD)
    assert not thread.is_alive(), "the call blocks the loop that it waits for"
    for error in errors:
        raise error


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_it_is_refused_and_says_what_to_do(call: Callable[[EventBus], Any]) -> None:
    async def main() -> None:
        door = asyncio.Event()

        async def waits(_event: Event) -> None:
            await door.wait()

        async with EventBus() as bus:
            bus.subscribe("full", waits, capacity=1)
            bus.respond("ask", waits)
            for _ in range(2):  # one is handled, one fills the mailbox
                await bus.publish("full")
                await asyncio.sleep(0)
            with pytest.raises(WouldDeadlock, match=r"`await|async (for|with)"):
                call(bus)
            door.set()
            await bus.drain()
            assert bus.books().balanced
            assert not bus.closed, "what was refused has not begun"

    in_a_thread(lambda: asyncio.run(main()))


def test_from_another_thread_each_of_them_waits() -> None:
    async def main() -> None:
        async def handler(event: Event) -> Any:
            await asyncio.sleep(0)
            return event.payload

        async with EventBus() as bus:
            bus.subscribe("a", handler, capacity=1)
            bus.respond("ask", handler)

            def blocking() -> None:
                for _ in range(10):
                    bus.publish("a").wait(GUARD)
                assert bus.request("ask", {"x": 1}).wait(GUARD) == {"x": 1}
                assert bus.request("ask", {"x": 1}, n=1).wait(GUARD) == [{"x": 1}]
                bus.drain_sync(GUARD)

            await asyncio.to_thread(blocking)
            assert await asyncio.to_thread(bus.close_sync) == []
            assert bus.books().total.delivered == 12

    in_a_thread(lambda: asyncio.run(main()))


def test_where_nothing_needs_the_loop_nothing_is_refused() -> None:
    async def main() -> None:
        bus = EventBus()
        seen: list[Event] = []
        bus.subscribe("thread", seen.append)
        bus.subscribe("inline", seen.append, run_in="inline")
        bus.subscribe("loop", seen.append, run_in="loop")  # idle: it is waited for by nobody
        for event_type in ("thread", "inline"):
            bus.publish(event_type).wait()
        bus.drain_sync(GUARD)
        assert len(seen) == 2
        assert bus.close_sync() == []

    in_a_thread(lambda: asyncio.run(main()))


def test_a_handler_that_outlives_its_subscription_is_waited_for_as_well() -> None:
    async def main() -> None:
        door = asyncio.Event()

        async def waits(_event: Event) -> None:
            await door.wait()

        async with EventBus() as bus:
            subscription = bus.subscribe("a", waits)
            await bus.publish("a")
            await asyncio.sleep(0)
            subscription.cancel()
            with pytest.raises(WouldDeadlock, match=r"await bus\.drain\(\)"):
                bus.drain_sync()
            door.set()

    in_a_thread(lambda: asyncio.run(main()))
