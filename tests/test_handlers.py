"""Handlers: sync, async and inline; retries, fallbacks, time limits, isolation, contexts."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import sys
import threading
from typing import Any

import pytest
from conftest import FAST, GUARD, Gate
from tiebeam import Event, EventBus
from tiebeam._core import Clock
from tiebeam.exceptions import PermanentError, TransientError

if sys.version_info < (3, 11):
    BaseExceptionGroup = ExceptionGroup = None  # the tests that need them are skipped

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

PLACES = ["thread", "inline", "loop", "async"]


class Bench:
    """A bus whose handlers run in one of the four places; ``go`` publishes and drains."""

    def __init__(self, place: str) -> None:
        self.place = place

    def subscribe(self, bus: EventBus, pattern: str, function: Any, **how: Any) -> Any:
        if self.place != "async":
            return bus.subscribe(pattern, function, run_in=self.place, **how)

        async def handler(event: Event) -> Any:
            await asyncio.sleep(0)
            return function(event)

        return bus.subscribe(pattern, handler, **how)


@pytest.fixture(params=PLACES)
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


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


# --- the rows of BaseException


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


# --- signatures


class Callable:
    def __call__(self, event: Event) -> None: ...


class AsyncCallable:
    def __init__(self) -> None:
        self.seen: list[Event] = []

    async def __call__(self, event: Event) -> None:
        await asyncio.sleep(0)
        self.seen.append(event)


def no_argument() -> None: ...


def two_arguments(a: Any, b: Any) -> None: ...


def keyword_needed(event: Any, *, option: Any) -> None: ...


def generator(event: Any) -> Any:
    yield event


async def async_generator(event: Any) -> Any:
    yield event


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (None, "callable"),
        (3, "callable, got int"),
        ("handler", "callable, got str"),
        (no_argument, r"one argument, the event; its signature is \(\)"),
        (two_arguments, "one argument"),
        (keyword_needed, "one argument"),
        (Callable.__call__, "one argument"),
        (generator, "generator"),
        (async_generator, "generator"),
    ],
)
def test_handlers_that_cannot_work_are_refused(bus: EventBus, handler: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        bus._subscribe("a", handler)
    with pytest.raises(TypeError, match="fallback"):
        bus.subscribe("a", print, fallback=handler or 1)
    assert bus.subscriptions == []


@pytest.mark.parametrize("place", ["thread", "inline"])
def test_async_handlers_need_a_loop(bus: EventBus, place: str) -> None:
    async def handler(event: Event) -> None: ...

    with pytest.raises(ValueError, match="async handler runs on an event loop"):
        bus.subscribe("a", handler, run_in=place)


def test_callables_of_all_kinds(run: Any) -> None:
    class Owner:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def method(self, _event: Event) -> None:
            self.seen.append("method")

        async def coroutine(self, _event: Event) -> None:
            self.seen.append("coroutine")

        @classmethod
        def of_class(cls, event: Event) -> None: ...

        @staticmethod
        def static(event: Event, default: int = 1) -> None: ...

    async def with_option(event: Event, seen: list[str]) -> None:
        seen.append("partial")

    async def main() -> None:
        owner, instance = Owner(), AsyncCallable()
        async with EventBus() as bus:
            for handler in (
                owner.method, owner.coroutine, Owner.of_class, owner.static, Callable(), instance,
                functools.partial(with_option, seen=owner.seen), print, lambda *args: None, len,
            ):  # fmt: skip
                bus.subscribe("a", handler, retry=False, name="x")
            await bus.publish("a")
            await bus.drain()
            assert sorted(owner.seen) == ["coroutine", "method", "partial"]
            assert len(instance.seen) == 1
            assert [letter.error_type for letter in bus.dead_letters.list()] == ["TypeError"]  # len

    run(main())


def test_a_function_that_returns_a_coroutine_is_told_so(bus: EventBus) -> None:
    async def work(event: Event) -> None: ...

    bus.subscribe("a", lambda event: work(event))
    bus.publish("a")
    bus.drain_sync(GUARD)
    (letter,) = bus.dead_letters.list()
    assert "async def" in letter.message


def test_names_are_for_people(bus: EventBus) -> None:
    class Owner:
        def on_price(self, event: Event) -> None: ...

    assert bus.subscribe("a", Owner().on_price).name == "Owner.on_price"
    assert bus.subscribe("a", Callable()).name == "Callable"
    assert bus.subscribe("a", lambda event: None).name == "<lambda>"
    assert bus.subscribe("a", print, name="mine").name == "mine"


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
