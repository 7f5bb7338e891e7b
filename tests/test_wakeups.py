"""Events from other threads are handled in the callback that brings them, as in a task."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from conftest import FAST, GUARD
from tiebeam import Event, EventBus
from tiebeam.exceptions import RequestFault

uvloop = pytest.importorskip("uvloop")

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def drive(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine to its end on a loop of one kind or the other."""

    def drive(main: Coroutine[Any, Any, Any]) -> Any:
        loop = request.param()
        try:
            return loop.run_until_complete(asyncio.wait_for(main, GUARD))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    return drive


async def elsewhere(function: Callable[[], Any]) -> Any:
    """What ``function`` returns on another thread, while this loop sleeps."""
    return await asyncio.get_running_loop().run_in_executor(None, function)


async def warm(bus: EventBus) -> None:
    """Has a driver sleep, which is there for whatever comes first."""

    async def nothing(_event: Event) -> None: ...

    bus.subscribe("warm", nothing)
    await bus.publish("warm")
    await bus.drain()


def test_a_handler_finds_a_task_of_its_own(drive: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:
            await warm(bus)
            me = asyncio.current_task()
            tasks: list[asyncio.Task[Any] | None] = []
            seen: list[int] = []

            async def handler(event: Event) -> None:
                assert asyncio.get_running_loop().is_running()
                tasks.append(asyncio.current_task())
                seen.append(event.payload["n"])

            bus.subscribe("a", handler)
            for n in range(5):
                await elsewhere(lambda n=n: bus.publish("a", {"n": n}).wait(GUARD))
            await bus.drain()
            assert seen == list(range(5))
            assert None not in tasks
            assert me not in tasks
            assert asyncio.current_task() is me

    drive(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is new in 3.11")
def test_what_waits_goes_on_in_that_task(drive: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:
            await warm(bus)
            outcomes: list[Any] = []

            async def handler(event: Event) -> None:
                task = asyncio.current_task()
                try:
                    async with asyncio.timeout(0.001 if event.payload["n"] % 2 else GUARD):
                        await (asyncio.Event().wait() if event.payload["n"] % 2 else short())
                    outcomes.append("in time")
                except TimeoutError:
                    outcomes.append("timeout")
                assert asyncio.current_task() is task

            async def short() -> None:
                await asyncio.sleep(0)

            bus.subscribe("a", handler)
            for n in range(4):
                await elsewhere(lambda n=n: bus.publish("a", {"n": n}))
            await bus.drain()
            assert outcomes == ["in time", "timeout"] * 2
            assert bus.books().balanced

    drive(main())


@pytest.mark.parametrize("waits", [False, True])
def test_a_handler_that_cancels_its_task_hits_nobody_else(drive: Any, waits: bool) -> None:
    async def main() -> None:
        async with EventBus() as bus:
            await warm(bus)
            seen: list[Any] = []

            async def handler(event: Event) -> None:
                task = asyncio.current_task()
                assert task is not None
                if event.payload["n"] == 1:
                    task.cancel()
                    if waits:
                        await asyncio.sleep(0)
                seen.append(event.payload["n"])

            async def fallback(event: Event, *_: object) -> None:
                seen.append(("fallback", event.payload["n"]))

            bus.subscribe("a", handler, fallback=fallback, retry=FAST)

            def publish() -> None:
                for n in range(4):
                    bus.publish("a", {"n": n})

            await elsewhere(publish)
            await bus.drain()
            second = ("fallback", 1) if waits else 1
            assert seen == [0, second, 2, 3]
            assert bus.books().total.dead_lettered == 0

    drive(main())


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("kind", LOOPS, ids=["asyncio", "uvloop"])
def test_what_nobody_may_swallow_ends_the_loop(error: BaseException, kind: Any) -> None:
    bus = EventBus()
    loop = kind()
    handled: list[int] = []

    async def handler(event: Event) -> None:
        if event.payload["n"] == 0:
            raise error
        handled.append(event.payload["n"])

    async def begin() -> None:
        await warm(bus)
        bus.subscribe("a", handler, retry=FAST)

    loop.run_until_complete(begin())

    def publish() -> None:
        bus.publish("a", {"n": 0})
        bus.publish("a", {"n": 1})

    thread = threading.Thread(target=publish)
    loop.call_soon(thread.start)
    with pytest.raises(type(error)):
        loop.run_forever()
    thread.join(GUARD)
    (letter,) = bus.dead_letters.list()
    assert letter.error_type == type(error).__name__
    # The loop can go on, and nothing else was lost.
    loop.run_until_complete(asyncio.wait_for(bus.drain(), GUARD))
    assert handled == [1]
    loop.run_until_complete(bus.close(0))
    loop.close()
    assert bus.books().balanced


def test_a_long_row_of_events_leaves_the_loop_its_turns(drive: Any) -> None:
    async def main() -> None:
        async with EventBus(capacity=5_000) as bus:
            await warm(bus)
            turns_at: list[int] = []
            turns = 0
            going = True

            def tick() -> None:
                nonlocal turns
                turns += 1
                if going:
                    asyncio.get_running_loop().call_soon(tick)

            async def handler(_event: Event) -> None:
                turns_at.append(turns)

            bus.subscribe("a", handler)

            def publish() -> None:
                for _ in range(3_000):
                    bus.publish("a")

            tick()
            await elsewhere(publish)
            await bus.drain()
            going = False
            assert len(turns_at) == 3_000
            # No turn of the loop is held up by more than two slices of handlers: one where they
            # were brought, and one in the task that goes on with them.
            most = max(turns_at.count(turn) for turn in set(turns_at))
            assert most <= 2 * 512

    drive(main())


def test_handlers_publish_and_ask_in_the_middle_of_it(drive: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:
            await warm(bus)
            done = asyncio.Event()
            replies: list[Any] = []

            async def answer(event: Event) -> int:
                if event.payload["waits"]:
                    await asyncio.sleep(0)
                return int(event.payload["n"]) + 1

            async def second(event: Event) -> None:
                replies.append(event.payload["reply"])
                if len(replies) == 4:
                    done.set()

            async def first(event: Event) -> None:
                task = asyncio.current_task()
                reply: Awaitable[Any] = bus.request("q", event.payload)
                await bus.publish("b", {"reply": await reply})
                assert asyncio.current_task() is task

            bus.respond("q", answer)
            bus.subscribe("b", second)
            bus.subscribe("a", first)
            for n in range(4):
                event = {"n": n, "waits": n % 2 == 1}
                await elsewhere(lambda event=event: bus.publish("a", event))
            await done.wait()
            await bus.drain()
            assert replies == [1, 2, 3, 4]

    drive(main())


ORIGINS = ["here", "thread", "request"]


async def bring(bus: EventBus, origin: str) -> Any:
    """An event for the handler of ``a``, from one place or another."""
    if origin == "here":
        await bus.publish("a")
    elif origin == "thread":
        await elsewhere(lambda: bus.publish("a"))
    else:
        with pytest.raises(RequestFault):
            await bus.request("q")


@pytest.mark.parametrize("origin", ORIGINS)
def test_what_a_cancelled_handler_awaits_is_cancelled_with_it(drive: Any, origin: str) -> None:
    async def main() -> None:
        async with EventBus() as bus:
            await warm(bus)
            seen: list[str] = []
            begun = asyncio.Event()

            async def child() -> None:
                begun.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    seen.append("child")
                    raise

            async def handler(_event: Event) -> None:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                try:
                    await started
                except asyncio.CancelledError:
                    seen.append("handler")
                    raise

            bus.subscribe("a", handler)
            bus.respond("q", handler)
            started = asyncio.ensure_future(child())
            await begun.wait()
            await bring(bus, origin)
            await bus.drain()
            assert seen == ["child", "handler"]
            assert started.cancelled()

    drive(main())


@pytest.mark.parametrize("origin", ["here", "thread"])
def test_the_last_handler_leaves_no_task(drive: Any, origin: str) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        held: dict[str, Any] = {"bus": EventBus()}
        done = asyncio.Event()

        async def handler(_event: Event) -> None:
            held["subscription"].cancel()
            held.clear()
            done.set()

        bus = held["bus"]
        await warm(bus)
        held["subscription"] = bus.subscribe("a", handler)
        if origin == "here":
            await bus.publish("a")
        else:
            await elsewhere(lambda: held["bus"].publish("a"))
        await done.wait()
        await bus.close(0)
        del bus
        for _ in range(100):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == before

    drive(main())


@pytest.mark.parametrize("origin", ["here", "request"])
def test_nobody_is_kept_by_a_task_that_it_happened_to_start(drive: Any, origin: str) -> None:
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")

    class Thing: ...

    async def main() -> None:
        async with EventBus() as bus:

            async def handler(_event: Event) -> None:
                return None

            bus.subscribe("a", handler)
            bus.respond("q", handler)

            async def starts() -> weakref.ref[Thing]:
                thing = Thing()
                variable.set(thing)
                await (bus.publish("a") if origin == "here" else bus.request("q"))
                return weakref.ref(thing)

            kept = await asyncio.ensure_future(starts())
            await bus.drain()
            await asyncio.sleep(0)
            gc.collect()
            assert kept() is None

    drive(main())
