"""What waits for a bus to be idle waits for everything, and never for itself."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from tiebeam import Event, EventBus, WouldDeadlock


@pytest.mark.parametrize("how", ["drain", "close"])
def test_a_handler_inside_publish_is_waited_for(how: str) -> None:
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()
    bus = EventBus()

    @bus.subscribe("a", run_in="inline")
    def slow(event: Event) -> None:
        begun.set()
        go.wait(10)
        ended.set()

    publisher = threading.Thread(target=bus.publish, args=("a",))
    publisher.start()
    assert begun.wait(10)
    with pytest.raises(TimeoutError):
        bus.drain_sync(timeout=0.01)
    assert not ended.is_set()
    assert bus.books()["slow"].in_flight == 1
    go.set()
    if how == "drain":
        bus.drain_sync(timeout=10)
    else:
        assert bus.close_sync(10) == []
    assert ended.is_set()
    publisher.join()
    bus.close_sync()
    assert bus.books().total.delivered == 1


def test_no_thread_waits_for_its_own_loop() -> None:
    async def main() -> None:
        bus = EventBus()
        seen: list[Event] = []

        @bus.subscribe("a")
        async def on_a(event: Event) -> None:
            seen.append(event)

        bus.drain_sync()  # nothing is in flight
        bus.publish("a")
        with pytest.raises(WouldDeadlock, match=r"on_a; use `await bus.drain\(\)`"):
            bus.drain_sync()
        with pytest.raises(WouldDeadlock, match=r"`async with`, or `await bus.close\(\)`"):
            bus.close_sync()
        assert not bus.closed
        await bus.drain()
        assert len(seen) == 1
        bus.publish("a")
        assert bus.close_sync(0) == [("on_a", 1)]  # does not wait

    asyncio.run(main())


def test_a_block_in_a_running_loop_says_what_to_write() -> None:
    async def main() -> None:
        async def on_a(event: Event) -> None: ...

        bus = EventBus()
        bus.subscribe("a", on_a)
        with pytest.raises(WouldDeadlock, match="async with"), bus:
            bus.publish("a")
        await bus.close()
        assert bus.books().total.delivered == 1

    asyncio.run(main())


def test_other_threads_may_wait_for_the_loop() -> None:
    async def main() -> None:
        bus = EventBus()
        seen: list[Any] = []

        @bus.subscribe("a")
        async def on_a(event: Event) -> None:
            seen.append(event)

        bus.publish("a")
        await asyncio.to_thread(bus.drain_sync, 10)
        assert len(seen) == 1
        await asyncio.to_thread(bus.close_sync)

    asyncio.run(main())
