"""Switched off, everything is as if there were no stage."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tiebeam import testing
from tiebeam._core import Clock
from tiebeam.resilience import (
    Bulkhead,
    CircuitBreaker,
    Decision,
    Fallback,
    Hedge,
    Pipeline,
    RateLimiter,
    Retry,
    RetryBudget,
    Timeout,
    inactive,
    is_active,
    listen,
    set_active,
)


@pytest.fixture(autouse=True)
def on_again() -> Iterator[None]:
    """Whatever a test leaves behind."""
    yield
    set_active(True)


@pytest.fixture
def clock() -> Clock:
    return Clock.simulated()


def fail() -> None:
    raise OSError("x")


async def fail_async() -> None:
    await asyncio.sleep(0)
    raise OSError("x")


def test_it_is_on_unless_it_is_off() -> None:
    assert is_active()
    assert set_active(False) is True
    assert not is_active()
    assert set_active(False) is False
    assert set_active(True) is False
    assert is_active()


def test_a_block_puts_back_what_it_was() -> None:
    with inactive():
        assert not is_active()
        with inactive():
            assert not is_active()
        assert not is_active(), "the inner block has switched it on"
    assert is_active()
    with pytest.raises(OSError, match="x"), inactive():
        raise OSError("x")
    assert is_active()


def test_it_holds_for_all_threads() -> None:
    seen: list[bool] = []
    with inactive():
        thread = threading.Thread(target=lambda: seen.append(is_active()))
        thread.start()
        thread.join()
    assert seen == [False]


def test_a_retry_calls_once(clock: Clock) -> None:
    error, calls = OSError("x"), []

    @Retry(initial_delay=1, clock=clock)
    def work() -> None:
        calls.append(1)
        raise error

    with inactive(), pytest.raises(OSError, match="x") as caught:
        work()
    assert caught.value is error
    assert not hasattr(error, "__retry__")
    assert not hasattr(error, "__notes__")
    assert (len(calls), clock.monotonic()) == (1, 0)
    with pytest.raises(OSError, match="x"):
        work()
    assert len(calls) == 4


def test_a_retry_returns_what_is_not_good_enough() -> None:
    with inactive():
        assert Retry(on_result=lambda result: True).call(lambda: 1) == 1


def test_a_retry_that_waits_for_nothing_in_a_coroutine() -> None:
    async def main() -> None:
        with inactive(), pytest.raises(OSError, match="x") as caught:
            await Retry().call(fail_async)
        assert not hasattr(caught.value, "__retry__")

    testing.run(main())


def test_a_breaker_counts_nothing_and_rejects_nobody(clock: Clock) -> None:
    breaker = CircuitBreaker(threshold=1, clock=clock)
    with inactive():
        for _ in range(3):
            with pytest.raises(OSError, match="x"):
                breaker.call(fail)
            with pytest.raises(OSError, match="x"), breaker:
                fail()
    assert (breaker.state, breaker.metrics()["calls"]) == ("closed", 0)
    breaker.force("forced_open")
    with inactive():
        assert breaker.call(lambda: 1) == 1
        with breaker:
            pass
    assert breaker.metrics()["rejected"] == 0


def test_a_timeout_lets_go_on() -> None:
    async def main() -> None:
        with inactive():
            await Timeout(1).call(asyncio.sleep, 10)
            async with Timeout(1):
                await asyncio.sleep(10)
            assert asyncio.get_running_loop().time() == pytest.approx(20)

    testing.run(main())
    with inactive():
        assert Timeout(1).call(threading.get_ident) == threading.get_ident()


def test_a_bulkhead_has_room_for_all() -> None:
    bulkhead = Bulkhead(1)
    with inactive(), bulkhead, bulkhead:
        assert bulkhead.call(lambda: bulkhead.running) == 0
    assert (bulkhead.running, bulkhead.waiting) == (0, 0)


def test_a_limiter_has_permits_for_all(clock: Clock) -> None:
    limiter = RateLimiter(1, period=3600, clock=clock)
    with inactive():
        for _ in range(3):
            assert limiter.call(lambda: 1) == 1
            assert limiter.acquire() == 0
    assert limiter.available == 1


def test_a_fallback_gives_nothing_instead() -> None:
    async def main() -> None:
        with inactive(), pytest.raises(OSError, match="x"):
            await Fallback(value=1).call(fail_async)

    with inactive(), pytest.raises(OSError, match="x"):
        Fallback(value=1).call(fail)
    testing.run(main())


def test_a_hedge_asks_once() -> None:
    async def main() -> None:
        calls = []

        async def slow() -> Any:
            calls.append(1)
            await asyncio.sleep(100)
            return asyncio.current_task()

        with inactive():
            assert await Hedge(1).call(slow) is asyncio.current_task()
        assert len(calls) == 1

    testing.run(main())


def test_a_whole_pipeline_is_off(clock: Clock) -> None:
    pipeline = Pipeline(
        Fallback(value="instead"),
        Timeout(10, clock=clock),
        Retry(clock=clock),
        CircuitBreaker(clock=clock),
        RateLimiter(1, clock=clock),
        Bulkhead(1, clock=clock),
        Timeout(2, clock=clock),
    )
    with inactive():
        for _ in range(3):
            with pytest.raises(OSError, match="x"):
                pipeline.call(fail)
    assert pipeline.call(lambda: 1) == 1


def test_nothing_is_told_while_it_is_off(clock: Clock) -> None:
    told: list[Decision] = []
    end = listen(told.append)
    try:
        with inactive():
            with pytest.raises(OSError, match="x"):
                Retry(clock=clock).call(fail)
            with pytest.raises(OSError, match="x"):
                Fallback(value=1).call(fail)
            bulkhead = Bulkhead(1)
            with bulkhead, bulkhead:
                pass
    finally:
        end()
    assert told == []


def test_a_budget_is_not_charged_while_it_is_off(clock: Clock) -> None:
    budget = RetryBudget.token(ratio=1, min_per_second=0, clock=clock)
    policy = Retry(budget=budget, clock=clock)
    with inactive():
        for _ in range(5):
            policy.call(lambda: 1)
    assert budget.balance == 0
    policy.call(lambda: 1)
    assert budget.balance == 1


def test_calls_under_way_end_as_they_began(clock: Clock) -> None:
    """A place that was taken is given back, and none is that was not."""
    bulkhead, breaker = Bulkhead(2), CircuitBreaker(threshold=1, clock=clock)

    def switch_and_fail(active: bool) -> None:
        set_active(active)
        raise OSError("x")

    with pytest.raises(OSError, match="x"):
        bulkhead.call(switch_and_fail, False)
    assert bulkhead.running == 0
    with pytest.raises(OSError, match="x"):
        bulkhead.call(switch_and_fail, True)
    assert bulkhead.running == 0
    set_active(False)
    with pytest.raises(OSError, match="x"):
        breaker.call(switch_and_fail, True)
    assert breaker.metrics()["calls"] == 0
    with pytest.raises(OSError, match="x"):
        breaker.call(switch_and_fail, False)
    assert breaker.metrics()["calls"] == 1


@pytest.mark.parametrize("begins", [True, False])
def test_a_retry_that_is_switched_in_the_middle(clock: Clock, begins: bool) -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        set_active(not begins)
        raise OSError("x")

    set_active(begins)
    with pytest.raises(OSError, match="x") as caught:
        Retry(max_attempts=3, initial_delay=0, clock=clock).call(work)
    assert len(calls) == (1 if begins else 3), "it is looked at when an attempt has failed"
    assert caught.value.__context__ is None
