"""Stages that were made as a module was imported go by the clock of the test that runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import CircuitOpen, Component, TimeoutExceeded, testing
from tiebeam._core import Clock
from tiebeam.exceptions import BulkheadFull, RateLimited
from tiebeam.resilience import (
    Bulkhead,
    CircuitBreaker,
    Pipeline,
    RateLimiter,
    Retry,
    RetryBudget,
    Timeout,
)

HOUR = 3600.0

RETRY = Retry(
    "module", max_attempts=3, initial_delay=HOUR, multiplier=1, jitter="none", budget=None
)
BREAKER = CircuitBreaker("module", threshold=1, reset_timeout=HOUR)
LIMIT = Timeout(0.05, "module")
LONG_LIMIT = Timeout(HOUR, "module")
PIPELINE = Pipeline(Timeout(10 * HOUR), RETRY, Timeout(2 * HOUR))
BUDGET = RetryBudget.token(ratio=0, min_per_second=1, ttl=60)


@pytest.fixture(autouse=True)
def closed() -> None:
    BREAKER.reset()


def fail() -> None:
    raise OSError("x")


async def fail_async() -> None:
    raise OSError("x")


def flows() -> bool:
    """Whether time moves on by itself, for those who go by the process's clock."""
    breaker = CircuitBreaker(reset_timeout=HOUR)
    breaker.force("open")
    first = breaker.retry_after
    give_up = time.monotonic() + GUARD
    while time.monotonic() < give_up:
        if breaker.retry_after != first:
            return True
    return False


def stands() -> bool:
    breaker = CircuitBreaker(reset_timeout=HOUR)
    breaker.force("open")
    return {breaker.retry_after for _ in range(1000)} == {HOUR}


# -- in a virtual loop ------------------------------------------------------------------------


def test_a_retry_of_a_module_waits_in_virtual_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(OSError, match="x"):
            await RETRY.call(fail_async)
        assert loop.time() == pytest.approx(2 * HOUR)
        with pytest.raises(OSError, match="x"):
            RETRY.call(fail)
        assert loop.time() == pytest.approx(4 * HOUR)

    testing.run(main())


def test_a_breaker_of_a_module_opens_for_virtual_time() -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="x"):
            await BREAKER.call(fail_async)
        with pytest.raises(CircuitOpen) as caught:
            await BREAKER.call(fail_async)
        assert caught.value.retry_after == HOUR
        await asyncio.sleep(HOUR)
        assert await BREAKER.call(asyncio.sleep, 0, "ok") == "ok"
        assert BREAKER.state == "closed"

    testing.run(main())


def test_a_timeout_of_a_module_passes_in_virtual_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for round_ in range(3):
            with pytest.raises(TimeoutExceeded):
                await LONG_LIMIT.call(asyncio.sleep, 2 * HOUR)
            assert loop.time() == pytest.approx((round_ + 1) * HOUR)

    for _ in range(3):  # each with a clock of its own
        testing.run(main())


def test_a_pipeline_of_a_module_goes_by_virtual_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutExceeded):
            await PIPELINE.call(asyncio.sleep, 1000 * HOUR)
        assert loop.time() == pytest.approx(3 * 2 * HOUR + 2 * HOUR)

    testing.run(main())


def test_a_budget_of_a_module_goes_by_virtual_time() -> None:
    async def main() -> None:
        call = BUDGET.enter()
        while call.retry():
            pass
        assert BUDGET.balance == 0
        await asyncio.sleep(61)
        assert BUDGET.balance == 60

    testing.run(main())


def test_a_stage_may_have_a_clock_of_its_own() -> None:
    clock = Clock.simulated()

    async def main() -> None:
        own = Retry(max_attempts=2, initial_delay=HOUR, jitter="none", clock=clock)
        with pytest.raises(OSError, match="x"):
            own.call(fail)
        assert asyncio.get_running_loop().time() == 0

    testing.run(main())
    assert clock.monotonic() == HOUR


# -- with the fixture -------------------------------------------------------------------------


def test_a_sync_test_takes_no_time(tiebeam_clock: Clock) -> None:
    with pytest.raises(OSError, match="x"):
        RETRY.call(fail)
    assert tiebeam_clock.monotonic() == pytest.approx(2 * HOUR)
    for attempt in Retry(max_attempts=2, initial_delay=HOUR, jitter="none"):
        with attempt:
            if attempt.number == 1:
                raise OSError("x")
    assert tiebeam_clock.monotonic() == pytest.approx(3 * HOUR)
    assert stands()


def test_a_sync_test_moves_time_on_for_breakers(tiebeam_clock: Clock) -> None:
    with pytest.raises(OSError, match="x"):
        BREAKER.call(fail)
    tiebeam_clock.wait(HOUR - 1)
    with pytest.raises(CircuitOpen) as caught:
        BREAKER.call(fail)
    assert caught.value.retry_after == pytest.approx(1)
    tiebeam_clock.wait(1)
    assert BREAKER.call(lambda: "ok") == "ok"


def test_a_sync_test_waits_for_a_limiter(tiebeam_clock: Clock) -> None:
    limiter = RateLimiter(1, period=HOUR, max_wait=10 * HOUR)
    for _ in range(3):
        limiter.call(lambda: "ok")
    assert HOUR < tiebeam_clock.monotonic() <= 2 * HOUR
    assert [limiter.acquire() > 0 for _ in range(10)] == [True] * 10
    with pytest.raises(RateLimited):
        limiter.acquire()


async def test_an_async_test_takes_no_time(tiebeam_clock: Clock) -> None:
    with pytest.raises(OSError, match="x"):
        await RETRY.call(fail_async)
    with pytest.raises(TimeoutExceeded):
        await LONG_LIMIT.call(asyncio.sleep, 2 * HOUR)
    assert tiebeam_clock.monotonic() == pytest.approx(3 * HOUR)


def test_a_loop_inside_of_a_sync_test_gives_the_clock_back(tiebeam_clock: Clock) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="x"):
            await RETRY.call(fail_async)

    testing.run(main())
    assert tiebeam_clock.monotonic() == 0, "the loop has a clock of its own"
    with pytest.raises(OSError, match="x"):
        RETRY.call(fail)
    assert tiebeam_clock.monotonic() == pytest.approx(2 * HOUR)
    assert stands()


def test_a_sync_test_waits_for_a_place_in_virtual_time(tiebeam_clock: Clock) -> None:
    """Nobody else moves the clock."""
    bulkhead = Bulkhead(1, max_waiting=1, max_wait=HOUR)
    assert bulkhead.__enter__() is bulkhead
    gives_up = threading.Timer(GUARD / 6, bulkhead.__exit__, (None, None, None))  # where it hangs
    gives_up.start()
    with pytest.raises(BulkheadFull):
        bulkhead.call(lambda: "let in")
    gives_up.cancel()
    assert tiebeam_clock.monotonic() == pytest.approx(HOUR)


def test_a_sync_test_of_a_time_limit(tiebeam_clock: Clock) -> None:
    for _ in range(100):  # whichever thread is quicker
        assert LONG_LIMIT.call(lambda: "ok") == "ok"
        with pytest.raises(TimeoutExceeded):
            LONG_LIMIT.call(tiebeam_clock.wait, 2 * HOUR)


# -- and afterwards ---------------------------------------------------------------------------


def test_afterwards_time_flows_again(request: pytest.FixtureRequest) -> None:
    assert flows()

    async def main() -> None:
        assert stands()

    testing.run(main())
    assert flows()
    with pytest.raises(KeyError):
        testing.run(broken())
    assert flows(), "although the test has failed"


async def broken() -> None:
    raise KeyError("x")


def test_afterwards_a_timeout_of_a_module_still_passes(run: Callable[..., Any]) -> None:
    """Although a call within it waited in a test, whose clock nobody moves any more."""

    async def virtual() -> None:
        await LIMIT.call(asyncio.sleep, 0.01)
        async with LIMIT:
            await asyncio.sleep(0.01)

    async def real() -> None:
        with pytest.raises(TimeoutExceeded):
            await LIMIT.call(asyncio.sleep, GUARD / 6)
        with pytest.raises(TimeoutExceeded):
            async with LIMIT:
                await asyncio.sleep(GUARD / 6)

    run(real())
    testing.run(virtual())
    run(real())


def test_a_timeout_that_was_used_before_passes_in_a_test(run: Callable[..., Any]) -> None:
    """Although a timer of the machine's clock is still set for it."""
    limit = Timeout(HOUR)

    async def real() -> None:
        await limit.call(asyncio.sleep, 0)

    async def virtual() -> None:
        with pytest.raises(TimeoutExceeded):
            await limit.call(asyncio.sleep, 2 * HOUR)
        assert asyncio.get_running_loop().time() == pytest.approx(HOUR)

    run(real())
    testing.run(virtual())
    testing.run(virtual())


def test_what_was_open_in_a_test_has_its_time_to_go_afterwards() -> None:
    async def main() -> None:
        BREAKER.force("open")
        await asyncio.sleep(HOUR / 2)

    testing.run(main())
    assert BREAKER.state == "open"
    left = BREAKER.retry_after
    assert left is not None
    assert 0 < left <= HOUR / 2


async def test_a_sync_hook_waits_for_the_test(
    tiebeam_framework: Callable[..., Any], tiebeam_clock: Clock
) -> None:
    """A thread of the framework does not move the clock under everybody else."""
    attempts: list[float] = []

    class Patient(Component):
        @Retry(initial_delay=10, max_delay=10, jitter="none", clock=tiebeam_clock)
        def start(self) -> None:
            attempts.append(tiebeam_clock.monotonic())
            if len(attempts) < 3:
                raise ConnectionError("not yet")

    async with tiebeam_framework(components=[Patient]) as framework:
        assert framework.status("patient")["state"] == "running"
    assert attempts == [0, 10, 20]


def test_a_thread_of_the_users_own_waits_for_the_test() -> None:
    clock, came = Clock.simulated(), list[float]()

    def own() -> None:
        clock.wait(10)
        came.append(clock.monotonic())

    thread = threading.Thread(target=own)
    thread.start()
    give_up = time.monotonic() + GUARD
    while clock.next_due() is None and time.monotonic() < give_up:
        pass
    assert (clock.next_due(), clock.monotonic()) == (10, 0)
    clock.wait(4)
    assert came == []
    clock.wait(6)
    thread.join(GUARD)
    assert came == [10]


def test_a_thread_of_the_users_own_waits_for_a_place_without_moving_time() -> None:
    clock = Clock.simulated()
    bulkhead = Bulkhead(1, max_waiting=1, max_wait=HOUR, clock=clock)
    refused: list[BulkheadFull] = []

    def own() -> None:
        try:
            bulkhead.call(pytest.fail, "it ran")
        except BulkheadFull as error:
            refused.append(error)

    with bulkhead:
        thread = threading.Thread(target=own)
        thread.start()
        give_up = time.monotonic() + GUARD
        while clock.next_due() is None and time.monotonic() < give_up:
            pass
        assert (clock.next_due(), clock.monotonic()) == (HOUR, 0)
        clock.wait(HOUR)
        thread.join(GUARD)
    assert len(refused) == 1
