"""Deadlines: no handler sees an event that has lost its worth, wherever it waited for its turn."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from tiebeam.testing import TestBus, VirtualLoop, run


def virtual_loop() -> VirtualLoop:
    return cast(VirtualLoop, asyncio.get_running_loop())


def block(loop: VirtualLoop, seconds: float) -> None:
    """Takes its time on the thread that calls it, as code that blocks does."""
    loop.clock.step(loop.clock.nanos() + round(seconds * 1e9))


@pytest.mark.parametrize("place", ["async", "loop", "thread"])
def test_what_expires_behind_a_handler_that_blocks_is_not_handled(place: str) -> None:
    async def main() -> None:
        loop = virtual_loop()
        handled: list[int] = []

        def handler(event: Any) -> None:
            handled.append(event.payload["n"])
            if event.payload["n"] == 1:
                block(loop, 0.002)  # too short for a thread to hand the rest back

        async def async_handler(event: Any) -> None:
            handler(event)

        async with TestBus() as bus:
            if place == "async":
                bus.subscribe("a", async_handler, name="x")
            else:
                bus.subscribe("a", handler, name="x", run_in=cast(Any, place))
            bus.publish("a", {"n": 1})
            bus.publish("a", {"n": 2}, deadline=0.002)
            bus.publish("a", {"n": 3}, deadline=0.003)
            bus.publish("a", {"n": 4})
            await bus.settle()
            books = bus.books()["x"]
            assert handled == [1, 3, 4]
            assert (books.delivered, books.expired, books.dead_lettered) == (3, 1, 0)
            assert books.balanced
            assert not bus.dead_letters.list()

    run(main())


def test_what_expires_behind_a_handler_that_waits_is_not_handled() -> None:
    async def main() -> None:
        handled: list[int] = []

        async def handler(event: Any) -> None:
            handled.append(event.payload["n"])
            await asyncio.sleep(2.0)

        async with TestBus() as bus:
            bus.subscribe("a", handler, name="x")
            bus.publish("a", {"n": 1})
            bus.publish("a", {"n": 2}, deadline=2.0)
            bus.publish("a", {"n": 3}, deadline=2.1)
            await bus.advance(4.0)
            assert handled == [1, 3]
            assert bus.books()["x"].expired == 1

    run(main())


def test_what_is_published_after_the_deadline_that_it_inherits_is_not_handled_inside_that() -> None:
    async def main() -> None:
        loop = virtual_loop()
        handled: list[str] = []

        def late(event: Any) -> None:
            bus.publish("b")
            block(loop, 1.0)
            bus.publish("b")

        async with TestBus() as bus:
            bus.subscribe("a", late, run_in="loop")
            bus.subscribe(
                "b", lambda event: handled.append(event.event_id), name="x", run_in="inline"
            )
            bus.publish("a", deadline=1.0)
            await bus.settle()
            published = [event.event_id for event in bus.published("b")]
            assert (len(published), handled) == (2, published[:1]), "a test sees both"
            books = bus.books()["x"]
            assert (books.delivered, books.expired) == (1, 1)

    run(main())
