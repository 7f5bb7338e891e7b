"""Time limits: who is cancelled, what is raised, and what others' cancellations become."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from conftest import GUARD
from tiebeam import CircuitOpen, ConfigurationError, TimeoutExceeded, testing
from tiebeam._core import Clock
from tiebeam.resilience import (
    Bulkhead,
    CircuitBreaker,
    Decision,
    Fallback,
    Pipeline,
    RateLimiter,
    Retry,
    Timeout,
    listen,
)
from tiebeam.testing import VirtualLoop

groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has none before 3.11")
counted = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="before 3.11, a task does not count who wants it cancelled"
)


@pytest.fixture
def decisions() -> Iterator[list[Decision]]:
    seen: list[Decision] = []
    end = listen(seen.append)
    yield seen
    end()


def now() -> float:
    return asyncio.get_running_loop().time()


def cancelling() -> int:
    """How many want the running task cancelled."""
    task = asyncio.current_task()
    assert task is not None
    return int(getattr(task, "cancelling", lambda: 0)())


@pytest.fixture(params=["call", "block"])
def within(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Awaits something within a limit, as a call or in a block."""

    async def call(limit: Timeout, wait: Callable[[], Awaitable[Any]]) -> Any:
        return await limit.call_async(wait)

    async def block(limit: Timeout, wait: Callable[[], Awaitable[Any]]) -> Any:
        async with limit:
            return await wait()

    return call if request.param == "call" else block


# -- the limit --------------------------------------------------------------------------------


def test_what_takes_too_long_is_cancelled(within: Callable[..., Any]) -> None:
    async def main() -> None:
        ended: list[float] = []

        async def slow() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append(now())

        with pytest.raises(TimeoutExceeded) as caught:
            await within(Timeout(2), slow)
        assert ended == [pytest.approx(2)]
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert caught.value.__cause__.__traceback__ is not None
        assert cancelling() == 0
        await asyncio.sleep(10)  # nothing is left that would cancel this

    testing.run(main())


def test_what_is_in_time_comes_through(within: Callable[..., Any]) -> None:
    async def main() -> None:
        result = object()

        async def quick() -> object:
            await asyncio.sleep(1.999)
            return result

        assert await within(Timeout(2), quick) is result
        await asyncio.sleep(10)
        assert cancelling() == 0

    testing.run(main())


def test_errors_come_through(within: Callable[..., Any]) -> None:
    async def main() -> None:
        error = KeyError("x")

        async def fail() -> None:
            await asyncio.sleep(1)
            raise error

        with pytest.raises(KeyError) as caught:
            await within(Timeout(2), fail)
        assert caught.value is error
        assert error.__cause__ is error.__context__ is None
        await asyncio.sleep(10)

    testing.run(main())


def test_the_error_says_what_took_too_long(decisions: list[Decision]) -> None:
    async def main() -> None:
        @Timeout(timedelta(milliseconds=1500))
        async def price() -> None:
            await asyncio.sleep(3600)

        with pytest.raises(TimeoutExceeded, match=r"price.* 1\.5 s") as caught:
            await price()
        assert caught.value.context["limit"] == "1.5"
        with pytest.raises(TimeoutExceeded, match="exchange") as caught:
            await Timeout(1, "exchange").call(asyncio.sleep, 3600)
        assert caught.value.context["name"] == "exchange"

    testing.run(main())
    assert [d.kind for d in decisions] == ["timeout.exceeded"] * 2
    assert decisions[0].name.endswith("price")
    assert (decisions[1].name, decisions[1].facts) == ("exchange", {"limit": 1.0})


def test_the_time_counts_from_the_beginning() -> None:
    """And not from the first time that the call waits for something."""

    async def main() -> None:
        loop = cast(VirtualLoop, asyncio.get_running_loop())
        begun = now()

        @Timeout(2)
        async def busy() -> None:
            loop.clock.wait(1.5)  # takes its time without letting go
            await asyncio.sleep(1.5)

        with pytest.raises(TimeoutExceeded):
            await busy()
        assert now() - begun == pytest.approx(2)

    testing.run(main())


def test_a_call_that_never_waits_sets_no_timer() -> None:
    async def main() -> None:
        loop = cast(VirtualLoop, asyncio.get_running_loop())

        @Timeout(2)
        async def quick() -> int:
            return 1

        due = loop.clock.next_due()
        for _ in range(100):
            assert await quick() == 1
        assert loop.clock.next_due() == due

    testing.run(main())


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(
    "result",
    [None, (), (1, 2), ((1,),), StopIteration(5), KeyError("x"), asyncio.CancelledError(), [1]],
    ids=repr,
)
def test_any_result_comes_through(result: Any, waits: bool) -> None:
    async def main() -> Any:
        @Timeout(2)
        async def give() -> Any:
            if waits:
                await asyncio.sleep(0)
            return result

        return await give()

    assert testing.run(main()) is result


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "2", None])
def test_what_is_no_limit_is_refused(seconds: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Timeout(seconds)


def test_nothing_is_held_any_more_after_the_call() -> None:
    async def main() -> None:
        class Resource:
            pass

        seen: list[weakref.ref[Resource]] = []

        @Timeout(2)
        async def slow(seconds: float) -> None:
            resource = Resource()
            seen.append(weakref.ref(resource))
            await asyncio.sleep(seconds)

        await slow(1)
        with contextlib.suppress(TimeoutExceeded):
            await slow(3600)
        await asyncio.sleep(0)
        assert [reference() for reference in seen] == [None, None]

    gc.disable()
    try:
        testing.run(main())
    finally:
        gc.enable()


# -- others' cancellations --------------------------------------------------------------------


def test_a_cancellation_from_outside_stays_one(within: Callable[..., Any]) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(within(Timeout(2), lambda: asyncio.sleep(3600)))
        await asyncio.sleep(1)
        task.cancel("by the user")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert now() == pytest.approx(1)
        await asyncio.sleep(10)

    testing.run(main())


def test_after_a_cancellation_the_limit_is_gone(within: Callable[..., Any]) -> None:
    """What cleans up afterwards, outside of the limit, has all the time it needs."""

    async def main() -> None:
        cleaned_up: list[float] = []

        async def work() -> None:
            try:
                await within(Timeout(2), lambda: asyncio.sleep(3600))
            finally:
                await asyncio.sleep(10)
                cleaned_up.append(now())

        task = asyncio.ensure_future(work())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cleaned_up == [pytest.approx(11)]

    testing.run(main())


@counted
@pytest.mark.parametrize("first", ["the limit", "the user"])
def test_a_cancellation_in_the_same_moment_stays_one(
    within: Callable[..., Any], first: str
) -> None:
    async def main() -> None:
        loop = cast(VirtualLoop, asyncio.get_running_loop())
        task = asyncio.ensure_future(within(Timeout(2), lambda: asyncio.sleep(3600)))
        await asyncio.sleep(1)
        wanted: list[int] = []

        def cancel() -> None:
            task.cancel("by the user")
            wanted.append(task.cancelling())  # type: ignore[attr-defined]

        # Time moves on within this step: the limit cancels the task from the loop's next one,
        # and the task goes on in the step after that.
        loop.clock.wait(1)
        if first == "the limit":
            loop.call_soon(loop.call_soon, cancel)
        else:
            loop.call_soon(cancel)
        await asyncio.wait([task])
        assert wanted == [2 if first == "the limit" else 1]
        assert task.cancelled()
        assert task.cancelling() == 1, "the user's wish is still there"  # type: ignore[attr-defined]

    testing.run(main())


def test_a_task_is_cancelled_before_it_began() -> None:
    async def main() -> None:
        task = asyncio.ensure_future(Timeout(2).call(asyncio.sleep, 3600))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    testing.run(main())


def test_a_call_that_cancels_itself_is_not_too_late() -> None:
    async def main() -> None:
        async def give_up() -> None:
            await asyncio.sleep(1)
            raise asyncio.CancelledError("of its own")

        with pytest.raises(asyncio.CancelledError, match="of its own"):
            await Timeout(2).call(give_up)

    testing.run(main())


def test_a_call_that_swallows_the_cancellation_has_its_result(within: Callable[..., Any]) -> None:
    async def main() -> None:
        async def stubborn() -> str:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return "what there was"
            return "all"

        assert await within(Timeout(2), stubborn) == "what there was"
        assert cancelling() == 0
        await asyncio.sleep(10)

    testing.run(main())


def test_a_call_may_take_longer_to_clean_up(within: Callable[..., Any]) -> None:
    async def main() -> None:
        async def tidy() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(5)

        with pytest.raises(TimeoutExceeded):
            await within(Timeout(2), tidy)
        assert now() == pytest.approx(7)
        assert cancelling() == 0

    testing.run(main())


def test_an_error_while_cleaning_up_comes_through(within: Callable[..., Any]) -> None:
    async def main() -> None:
        async def clumsy() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                raise KeyError("while cleaning up")

        with pytest.raises(KeyError, match="while cleaning up") as caught:
            await within(Timeout(2), clumsy)
        assert isinstance(caught.value.__context__, asyncio.CancelledError)
        assert cancelling() == 0

    testing.run(main())


def test_a_cancellation_that_was_raised_anew_is_still_ours(within: Callable[..., Any]) -> None:
    """Code in between that does not pass on the very exception, or its message."""

    async def main() -> None:
        async def translating() -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                raise asyncio.CancelledError from None

        with pytest.raises(TimeoutExceeded):
            await within(Timeout(2), translating)
        assert cancelling() == 0

    testing.run(main())


# -- limits within limits ---------------------------------------------------------------------


@pytest.mark.parametrize(("outer", "inner"), [(1, 2), (2, 1)])
def test_of_two_limits_the_shorter_one_is_exceeded(outer: float, inner: float) -> None:
    async def main() -> None:
        call = Timeout(outer, "outer")(Timeout(inner, "inner")(asyncio.sleep))
        with pytest.raises(TimeoutExceeded) as caught:
            await call(3600)
        assert caught.value.context["name"] == ("outer" if outer < inner else "inner")
        assert now() == pytest.approx(1)
        assert cancelling() == 0

        with pytest.raises(TimeoutExceeded) as caught:
            async with Timeout(outer, "outer"), Timeout(inner, "inner"):
                await asyncio.sleep(3600)
        assert caught.value.context["name"] == ("outer" if outer < inner else "inner")
        assert cancelling() == 0

    testing.run(main())


def test_two_limits_that_pass_in_the_same_moment_are_one_error() -> None:
    async def main() -> None:
        loop = cast(VirtualLoop, asyncio.get_running_loop())

        async def work() -> None:
            await Timeout(2, "outer")(Timeout(2, "inner")(asyncio.sleep))(3600)

        task = asyncio.ensure_future(work())
        await asyncio.sleep(1)
        loop.clock.wait(1)  # both, before the task can do anything
        await asyncio.wait([task])
        assert isinstance(task.exception(), TimeoutExceeded)

    testing.run(main())


def test_a_retry_of_the_inner_one_ends_with_the_outer_one() -> None:
    async def main() -> None:
        attempts = 0

        @Timeout(5, "outer")
        async def work() -> None:
            nonlocal attempts
            while True:
                attempts += 1
                try:
                    await Timeout(2, "inner").call(asyncio.sleep, 3600)
                except TimeoutExceeded:
                    continue

        with pytest.raises(TimeoutExceeded, match="outer"):
            await work()
        assert (attempts, now()) == (3, pytest.approx(5))

    testing.run(main())


@groups
@pytest.mark.parametrize("ours", ["outer", "inner"])
@pytest.mark.parametrize("shorter", ["outer", "inner"])
def test_with_the_limits_of_asyncio_the_right_one_is_raised(ours: str, shorter: str) -> None:
    async def main() -> None:
        outer, inner = (1, 2) if shorter == "outer" else (2, 1)

        async def wait() -> None:
            if ours == "outer":
                async with Timeout(outer), asyncio.timeout(inner):  # type: ignore[attr-defined]
                    await asyncio.sleep(3600)
            else:
                async with asyncio.timeout(outer):  # type: ignore[attr-defined]
                    await Timeout(inner).call(asyncio.sleep, 3600)

        with pytest.raises(TimeoutError) as caught:
            await wait()
        assert isinstance(caught.value, TimeoutExceeded) == (ours == shorter)
        assert now() == pytest.approx(1)
        assert cancelling() == 0

    testing.run(main())


@pytest.mark.parametrize("ours", ["outer", "inner"])
@pytest.mark.parametrize("shorter", ["outer", "inner"])
def test_with_wait_for_the_right_one_is_raised(ours: str, shorter: str) -> None:
    async def main() -> None:
        outer, inner = (1, 2) if shorter == "outer" else (2, 1)

        async def wait() -> None:
            if ours == "outer":
                await Timeout(outer).call(asyncio.wait_for, asyncio.sleep(3600), inner)
            else:
                await asyncio.wait_for(Timeout(inner).call(asyncio.sleep, 3600), outer)

        with pytest.raises((asyncio.TimeoutError, TimeoutError)) as caught:
            await wait()
        assert isinstance(caught.value, TimeoutExceeded) == (ours == shorter)
        assert cancelling() == 0

    testing.run(main())


# -- what a call may wait for -----------------------------------------------------------------


async def _gather() -> None:
    await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(3600))


async def _gather_that_returns_errors() -> None:
    await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(3600), return_exceptions=True)


async def _gather_of_stubborn_ones() -> None:
    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)

    await asyncio.gather(stubborn(), stubborn())


async def _wait() -> None:
    await asyncio.wait([asyncio.ensure_future(asyncio.sleep(3600))])


async def _task() -> None:
    await asyncio.ensure_future(asyncio.sleep(3600))


async def _task_that_translates() -> None:
    async def translating() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise asyncio.CancelledError from None

    await asyncio.ensure_future(translating())


async def _shield() -> None:
    await asyncio.shield(asyncio.sleep(3600))


async def _future() -> None:
    await asyncio.get_running_loop().create_future()


async def _event() -> None:
    await asyncio.Event().wait()


async def _condition() -> None:
    condition = asyncio.Condition()
    async with condition:
        await condition.wait()


async def _queue() -> None:
    await asyncio.Queue[int]().get()


async def _lock() -> None:
    lock = asyncio.Lock()
    async with lock:
        await lock.acquire()


async def _generator() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(3600)

    async for _ in numbers():
        pass


async def _executor() -> None:
    gate = threading.Event()
    try:
        await asyncio.get_running_loop().run_in_executor(None, gate.wait, GUARD)
    finally:
        gate.set()


async def _core() -> None:
    await cast(VirtualLoop, asyncio.get_running_loop()).clock.sleep(3600)


async def _anyio() -> None:
    await anyio.sleep(3600)


async def _anyio_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 3600)
        group.start_soon(anyio.sleep, 3600)


async def _anyio_scope() -> None:
    with anyio.CancelScope():
        await anyio.sleep(3600)


@pytest.mark.parametrize(
    "wait",
    [
        _gather,
        _gather_that_returns_errors,
        _gather_of_stubborn_ones,
        _wait,
        _task,
        _task_that_translates,
        _shield,
        _future,
        _event,
        _condition,
        _queue,
        _lock,
        _generator,
        _executor,
        _core,
        _anyio,
        _anyio_group,
        _anyio_scope,
    ],
    ids=lambda wait: wait.__name__.strip("_"),
)
def test_whatever_a_call_waits_for(
    within: Callable[..., Any], wait: Callable[[], Awaitable[Any]]
) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutExceeded):
            await within(Timeout(2), wait)
        assert now() == pytest.approx(2)
        assert cancelling() == 0
        await asyncio.sleep(1)

    testing.run(main())


@groups
def test_the_tasks_of_a_group_are_cancelled_with_it(within: Callable[..., Any]) -> None:
    async def main() -> None:
        ended = []

        async def child() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append(now())

        async def group() -> None:
            async with asyncio.TaskGroup() as tasks:  # type: ignore[attr-defined]
                tasks.create_task(child())
                tasks.create_task(child())

        with pytest.raises(TimeoutExceeded):
            await within(Timeout(2), group)
        assert ended == [pytest.approx(2)] * 2
        assert cancelling() == 0

    testing.run(main())


@groups
def test_a_limit_inside_a_group_fails_the_group(within: Callable[..., Any]) -> None:
    async def main() -> None:
        async def group() -> None:
            async with asyncio.TaskGroup() as tasks:  # type: ignore[attr-defined]
                tasks.create_task(within(Timeout(2), lambda: asyncio.sleep(3600)))
                tasks.create_task(asyncio.sleep(3600))

        with pytest.raises(ExceptionGroup) as caught:  # type: ignore[name-defined]  # noqa: F821
            await group()
        assert [type(error) for error in caught.value.exceptions] == [TimeoutExceeded]

    testing.run(main())


@pytest.mark.parametrize("shorter", ["outer", "inner"])
def test_inside_a_scope_of_anyio_the_right_one_ends_it(
    within: Callable[..., Any], shorter: str
) -> None:
    async def main() -> None:
        outer, inner = (1, 2) if shorter == "outer" else (2, 1)
        ended = "by the scope"
        with anyio.move_on_after(outer) as scope:
            try:
                await within(Timeout(inner), lambda: anyio.sleep(3600))
            except TimeoutExceeded:
                ended = "by the limit"
        assert ended == ("by the scope" if shorter == "outer" else "by the limit")
        assert scope.cancelled_caught == (shorter == "outer")
        assert now() == pytest.approx(1)
        await anyio.sleep(10)
        assert cancelling() == 0

    testing.run(main())


def test_a_shielded_call_goes_on() -> None:
    async def main() -> None:
        inner = asyncio.ensure_future(asyncio.sleep(10, "done"))
        with pytest.raises(TimeoutExceeded):
            await Timeout(2).call_async(lambda: asyncio.shield(inner))
        assert not inner.done()
        assert await inner == "done"

    testing.run(main())


def test_on_uvloop(run: Callable[..., Any]) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        with pytest.raises(TimeoutExceeded):
            await Timeout(0.01).call(asyncio.sleep, GUARD)
        with pytest.raises(TimeoutExceeded):
            async with Timeout(0.01):
                await asyncio.sleep(GUARD)
        assert cancelling() == 0

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), GUARD))
    finally:
        loop.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks are eager since 3.12")
def test_in_a_task_that_starts_eagerly(run: Callable[..., Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        task = loop.create_task(Timeout(0.01)(asyncio.sleep)(GUARD))
        with pytest.raises(TimeoutExceeded):
            await task
        assert await loop.create_task(Timeout(5)(asyncio.sleep)(0, "quick")) == "quick"

    run(main())


def test_many_limits_at_once_end_each_in_its_time() -> None:
    async def main() -> None:
        limits = [Timeout(seconds) for seconds in (1, 2, 3)]

        async def call(number: int) -> None:
            limit, begun = limits[number % 3], now()
            if number % 2:
                await limit.call(asyncio.sleep, limit.seconds / 2)
                assert now() - begun == pytest.approx(limit.seconds / 2)
            else:
                with pytest.raises(TimeoutExceeded):
                    await limit.call(asyncio.sleep, limit.seconds * 2)
                assert now() - begun == pytest.approx(limit.seconds)

        await asyncio.gather(*(call(number) for number in range(600)))

    testing.run(main())


def test_outside_of_a_task_it_says_what_is_missing() -> None:
    class Suspension:
        def __await__(self) -> Any:
            yield

    async def wait() -> None:
        await Suspension()

    coroutine = Timeout(2)(wait)()
    with pytest.raises(RuntimeError, match="task"):
        coroutine.send(None)


def test_a_coroutine_that_is_never_awaited_says_so() -> None:
    async def wait() -> None:
        await asyncio.sleep(0)

    with pytest.warns(RuntimeWarning, match="never awaited"):
        Timeout(2)(wait)()


# -- blocks -----------------------------------------------------------------------------------


def test_a_sync_block_is_refused() -> None:
    with pytest.raises(TypeError, match="async with"), Timeout(1):
        pytest.fail("it was entered")


def test_a_block_is_over_when_it_is_left() -> None:
    async def main() -> None:
        limit = Timeout(2)
        async with limit:
            await asyncio.sleep(1)
        await asyncio.sleep(10)
        async with limit:
            await asyncio.sleep(1)
        assert cancelling() == 0

    testing.run(main())


def test_one_limit_stands_around_many_blocks_at_once() -> None:
    async def main() -> None:
        limit = Timeout(2)

        async def work(seconds: float) -> str:
            try:
                async with limit:
                    await asyncio.sleep(seconds)
            except TimeoutExceeded:
                return "exceeded"
            return "in time"

        outcomes = await asyncio.gather(*(work(seconds) for seconds in (1, 3, 1.5, 3)))
        assert outcomes == ["in time", "exceeded", "in time", "exceeded"]

    testing.run(main())


def test_blocks_of_generators_end_in_any_order() -> None:
    """Two blocks of one task, of which the first one that was entered is left first."""

    async def main() -> None:
        async def numbers(limit: Timeout) -> AsyncIterator[int]:
            async with limit:
                yield 1
                await asyncio.sleep(0)
                yield 2

        first, second = numbers(Timeout(2)), numbers(Timeout(1000))
        await first.__anext__()
        await second.__anext__()
        await first.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(10)  # past the limit of a block that was left in time
        await second.aclose()  # type: ignore[attr-defined]
        assert cancelling() == 0

    testing.run(main())


# -- sync functions ---------------------------------------------------------------------------

name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")


def test_a_sync_function_runs_on_a_thread_of_its_own() -> None:
    def where() -> int:
        return threading.get_ident()

    assert Timeout(GUARD)(where)() != threading.get_ident()


def test_a_sync_result_comes_through_as_it_is() -> None:
    result = object()
    assert Timeout(GUARD).call(lambda: result) is result


@pytest.mark.parametrize(
    "error", [KeyError("x"), KeyboardInterrupt(), SystemExit(3), StopIteration(1), GeneratorExit()]
)
def test_a_sync_error_comes_through_as_it_is(error: BaseException) -> None:
    @Timeout(GUARD)
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert caught.value is error
    assert error.__context__ is error.__cause__ is None
    assert "raise error" in "".join(traceback.format_tb(error.__traceback__))


def test_a_sync_function_has_the_callers_context_and_leaves_its_own() -> None:
    @Timeout(GUARD)
    def rename(to: str) -> str:
        before = name.get()
        name.set(to)
        return before

    name.set("caller")
    assert rename("renamed") == "caller"
    assert name.get() == "renamed"

    @Timeout(GUARD)
    def rename_and_fail() -> None:
        name.set("failed")
        raise KeyError("x")

    with pytest.raises(KeyError):
        rename_and_fail()
    assert name.get() == "failed"


def test_a_sync_function_that_takes_too_long_is_left_alone(decisions: list[Decision]) -> None:
    gate, done = threading.Event(), threading.Event()
    name.set("caller")

    @Timeout(0.01, clock=Clock.real())
    def stuck() -> str:
        try:
            assert gate.wait(GUARD)
            name.set("too late")
            return "too late"
        finally:
            done.set()

    try:
        with pytest.raises(TimeoutExceeded, match="stuck") as caught:
            stuck()
        assert not done.is_set(), "it is still at work"
    finally:
        gate.set()
    assert done.wait(GUARD)
    assert caught.value.context["limit"] == "0.01"
    assert name.get() == "caller"
    assert [decision.kind for decision in decisions] == ["timeout.exceeded"]


@pytest.mark.parametrize("form", ["pipeline", "decorators", "block", "two limits"])
def test_for_a_breaker_inside_a_sync_call_that_hangs_has_failed_when_its_time_was_up(
    form: str,
) -> None:
    gate, done = threading.Event(), threading.Event()
    breaker = CircuitBreaker("x", threshold=1, clock=Clock.real())

    def hangs() -> None:
        assert gate.wait(GUARD)

    def in_a_block() -> None:
        with breaker:
            hangs()

    limit = Timeout(0.01, clock=Clock.real())
    inner: Callable[[], None] = {
        "pipeline": Pipeline(breaker),
        "decorators": breaker,
        "block": lambda _: in_a_block,
        "two limits": lambda _: Timeout(GUARD, clock=Clock.real())(breaker(hangs)),
    }[form](hangs)

    def tells() -> None:
        try:
            inner()
        finally:
            done.set()

    try:
        with pytest.raises(TimeoutExceeded):
            limit(tells)()
        assert breaker.state == "open"
        figures = breaker.metrics()
    finally:
        gate.set()
    assert done.wait(GUARD)
    assert (breaker.state, breaker.metrics()["failed"]) == ("open", figures["failed"])
    assert breaker.metrics()["late"] == figures["late"], "what it came to says nothing any more"
    with pytest.raises(CircuitOpen, match="it took longer than its caller had time for"):
        breaker.call(hangs)


def test_for_a_breaker_inside_a_sync_call_that_is_in_time_counts_once() -> None:
    breaker = CircuitBreaker("x", threshold=3, clock=Clock.real())
    limited = Pipeline(Timeout(GUARD, clock=Clock.real()), breaker)

    def fails() -> None:
        raise KeyError("x")

    assert limited.call(str, 1) == "1"
    for _ in range(2):
        with pytest.raises(KeyError):
            limited.call(fails)
    assert breaker.metrics()["consecutive_failures"] == 2
    assert limited.call(str, 2) == "2"
    assert breaker.metrics()["consecutive_failures"] == 0


def test_a_sync_function_that_fails_too_late_is_not_heard_of(
    unraisable: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    threads: list[threading.Thread] = []
    failed: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)

    @Timeout(0.01, clock=Clock.real())
    def stuck() -> None:
        threads.append(threading.current_thread())
        assert gate.wait(GUARD)
        raise KeyError("too late")

    try:
        with pytest.raises(TimeoutExceeded):
            stuck()
    finally:
        gate.set()
    threads[0].join(GUARD)
    assert not threads[0].is_alive()
    assert (failed, unraisable) == ([], [])


def test_in_virtual_time_a_sync_function_is_too_late_as_well() -> None:
    """It moves the clock itself; which of the two threads is quicker decides nothing."""
    clock = Clock.simulated()
    limited = Timeout(2, clock=clock)(clock.wait)
    for _ in range(100):
        limited(1.9)
        with pytest.raises(TimeoutExceeded):
            limited(5)


def test_a_sync_function_in_a_thread_of_its_own_does_not_stop_a_loop() -> None:
    """As an executor does: the thread that waits is not the loop's."""

    async def main() -> None:
        gate = threading.Event()

        @Timeout(GUARD, clock=Clock.real())
        def wait_for_the_loop() -> bool:
            return gate.wait(GUARD)

        waiting = asyncio.get_running_loop().run_in_executor(None, wait_for_the_loop)
        gate.set()
        assert await asyncio.wait_for(waiting, GUARD)

    asyncio.run(main())


def test_a_limit_of_nothing_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(ConfigurationError, match="above zero"):
        Timeout(0)
    assert "2.5 s" in repr(Timeout(2.5, "exchange"))
    assert "exchange" in repr(Timeout(2.5, "exchange"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_in_a_forked_process_a_limit_holds_or_is_refused(tmp_path: Path) -> None:
    """It is never silently left out: servers fork workers after they have imported everything."""
    script = tmp_path / "program.py"
    script.write_text(
        f"""
import asyncio, os, sys
from tiebeam import ForkedProcessError, TimeoutExceeded
from tiebeam.resilience import Timeout

limit = Timeout(0.05)

async def main():
    try:
        await limit.call(asyncio.sleep, {GUARD / 6})
    except (TimeoutExceeded, ForkedProcessError):
        return 0
    return 3

pid = os.fork()
if pid == 0:
    os._exit(asyncio.run(main()))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    )
    program = subprocess.run(
        [sys.executable, "-W", "ignore", script], timeout=GUARD, check=False, capture_output=True
    )
    assert program.returncode == 0, program.stderr


def test_a_sync_call_that_comes_to_its_turn_too_late_does_not_begin() -> None:
    begun: list[str] = []
    bulkhead = Bulkhead(1, max_waiting=2, max_wait=60)
    holds, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        holds.set()
        let_go.wait(30)

    holder = threading.Thread(target=bulkhead.call, args=(hold,))
    holder.start()
    assert holds.wait(30)
    with pytest.raises(TimeoutExceeded):
        Timeout(0.05)(bulkhead(begun.append))("late")
    let_go.set()
    holder.join(30)
    # Those in line are served in order: the one that is late has had its turn then.
    bulkhead.call(begun.append, "next")
    assert begun == ["next"]


def left_behind(function: Callable[[], Any], let_go: threading.Event) -> BaseException:
    """What ``function`` raises on the thread that its time limit has left behind."""
    over, errors = threading.Event(), list[BaseException]()

    def comes_late() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)
            raise
        finally:
            over.set()

    with pytest.raises(TimeoutExceeded):
        Timeout(0.05).call(comes_late)
    let_go.set()
    assert over.wait(30)
    (error,) = errors
    return error


@pytest.mark.parametrize("retry", [False, True])
def test_a_sync_call_that_comes_to_its_breaker_too_late_does_not_begin(retry: bool) -> None:
    begun: list[str] = []
    breaker = CircuitBreaker("gate", threshold=1)
    guarded = breaker(begun.append)
    if retry:
        guarded = Retry("gate", max_attempts=3, initial_delay=0)(guarded)
    let_go = threading.Event()

    def comes_late() -> None:
        let_go.wait(30)
        guarded("late")

    error = left_behind(comes_late, let_go)
    assert isinstance(error, TimeoutExceeded)
    assert str(error) == "gate: its turn came when its time was up"
    assert begun == []
    assert (breaker.state, breaker.metrics()["calls"]) == ("closed", 0)
    breaker.call(begun.append, "next")
    assert begun == ["next"]


@pytest.mark.parametrize("form", ["decorated", "around_a_breaker", "block"])
def test_nothing_is_tried_again_for_whom_has_an_error_already(form: str) -> None:
    begun: list[int] = []
    let_go = threading.Event()
    retry = Retry(max_attempts=3, initial_delay=0, on=ConnectionError)

    def fails() -> None:
        begun.append(1)
        let_go.wait(30)
        raise ConnectionError

    def in_a_block() -> None:
        for attempt in retry:
            with attempt:
                fails()

    tried = {
        "decorated": retry(fails),
        "around_a_breaker": retry(CircuitBreaker("gate")(fails)),
        "block": in_a_block,
    }[form]
    assert isinstance(left_behind(tried, let_go), TimeoutExceeded)
    assert begun == [1]


def test_nothing_falls_back_for_whom_has_an_error_already() -> None:
    let_go, fell_back = threading.Event(), list[Exception]()

    def fails() -> None:
        let_go.wait(30)
        raise ConnectionError

    assert isinstance(left_behind(Fallback(fell_back.append)(fails), let_go), ConnectionError)
    assert fell_back == []


def test_a_sync_call_that_gets_its_permit_too_late_does_not_begin() -> None:
    begun: list[str] = []
    limiter = RateLimiter(1, period=1.5, max_wait=60)
    limiter.call(begun.append, "first")
    with pytest.raises(TimeoutExceeded):
        Timeout(0.01)(limiter(begun.append))("late")
    limiter.call(begun.append, "next")  # in a later period
    assert begun == ["first", "next"]
