"""A handler has a task and a context of its own; lineage is inherited through both."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import sys
import threading
from typing import Any

import pytest
from conftest import GUARD, Bench
from tiebeam import Event, EventBus

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


# --- a task of its own


def test_a_handler_sees_a_task_and_its_cancellation_stays_its_own(run: Any) -> None:
    async def main() -> None:
        outcomes: list[str] = []

        async def handler(event: Event) -> None:
            task = asyncio.current_task()
            assert task is not None
            match event.payload["n"]:
                case 0:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(0)
                    outcomes.append("suppressed")
                case 1:
                    task.cancel()
                    await asyncio.sleep(0)
                case 2:
                    task.cancel()  # and ends before it takes effect
                    outcomes.append("ended")
                case _:
                    await asyncio.sleep(0)
                    outcomes.append("untouched")

        async with EventBus() as bus:
            bus.subscribe("a", handler)
            for n in range(5):
                await bus.publish("a", {"n": n})
            await bus.drain()
            assert outcomes == ["suppressed", "ended", "untouched", "untouched"]
            (letter,) = bus.dead_letters.list()
            assert letter.event.payload == {"n": 1}

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is new in 3.11")
def test_timeouts_and_task_groups_inside_handlers(run: Any) -> None:
    async def main() -> None:
        outcomes: list[Any] = []

        async def handler(event: Event) -> None:
            try:
                async with asyncio.timeout(0.001 if event.payload["n"] % 2 else GUARD):
                    if event.payload["n"] % 2:
                        await asyncio.Event().wait()
                    async with asyncio.TaskGroup() as group:
                        tasks = [group.create_task(asyncio.sleep(0, n)) for n in range(3)]
                    outcomes.append([task.result() for task in tasks])
            except TimeoutError:
                outcomes.append("timeout")
            await asyncio.sleep(0)

        async with EventBus() as bus:
            bus.subscribe("a", handler)
            for n in range(6):
                await bus.publish("a", {"n": n})
            await bus.drain()
            assert outcomes == [[0, 1, 2], "timeout"] * 3
            assert bus.books().total.delivered == 6

    run(main())


def test_concurrent_handlers_have_different_tasks(run: Any) -> None:
    async def main() -> None:
        tasks: set[Any] = set()
        ready = asyncio.Event()

        async def handler(_event: Event) -> None:
            tasks.add(asyncio.current_task())
            if len(tasks) == 8:
                ready.set()
            await ready.wait()

        async with EventBus() as bus:
            bus.subscribe("a", handler, concurrency=8)
            for _ in range(8):
                await bus.publish("a")
            await bus.drain()
            assert len(tasks) == 8

    run(main())


def test_a_handler_cancelled_from_outside_takes_nobody_along(run: Any) -> None:
    async def main() -> None:
        entered = asyncio.Event()
        seen: list[int] = []
        task: list[asyncio.Task[Any]] = []

        async def handler(event: Event) -> None:
            if event.payload["n"] == 0:
                task.append(asyncio.current_task())  # type: ignore[arg-type]
                entered.set()
                await asyncio.Event().wait()
            seen.append(event.payload["n"])

        async with EventBus() as bus:
            bus.subscribe("a", handler)
            for n in range(3):
                await bus.publish("a", {"n": n})
            await entered.wait()
            task[0].cancel()
            await bus.drain()
            assert seen == [1, 2]
            assert len(bus.dead_letters) == 1

    run(main())


# --- contexts and lineage


def test_contexts_are_isolated_and_inherited(run: Any, bench: Bench) -> None:
    async def main() -> None:
        found: list[str] = []
        VARIABLE.set("subscriber")

        def handler(_event: Event) -> None:
            found.append(VARIABLE.get())
            VARIABLE.set("handler")

        async with EventBus() as bus:
            bench.subscribe(bus, "a", handler)
            VARIABLE.set("publisher")
            for _ in range(3):
                await bus.publish("a")
            await bus.drain()
            assert found == ["subscriber"] * 3
            assert VARIABLE.get() == "publisher"

    run(main())


def test_a_context_lasts_from_one_await_to_the_next(run: Any) -> None:
    async def main() -> None:
        found: list[str] = []

        async def handler(event: Event) -> None:
            mine = f"event {event.payload['n']}"
            VARIABLE.set(mine)
            for _ in range(3):
                await asyncio.sleep(0)
                found.append(VARIABLE.get())
                assert VARIABLE.get() == mine
            assert await asyncio.create_task(child()) == mine

        async def child() -> str:
            return VARIABLE.get()

        async with EventBus() as bus:
            bus.subscribe("a", handler, concurrency=4)
            for n in range(8):
                await bus.publish("a", {"n": n})
            await bus.drain()
            assert bus.books().total.delivered == 8

    run(main())


def test_lineage_is_inherited(run: Any, bench: Bench) -> None:
    async def main() -> None:
        seen: dict[str, Event] = {}

        async with EventBus() as bus:

            def middle(_event: Event) -> None:
                bus.publish("child")

            bench.subscribe(bus, "root", middle)
            bus.subscribe("#", lambda event: seen.__setitem__(event.event_type, event))
            await bus.publish("root", correlation_id="chain", deadline=100)
            await bus.drain()
            await bus.publish("root.2")
            await bus.drain()
        root, child = seen["root"], seen["child"]
        assert child.correlation_id == "chain"
        assert child.causation_id == root.event_id
        assert child.deadline == root.deadline
        assert seen["root.2"].causation_id is None  # nothing was left behind

    run(main())


def test_lineage_goes_through_tasks_and_threads(run: Any) -> None:
    async def main() -> None:
        seen: list[Event] = []
        async with EventBus() as bus:

            async def handler(_event: Event) -> None:
                async def task() -> None:
                    bus.publish("child.task")

                await asyncio.gather(task(), asyncio.create_task(task()))
                await asyncio.to_thread(bus.publish, "child.thread")
                context = contextvars.copy_context()
                thread = threading.Thread(target=context.run, args=(bus.publish, "child.context"))
                thread.start()
                thread.join()
                asyncio.get_running_loop().call_soon(
                    functools.partial(bus.publish, "child.callback")
                )

            bus.subscribe("root", handler)
            bus.subscribe("child.*", seen.append)
            receipt = bus.publish("root")
            await bus.drain()
            await asyncio.sleep(0)
            await bus.drain()
            assert len(seen) == 5
            assert {event.causation_id for event in seen} == {receipt.event_id}
            assert {event.correlation_id for event in seen} == {receipt.event_id}

    run(main())
