"""The bulkhead: so many at once, the others in line, and no place is ever lost."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import random
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import testing
from tiebeam.exceptions import BulkheadFull, WouldDeadlock
from tiebeam.resilience import Bulkhead, CircuitBreaker, Timeout


def now() -> float:
    return asyncio.get_running_loop().time()


def until(condition: Callable[[], bool]) -> None:
    """Looks again and again; what it waits for happens on another thread."""
    pause, looks = threading.Event(), 0
    while not condition():
        looks += 1
        assert looks < GUARD * 1000, "it never came"
        pause.wait(0.001)


# -- places -----------------------------------------------------------------------------------


def test_so_many_run_at_once_and_the_others_are_refused() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(3, name="exchange")
        slow = bulkhead(asyncio.sleep)
        tasks = [asyncio.ensure_future(slow(10)) for _ in range(5)]
        await asyncio.sleep(1)
        assert (bulkhead.running, bulkhead.waiting) == (3, 0)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in outcomes] == [type(None)] * 3 + [BulkheadFull] * 2
        assert "exchange" in str(outcomes[-1])
        assert outcomes[-1].context["reason"] == "full"  # type: ignore[union-attr]
        assert (bulkhead.running, bulkhead.waiting) == (0, 0)

    testing.run(main())


def test_so_many_threads_are_inside_at_once() -> None:
    bulkhead = Bulkhead(4, max_waiting=100)
    inside = threading.Barrier(4, timeout=GUARD)
    lock, running, most = threading.Lock(), 0, 0

    @bulkhead
    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        inside.wait()  # passes only when four are inside
        with lock:
            running -= 1

    with ThreadPoolExecutor(16) as threads:
        for done in [threads.submit(work) for _ in range(40)]:
            done.result(GUARD)
    assert most == 4
    assert (bulkhead.running, bulkhead.waiting) == (0, 0)


@pytest.mark.parametrize("error", [OSError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_a_call_that_fails_gives_its_place_back(error: BaseException) -> None:
    bulkhead = Bulkhead(1)

    def fail() -> None:
        raise error

    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            bulkhead.call(fail)
        assert caught.value is error
    with pytest.raises(type(error)), bulkhead:
        fail()
    assert bulkhead.running == 0


def test_a_refused_call_does_not_run() -> None:
    bulkhead = Bulkhead(1)
    with bulkhead, pytest.raises(BulkheadFull):
        bulkhead.call(pytest.fail, "it ran")
    assert bulkhead.call(lambda: "ok") == "ok"


def test_a_coroutine_that_is_lost_gives_its_place_back() -> None:
    bulkhead = Bulkhead(1)

    class Suspension:
        def __await__(self) -> Any:
            yield

    async def wait() -> None:
        await Suspension()

    coroutine = bulkhead(wait)()
    coroutine.send(None)
    assert bulkhead.running == 1
    del coroutine
    gc.collect()
    assert bulkhead.running == 0


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrent": 0},
        {"max_concurrent": -1},
        {"max_concurrent": 1.5},
        {"max_concurrent": True},
        {"max_concurrent": 1, "max_waiting": -1},
        {"max_concurrent": 1, "max_wait": -1},
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        Bulkhead(**options)
    assert "max_" in str(caught.value), "it says which option"


# -- the line ---------------------------------------------------------------------------------


def test_those_who_wait_are_served_in_the_order_in_which_they_came() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(1, max_waiting=100)
        order: list[int] = []

        async def work(number: int) -> None:
            async with bulkhead:
                order.append(number)
                await asyncio.sleep(1)

        await asyncio.gather(*(work(number) for number in range(50)))
        assert order == list(range(50))
        assert now() == pytest.approx(50)

    testing.run(main())


def test_nobody_overtakes_the_line_by_coming_back_at_once() -> None:
    """Not even in the moment between the end of one call and the beginning of the next."""

    async def main() -> None:
        bulkhead = Bulkhead(1, max_waiting=9)
        order: list[str] = []

        async def work(who: str) -> None:
            for _ in range(3):
                async with bulkhead:
                    order.append(who)
                    await asyncio.sleep(0)

        await asyncio.gather(*(work(who) for who in "abc"))
        assert "".join(order) == "abcabcabc"

    testing.run(main())


def test_only_so_many_wait() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(1, max_waiting=2)
        tasks = [asyncio.ensure_future(bulkhead.call(asyncio.sleep, 1)) for _ in range(4)]
        await asyncio.sleep(0.5)
        assert (bulkhead.running, bulkhead.waiting) == (1, 2)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in outcomes] == [type(None)] * 3 + [BulkheadFull]

    testing.run(main())


@pytest.mark.parametrize("max_wait", [5, timedelta(seconds=5)])
def test_a_wait_ends_with_its_limit(max_wait: Any) -> None:
    async def main() -> None:
        bulkhead = Bulkhead(1, max_waiting=9, max_wait=max_wait)
        holder = asyncio.ensure_future(bulkhead.call(asyncio.sleep, 3600))
        await asyncio.sleep(1)
        with pytest.raises(BulkheadFull) as caught:
            await bulkhead.call(asyncio.sleep, 0)
        assert caught.value.context["reason"] == "max_wait"
        assert (now(), bulkhead.waiting) == (pytest.approx(6), 0)
        holder.cancel()
        await asyncio.wait([holder])
        assert bulkhead.running == 0

    testing.run(main())


def test_a_limit_of_nothing_does_not_wait() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(1, max_waiting=9, max_wait=0)
        async with bulkhead:
            with pytest.raises(BulkheadFull):
                await bulkhead.call(asyncio.sleep, 0)
        assert now() == 0

    testing.run(main())


def test_whoever_is_cancelled_leaves_the_line() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(1, max_waiting=9)
        order: list[int] = []

        async def work(number: int) -> None:
            async with bulkhead:
                order.append(number)
                await asyncio.sleep(1)

        tasks = [asyncio.ensure_future(work(number)) for number in range(5)]
        await asyncio.sleep(0.5)
        for number in (1, 3):
            tasks[number].cancel()
        await asyncio.sleep(0)
        assert bulkhead.waiting == 2
        await asyncio.wait(tasks)
        assert order == [0, 2, 4]
        assert now() == pytest.approx(3)

    testing.run(main())


def test_a_place_that_was_handed_to_one_who_is_cancelled_goes_on_to_the_next() -> None:
    """In the same moment: the place came, and the task never took it."""

    async def main() -> None:
        bulkhead = Bulkhead(1, max_waiting=9)
        gate = asyncio.Event()

        async def hold() -> None:
            async with bulkhead:
                await gate.wait()

        holder = asyncio.ensure_future(hold())
        await asyncio.sleep(0)
        unlucky = asyncio.ensure_future(bulkhead.call(asyncio.sleep, 0))
        lucky = asyncio.ensure_future(bulkhead.call(asyncio.sleep, 0, "served"))
        await asyncio.sleep(0)
        holder.add_done_callback(lambda _: unlucky.cancel())
        gate.set()
        assert await lucky == "served"
        await asyncio.wait([unlucky, holder])
        assert (bulkhead.running, bulkhead.waiting) == (0, 0)

    testing.run(main())


def test_sync_and_async_callers_stand_in_one_line(run: Callable[..., Any]) -> None:
    bulkhead = Bulkhead(1, max_waiting=9)
    order: list[int] = []

    def sync(number: int) -> None:
        bulkhead.call(order.append, number)

    async def asynchronous(number: int) -> None:
        async with bulkhead:
            order.append(number)

    async def in_line(count: int) -> None:
        while bulkhead.waiting < count:  # noqa: ASYNC110 - a thread comes, and tells nobody
            await asyncio.sleep(0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(8) as threads:
            callers: list[Any] = []
            with bulkhead:
                for number in range(8):
                    if number % 2:
                        callers.append(asyncio.ensure_future(asynchronous(number)))
                    else:
                        callers.append(loop.run_in_executor(threads, sync, number))
                    await in_line(number + 1)
            await asyncio.gather(*callers)

    run(main())
    assert order == list(range(8))
    assert (bulkhead.running, bulkhead.waiting) == (0, 0)


def test_loops_of_several_threads_stand_in_one_line() -> None:
    bulkhead = Bulkhead(2, max_waiting=1000)
    lock, running, most = threading.Lock(), 0, 0

    async def work() -> None:
        nonlocal running, most
        async with bulkhead:
            with lock:
                running += 1
                most = max(most, running)
            await asyncio.sleep(0)
            with lock:
                running -= 1

    def loop(_: int) -> None:
        async def main() -> None:
            await asyncio.wait_for(asyncio.gather(*(work() for _ in range(50))), GUARD)

        asyncio.run(main())

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(loop, range(6)))
    assert most <= 2
    assert (bulkhead.running, bulkhead.waiting) == (0, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_control_c_leaves_the_line() -> None:
    bulkhead = Bulkhead(1, max_waiting=1)

    def interrupt() -> None:
        until(lambda: bulkhead.waiting == 1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    with bulkhead:
        thread.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                bulkhead.call(pytest.fail, "it was let in")
        finally:
            thread.join()
        assert (bulkhead.running, bulkhead.waiting) == (1, 0)
    assert bulkhead.running == 0


# -- no place is lost -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_no_place_is_lost_whatever_is_cancelled_when(seed: int) -> None:
    chance = random.Random(seed)

    async def main() -> None:
        places = chance.randint(1, 4)
        bulkhead = Bulkhead(
            places,
            max_waiting=chance.choice([0, 5, 1000]),
            max_wait=chance.choice([None, 0.5, 2.0]),
        )
        inside = most = 0

        async def work() -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            try:
                for _ in range(chance.randint(0, 3)):
                    await asyncio.sleep(chance.choice([0, 0, 0.25, 1]))
                if chance.random() < 0.2:
                    raise OSError("x")
            finally:
                inside -= 1

        async def caller() -> None:
            way = chance.randint(0, 2)
            if way == 0:
                await bulkhead.call(work)
            elif way == 1:
                async with bulkhead:
                    await work()
            else:
                await Timeout(chance.choice([0.25, 1, 3])).call(bulkhead(work))

        async def cancel(task: asyncio.Task[Any]) -> None:
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(chance.choice([0, 0, 0.25, 0.5]))
            task.cancel()

        tasks: list[asyncio.Task[Any]] = []
        for _ in range(300):
            tasks.append(asyncio.ensure_future(caller()))
            if chance.random() < 0.5:
                tasks.append(asyncio.ensure_future(cancel(tasks[-1])))
            if chance.random() < 0.3:
                await asyncio.sleep(chance.choice([0, 0, 0.25]))
        await asyncio.gather(*tasks, return_exceptions=True)
        assert 0 < most <= places
        assert (inside, bulkhead.running, bulkhead.waiting) == (0, 0, 0)

    testing.run(main())


@pytest.mark.parametrize("seed", range(3))
def test_no_place_is_lost_between_threads_and_tasks(seed: int) -> None:
    chance = random.Random(seed)
    bulkhead = Bulkhead(3, max_waiting=8)
    lock, inside, most, refused = threading.Lock(), 0, 0, 0
    fates = [chance.random() for _ in range(600)]

    def step() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1

    def count_refused() -> None:
        nonlocal refused
        with lock:
            refused += 1

    def sync(fate: float) -> None:
        try:
            bulkhead.call(step)
        except BulkheadFull:
            count_refused()

    async def asynchronous(fate: float) -> None:
        try:
            async with bulkhead:
                await asyncio.sleep(0)
                step()
        except BulkheadFull:
            count_refused()

    def loop() -> None:
        async def main() -> None:
            tasks = []
            for fate in fates:
                tasks.append(asyncio.ensure_future(asynchronous(fate)))
                if fate < 0.3:
                    await asyncio.sleep(0)
                    tasks[-1].cancel()
            await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), GUARD)

        asyncio.run(main())

    with ThreadPoolExecutor(6) as threads:
        loops = [threads.submit(loop) for _ in range(2)]
        list(threads.map(sync, fates))
        for one in loops:
            one.result(GUARD)
    assert 0 < most <= 3
    assert (inside, bulkhead.running, bulkhead.waiting) == (0, 0, 0)
    assert bulkhead.call(lambda: "ok") == "ok"


# -- blocks -----------------------------------------------------------------------------------


def test_blocks_may_be_nested() -> None:
    outer, inner = Bulkhead(2), Bulkhead(2)
    with outer, inner, outer:
        assert (outer.running, inner.running) == (2, 1)
    assert (outer.running, inner.running) == (0, 0)


def apart(test: Callable[[], None]) -> Callable[[], None]:
    """In a context of its own: what a test leaves behind in it concerns no other one."""

    def run() -> None:
        contextvars.Context().run(test)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@apart
def test_blocks_may_be_left_in_any_order() -> None:
    """Two generators of one task, of which the one that began first ends first."""
    bulkhead, breaker = Bulkhead(1), CircuitBreaker(threshold=1)

    def numbers(stage: Any) -> Iterator[int]:
        with stage:
            yield 1

    first, second = numbers(bulkhead), numbers(breaker)
    assert (next(first), next(second)) == (1, 1)
    assert list(first) == []
    assert bulkhead.running == 0
    with pytest.raises(OSError, match="x"):
        second.throw(OSError("x"))  # type: ignore[attr-defined]
    assert (bulkhead.running, breaker.state) == (0, "open")


def test_async_blocks_may_be_left_in_any_order() -> None:
    async def main() -> None:
        stages = [Bulkhead(1), CircuitBreaker(threshold=1), Bulkhead(1)]

        async def numbers(stage: Any) -> AsyncIterator[int]:
            async with stage:
                yield 1

        streams: list[Any] = [numbers(stage) for stage in stages]
        for stream in streams:
            assert await stream.__anext__() == 1
        for stream in (streams[1], streams[0], streams[2]):
            await stream.aclose()
        assert [stage.running for stage in stages if isinstance(stage, Bulkhead)] == [0, 0]

    testing.run(main())


@apart
def test_a_block_may_be_left_in_another_context_than_it_was_entered_in() -> None:
    """As fixtures and dependencies of web frameworks do, each half in a task or thread."""
    bulkhead = Bulkhead(1)
    with contextlib.ExitStack() as stack:
        contextvars.copy_context().run(stack.enter_context, bulkhead)
        assert bulkhead.running == 1
    assert bulkhead.running == 0


def test_an_async_block_may_be_left_by_another_task_than_entered_it() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(1)
        stack = contextlib.AsyncExitStack()
        await asyncio.ensure_future(stack.enter_async_context(bulkhead))
        assert bulkhead.running == 1
        await asyncio.ensure_future(stack.aclose())
        assert bulkhead.running == 0

    testing.run(main())


def test_tasks_that_are_started_in_a_block_have_blocks_of_their_own() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(2)

        async def child() -> None:
            async with bulkhead:
                await asyncio.sleep(1)

        async with bulkhead:
            task = asyncio.ensure_future(child())
            await asyncio.sleep(0.5)
            assert bulkhead.running == 2
        assert bulkhead.running == 1
        await task
        assert bulkhead.running == 0

    testing.run(main())


def test_it_says_how_full_it_is() -> None:
    bulkhead = Bulkhead(2, name="exchange")
    with bulkhead:
        assert "exchange" in repr(bulkhead)
        assert "1 of 2" in repr(bulkhead)


def test_a_loop_is_not_blocked_for_a_place() -> None:
    """Whoever has it may be one of its own tasks."""
    bulkhead = Bulkhead(1, max_waiting=1)

    async def main() -> None:
        async with bulkhead:
            with pytest.raises(WouldDeadlock, match="`bulkhead` would block this event loop"):
                bulkhead.call(len, "")
        assert (bulkhead.running, bulkhead.waiting) == (0, 0)
        assert bulkhead.call(len, "") == 0

    testing.run(main())
