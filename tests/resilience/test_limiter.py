"""The rate limiter: so many per period, exactly."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, cast

import pytest
from conftest import GUARD
from tiebeam import testing
from tiebeam._core import Clock
from tiebeam.exceptions import RateLimited
from tiebeam.resilience import RateLimiter, listen
from tiebeam.testing import VirtualLoop


@pytest.fixture
def clock() -> Clock:
    return Clock.simulated()


def begun(clock: Clock) -> float:
    return round(clock.monotonic(), 9)


def test_so_many_begin_in_each_period(clock: Clock) -> None:
    limiter = RateLimiter(3, period=10, clock=clock)
    began = limiter(begun)
    for period in range(4):
        assert [began(clock) for _ in range(3)] == [period * 10] * 3
        with pytest.raises(RateLimited) as caught:
            began(clock)
        assert caught.value.retry_after == 10
        clock.wait(10)


def test_periods_begin_at_multiples_of_their_length(clock: Clock) -> None:
    clock.wait(17)
    limiter = RateLimiter(1, period=10, clock=clock)
    assert limiter.call(begun, clock) == 17
    with pytest.raises(RateLimited) as caught:
        limiter.call(begun, clock)
    assert caught.value.retry_after == 3
    clock.wait(3)
    assert limiter.call(begun, clock) == 20


def test_what_was_not_used_is_not_kept(clock: Clock) -> None:
    limiter = RateLimiter(2, period=1, clock=clock)
    clock.wait(100)
    assert limiter.available == 2


@pytest.mark.parametrize("form", ["call", "block"])
def test_those_who_wait_begin_exactly_when_they_may(clock: Clock, form: str) -> None:
    limiter = RateLimiter(2, period=0.25, max_wait=10, clock=clock)
    at = []
    for _ in range(7):
        if form == "call":
            at.append(limiter.call(begun, clock))
        else:
            with limiter:
                at.append(begun(clock))
    assert at == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75]


@pytest.mark.parametrize("form", ["call", "block"])
def test_coroutines_begin_exactly_when_they_may_and_in_their_order(form: str) -> None:
    async def main() -> None:
        loop = cast(VirtualLoop, asyncio.get_running_loop())
        limiter = RateLimiter(
            3, period=timedelta(seconds=2), max_wait=timedelta(seconds=100), clock=loop.clock
        )
        began: list[tuple[int, float]] = []

        async def work(number: int) -> None:
            began.append((number, round(loop.time(), 9)))

        async def call(number: int) -> None:
            if form == "call":
                await limiter.call(work, number)
            else:
                async with limiter:
                    await work(number)

        await asyncio.gather(*(call(number) for number in range(10)))
        assert began == [(number, number // 3 * 2.0) for number in range(10)]

    testing.run(main())


def test_in_virtual_time_a_limiter_does_the_same_in_each_run() -> None:
    """Whenever the process began, whose clock it goes by unless it is given one."""

    async def main() -> list[float]:
        limiter = RateLimiter(1, period=2, max_wait=100)
        return [limiter.acquire() for _ in range(3)]

    assert testing.run(main()) == testing.run(main())


def test_a_wait_that_would_be_too_long_is_refused_and_reserves_nothing(clock: Clock) -> None:
    limiter = RateLimiter(1, period=10, max_wait=25, clock=clock)
    assert [limiter.acquire() for _ in range(3)] == [0, 10, 20]
    assert limiter.available == -2
    with pytest.raises(RateLimited) as caught:
        limiter.acquire()
    assert caught.value.retry_after == 30
    assert limiter.available == -2


def test_a_wait_that_is_just_as_long_as_allowed_is_one(clock: Clock) -> None:
    limiter = RateLimiter(1, period=10, max_wait=10, clock=clock)
    assert [limiter.acquire(), limiter.acquire()] == [0, 10]


def test_several_permits_at_once(clock: Clock) -> None:
    limiter = RateLimiter(5, period=1, max_wait=60, clock=clock)
    clock.wait(0.3)
    assert (limiter.acquire(3), limiter.available) == (0, 2)
    clock.wait(1.25)
    assert (limiter.acquire(10), limiter.available) == (pytest.approx(0.45), -5)
    clock.wait(0.66)
    assert (limiter.acquire(2), limiter.available) == (pytest.approx(0.79), -2)


def test_asking_takes_nothing(clock: Clock) -> None:
    limiter = RateLimiter(1, period=10, clock=clock)
    assert [limiter.wait_for(), limiter.wait_for(), limiter.wait_for(2)] == [0, 0, 10]
    assert limiter.available == 1
    limiter.acquire()
    assert limiter.wait_for() == 10


def test_a_refusal_says_who_and_when(clock: Clock) -> None:
    limiter = RateLimiter(1, period=10, name="exchange", clock=clock)
    limiter.acquire()
    with pytest.raises(RateLimited, match=r"exchange.*1 calls in 10 s.*10\.000 s") as caught:
        limiter.call(pytest.fail, "it ran")
    assert caught.value.context["name"] == "exchange"


def test_a_cancelled_wait_ends_at_once() -> None:
    async def main() -> None:
        loop = cast(VirtualLoop, asyncio.get_running_loop())
        limiter = RateLimiter(1, period=100, max_wait=1000, clock=loop.clock)
        calls = 0

        async def work() -> None:
            nonlocal calls
            calls += 1

        await limiter.call(work)
        task = asyncio.ensure_future(limiter.call(work))
        await asyncio.sleep(10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (calls, loop.time()) == (1, pytest.approx(10))

    testing.run(main())


def test_a_cancelled_wait_gives_its_permit_back_to_the_next_one() -> None:
    async def main() -> None:
        loop = cast(VirtualLoop, asyncio.get_running_loop())
        limiter = RateLimiter(1, period=100, max_wait=1000, clock=loop.clock)
        began: list[float] = []

        async def work() -> None:
            began.append(loop.time())

        @limiter
        async def decorated() -> None:
            began.append(loop.time())

        async def in_a_block() -> None:
            async with limiter:
                began.append(loop.time())

        for ways in ([limiter.call(work), decorated(), in_a_block()], [decorated() for _ in "ab"]):
            await limiter.call(work)
            tasks = [asyncio.ensure_future(way) for way in ways]
            await asyncio.sleep(10)
            assert limiter.available == -len(tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert limiter.available == 0
            await limiter.call(work)
        assert began == pytest.approx([0, 100, 200, 300])

    testing.run(main())


def test_who_waits_behind_a_cancelled_one_keeps_the_place() -> None:
    async def main() -> None:
        loop = cast(VirtualLoop, asyncio.get_running_loop())
        limiter = RateLimiter(1, period=100, max_wait=1000, clock=loop.clock)
        began: list[tuple[str, float]] = []

        @limiter
        async def work(name: str) -> None:
            began.append((name, loop.time()))

        await work("first")
        second, third = (asyncio.ensure_future(work(name)) for name in ("second", "third"))
        await asyncio.sleep(10)
        second.cancel()
        fourth = asyncio.ensure_future(work("fourth"))
        await asyncio.gather(second, third, fourth, return_exceptions=True)
        assert began == [("first", 0), ("fourth", 100), ("third", 200)]

    testing.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_control_c_ends_a_wait() -> None:
    waits = threading.Event()
    end = listen(lambda decision: waits.set() if decision.kind == "rate_limiter.delayed" else None)

    def interrupt() -> None:
        if waits.wait(GUARD):
            os.kill(os.getpid(), signal.SIGINT)

    limiter = RateLimiter(1, period=1e6, max_wait=1e7, clock=Clock.real())
    limiter.acquire()
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            limiter.call(pytest.fail, "it ran")
        assert limiter.available == 0, "what it had reserved is there for others"
    finally:
        thread.join()
        end()


def test_threads_never_take_more_than_there_is(clock: Clock) -> None:
    limiter = RateLimiter(100, period=10, clock=clock)
    start = threading.Barrier(8, timeout=GUARD)

    def take(_: int) -> Counter[str]:
        start.wait()
        came_to: Counter[str] = Counter()
        for _ in range(50):
            with contextlib.suppress(RateLimited):
                limiter.acquire()
                came_to["taken"] += 1
        return came_to

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(take, range(8)), Counter()) == {"taken": 100}


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"limit": -1},
        {"limit": 1.5},
        {"limit": True},
        {"limit": 1, "period": 0},
        {"limit": 1, "period": -1},
        {"limit": 1, "max_wait": -1},
        {"limit": 1, "period": "minute"},
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        RateLimiter(**options)
    assert any(word in str(caught.value) for word in ("limit", "period", "max_wait"))


@pytest.mark.parametrize("permits", [-1, 1.5, True])
def test_a_number_of_permits_that_makes_no_sense_is_refused(clock: Clock, permits: Any) -> None:
    limiter = RateLimiter(5, clock=clock)
    with pytest.raises((ValueError, TypeError), match="permits"):
        limiter.acquire(permits)
    assert limiter.available == 5


def test_it_says_what_is_left(clock: Clock) -> None:
    limiter = RateLimiter(5, name="exchange", clock=clock)
    limiter.acquire(2)
    assert "exchange" in repr(limiter)
    assert "3 of 5" in repr(limiter)
