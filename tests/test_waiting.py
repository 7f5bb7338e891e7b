"""Events for the code that waits for them: ``wait_for``, ``once``, ``stream``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from typing import Any

import pytest
from conftest import FAST, GUARD, Gate
from tiebeam import Component, Event, EventBus
from tiebeam.exceptions import (
    ClosedError,
    ConfigurationError,
    TimeoutExceeded,
    TopicError,
    WouldDeadlock,
)
from tiebeam.testing import TestBus, TestFramework
from tiebeam.testing import run as virtually

# -- wait_for -----------------------------------------------------------------------------


def test_an_event_between_the_call_and_the_await_is_not_missed() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            wait = bus.wait_for("order.*", where={"payload.n": 2})
            for n in (1, 2, 3, 2):
                bus.publish("order.placed", {"n": n})
            event = await wait
            assert (event.event_type, event.payload) == ("order.placed", {"n": 2})
            assert bus.subscriptions == []
            assert bus.books().balanced
            assert bus.books().total.dropped == 0

    virtually(main())


def test_a_wait_is_over_with_its_event_although_nobody_awaits_it(bus: EventBus) -> None:
    wait = bus.wait_for("x")
    assert "waiting" in repr(wait)
    bus.publish("x", {"n": 1})
    assert bus.subscriptions == []
    assert "done" in repr(wait)
    bus.publish("x", {"n": 2})
    assert wait.wait(GUARD).payload == {"n": 1}
    with pytest.raises(RuntimeError, match="the wait for `x` was awaited already"):
        wait.wait()


def test_the_time_limit_names_the_pattern() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            wait = bus.wait_for("order.#", where="payload.n > 1", timeout=5)
            await bus.advance(4.9)
            assert "waiting" in repr(wait)
            await bus.advance(0.1)
            assert bus.subscriptions == []
            with pytest.raises(TimeoutExceeded, match=r"`order\.#` that `where` accepts.* 5s") as e:
                await wait
            assert isinstance(e.value, TimeoutError)
            assert e.value.context["pattern"] == "order.#"

    virtually(main())


@pytest.mark.parametrize("how", ["cancel", "cancelled await", "garbage"])
def test_giving_up_a_wait_leaves_nothing_behind(how: str) -> None:
    async def main() -> None:
        async with TestBus() as bus:
            wait: Any = bus.wait_for("x", timeout=10)
            assert len(bus.subscriptions) == 1
            if how == "cancel":
                wait.cancel()
                wait.cancel()
            elif how == "garbage":
                del wait
            else:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(wait, 1)
            assert bus.subscriptions == []
            bus.publish("x")
            assert bus.books().balanced

    virtually(main())


def test_the_end_of_a_bus_ends_a_wait(run: Any) -> None:
    async def main() -> None:
        bus = EventBus()
        wait = bus.wait_for("x")
        await bus.close()
        with pytest.raises(ClosedError, match="`x`"):
            await wait
        with pytest.raises(ClosedError):
            bus.wait_for("x")

    run(main())


def test_a_thread_waits_and_a_loops_thread_must_not(bus: EventBus) -> None:
    wait = bus.wait_for("x")
    threading.Timer(0.0, bus.publish, ("x", {"n": 1})).start()
    assert wait.wait(GUARD).payload == {"n": 1}
    with pytest.raises(TimeoutExceeded):
        bus.wait_for("x").wait(0.001)

    async def main() -> None:
        with pytest.raises(WouldDeadlock, match="`await`"):
            bus.wait_for("x").wait()

    asyncio.run(main())
    assert bus.subscriptions == []


def test_bad_patterns_and_conditions_are_refused_at_once(bus: EventBus) -> None:
    for ask in (bus.wait_for, bus.stream, bus.once):
        with pytest.raises(TopicError):
            ask("a..b", *([print] if ask == bus.once else []))
    for ask in (bus.wait_for, bus.stream):
        with pytest.raises(ConfigurationError):
            ask("a", where="payload.x >")
        with pytest.raises(TypeError, match="a class that has an event type"):
            ask(int)
    with pytest.raises(ConfigurationError, match="capacity"):
        bus.stream("a", capacity=0)
    with pytest.raises(ValueError, match="drop_oldest"):
        bus.stream("a", overflow="drop_old")  # type: ignore[arg-type]
    assert bus.subscriptions == []


# -- once ---------------------------------------------------------------------------------


def test_once_is_once_whatever_the_place(run: Any, bench: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:
            seen: list[Any] = []
            made = bench.subscribe(_Once(bus), "x", lambda event: seen.append(event.payload["n"]))
            for n in range(20):
                bus.publish("x", {"n": n})
            await bus.drain()
            assert seen == [0]
            assert made.status == "cancelled"
            assert bus.subscriptions == []
            assert bus.books().total.published == 1
            assert bus.books().balanced

    run(main())


class _Once:
    def __init__(self, bus: EventBus) -> None:
        self.subscribe = bus.once


def test_once_under_a_storm_of_publishers(bus: EventBus) -> None:
    for _ in range(50):
        seen: list[Event] = []
        bus.once("x", seen.append)
        threads = [threading.Thread(target=bus.publish, args=("x",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bus.drain_sync(GUARD)
        assert len(seen) == 1


def test_once_keeps_to_its_event_when_the_handler_fails(bus: EventBus) -> None:
    seen: list[int] = []

    @bus.once("x", retry=FAST, where="payload.n > 0")
    def handler(event: Event) -> None:
        seen.append(event.payload["n"])
        if len(seen) < 3:
            raise ConnectionError

    for n in range(4):
        bus.publish("x", {"n": n})
    bus.drain_sync(GUARD)
    assert seen == [1, 1, 1]


def test_once_can_be_cancelled(bus: EventBus) -> None:
    made = bus.once("x", print)
    assert made.status == "active"
    assert made.cancel() == 0
    bus.publish("x")
    assert bus.books().total.published == 0


# -- stream -------------------------------------------------------------------------------


def test_a_stream_begins_with_the_call_and_ends_with_the_loop() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            stream = bus.stream("x.*", where="payload.n != 1")
            for n in range(4):
                bus.publish("x.y", {"n": n})
            assert stream.queued == 3
            seen = []
            async for event in stream:
                seen.append(event.payload["n"])
                if event.payload["n"] == 2:
                    break
            assert seen == [0, 2]
            assert stream.status == "active"  # it is held here
            async for event in stream:
                assert event.payload["n"] == 3
                break
            del stream
            assert bus.subscriptions == []
            async for _ in _publishing(bus):
                break
            assert bus.subscriptions == []  # nobody held that one

    def _publishing(bus: EventBus) -> Any:
        stream = bus.stream("x")
        bus.publish("x")
        return stream

    virtually(main())


def test_an_event_is_settled_when_the_next_one_is_asked_for() -> None:
    async def main() -> None:
        async with TestBus() as bus, bus.stream("x", name="mine") as stream:
            for n in range(3):
                bus.publish("x", {"n": n})
            async for event in stream:
                books = bus.books()["mine"]
                assert books.delivered == event.payload["n"]
                assert books.in_flight == 3 - event.payload["n"]
                if event.payload["n"] == 1:
                    break
        total = bus.books().total
        assert (total.dropped, total.in_flight) == (1, 0)
        assert bus.books().balanced

    virtually(main())


async def _fail(stream: Any) -> None:
    async with stream:
        async for _ in stream:
            raise KeyError


def test_an_exception_that_leaves_the_block_leaves_its_event_dropped() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            stream = bus.stream("x")
            bus.publish("x")
            with pytest.raises(KeyError):
                await _fail(stream)
            assert stream.status == "cancelled"
            assert bus.books().total.dropped == 1
            assert bus.books().balanced

    virtually(main())


def test_a_slow_loop_holds_its_publishers_back() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            seen: list[int] = []

            async def publish() -> None:
                for n in range(6):
                    await bus.publish("x", {"n": n})
                    log.append(n)

            log: list[int] = []
            stream = bus.stream("x", capacity=2)
            publisher = asyncio.ensure_future(publish())
            await bus.settle()
            assert log == [0, 1]
            async for event in stream:
                await bus.settle()
                seen.append(event.payload["n"])
                assert max(log) <= event.payload["n"] + 2
                if len(seen) == 6:
                    break
            await publisher
            assert seen == list(range(6))

    virtually(main())


def test_a_stream_ends_with_its_bus_after_what_waits_was_read() -> None:
    async def main() -> None:
        bus = TestBus()
        stream = bus.stream("x")
        for n in range(3):
            bus.publish("x", {"n": n})

        async def read() -> list[int]:
            return [event.payload["n"] async for event in stream]

        reader = asyncio.ensure_future(read())
        assert await bus.close() == []
        assert await reader == [0, 1, 2]
        assert [event async for event in stream] == []

    virtually(main())


async def _give_up(task: asyncio.Future[Any]) -> None:
    """In a task of its own: the exception, and the frames that it holds, end with that."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("how", ["cancel", "task", "collect"])
def test_a_stream_that_waits_can_be_ended(how: str) -> None:
    async def main() -> None:
        async with TestBus() as bus:
            stream: Any = bus.stream("x")

            async def read(stream: Any) -> list[Event]:
                return [event async for event in stream]

            reader = asyncio.ensure_future(read(stream))
            await bus.settle()
            if how == "cancel":
                stream.cancel()
                assert await reader == []
            else:
                if how == "collect":
                    del stream
                await asyncio.ensure_future(_give_up(reader))
                del reader
                gc.collect()
                if how == "task":
                    assert stream.status == "active"
                    bus.publish("x")
                    event = await anext(stream)  # who was cancelled took nothing along
                    assert event.event_type == "x"
                    del stream
            assert bus.subscriptions == []

    virtually(main())


def test_one_loop_for_one_stream(run: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus, bus.stream("x") as stream:
            first = asyncio.ensure_future(_next(stream))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="one stream for each loop"):
                await anext(stream)
            bus.publish("x")
            await first

    async def _next(stream: Any) -> Any:
        return await anext(stream)

    run(main())


def test_what_the_body_of_the_loop_publishes_has_its_lineage() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            stream = bus.stream("order.*")
            first = bus.publish("order.placed", correlation_id="chain")
            second = bus.publish("order.placed")
            async for event in stream:
                await bus.publish("audit.order")
                if event.event_id == second.event_id:
                    break
            del stream
            bus.publish("audit.end")
            by_first, by_second = bus.published("audit.order")
            assert (by_first.correlation_id, by_first.causation_id) == ("chain", first.event_id)
            assert by_second.causation_id == second.event_id
            assert bus.published("audit.end")[0].causation_id is None

    virtually(main())


def test_a_loop_in_a_plain_thread(bus: EventBus, gate: Gate) -> None:
    seen: list[int] = []
    stream = bus.stream("x")

    def read() -> None:
        with stream:
            for event in stream:
                seen.append(event.payload["n"])
                if event.payload["n"] == 2:
                    gate.pass_through()

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(3):
        bus.publish("x", {"n": n})
    gate.wait_entered()
    gate.open()
    bus.drain_sync(GUARD)
    stream.cancel()
    reader.join(GUARD)
    assert seen == [0, 1, 2]

    async def main() -> None:
        with pytest.raises(WouldDeadlock, match="async for"):
            next(bus.stream("x"))

    asyncio.run(main())


# -- components ---------------------------------------------------------------------------


def test_what_a_component_waits_for_ends_with_it() -> None:
    class Reader(Component):
        def __init__(self) -> None:
            self.seen: list[int] = []
            self.end = ""

        async def start(self) -> None:
            self.task = asyncio.ensure_future(self.read())
            self.waiter = asyncio.ensure_future(self.wait())

        async def read(self) -> None:
            async for event in self.bus.stream("x.y"):
                await asyncio.sleep(1)
                self.seen.append(event.payload["n"])

        async def wait(self) -> None:
            try:
                await self.bus.wait_for("never.comes")
            except ClosedError:
                self.end = "told"

        async def stop(self) -> None:
            await self.task
            await self.waiter

    async def main() -> None:
        reader = Reader()
        async with TestFramework(components=[reader]) as framework:
            await framework.settle()
            assert framework.bus.subscriptions[-1].startswith("reader.")
            for n in range(3):
                framework.bus.publish("x.y", {"n": n})
        assert framework.stop_report["failed"] == []
        assert reader.seen == [0, 1, 2]  # what waited was worked off
        assert reader.end == "told"

    virtually(main())
