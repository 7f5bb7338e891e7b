"""Budgets: how many retries there are in total, by each of the four rules."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tiebeam import CircuitOpen, ConfigurationError, testing
from tiebeam._core import Clock
from tiebeam.resilience import CircuitBreaker, Pipeline, Retry, RetryBudget


@pytest.fixture
def clock() -> Clock:
    return Clock.simulated()


def granted(budget: RetryBudget, most: int = 10_000) -> int:
    """How many retries there are just now; takes them."""
    call = budget.enter()
    count = 0
    while count < most and call.retry():
        count += 1
    call.end()
    return count


def attempts(policy: Retry, error: Exception | None = None) -> int:
    """How often a call that always fails is made."""
    count = 0

    def fail() -> None:
        nonlocal count
        count += 1
        raise error or OSError("x")

    with pytest.raises(type(error or OSError())):
        policy.call(fail)
    return count


# -- token ------------------------------------------------------------------------------------


def test_a_reserve_serves_those_who_call_rarely(clock: Clock) -> None:
    budget = RetryBudget.token(ratio=0, min_per_second=3, ttl=2, clock=clock)
    assert budget.balance == 6
    assert granted(budget) == 6
    assert (budget.balance, granted(budget)) == (0, 0)
    clock.wait(3)
    assert budget.balance == 6, "what was taken is forgotten after the time to live"


def test_calls_pay_for_retries(clock: Clock) -> None:
    budget = RetryBudget.token(ratio=0.5, min_per_second=0, ttl=10, clock=clock)
    for _ in range(9):
        budget.enter().end()
    assert budget.balance == 4
    assert granted(budget) == 5, "this call has paid, too"
    clock.wait(11)
    assert budget.balance == 0


def test_the_default_is_a_fifth_of_the_calls_and_ten_a_second(clock: Clock) -> None:
    budget = RetryBudget.token(clock=clock)
    assert budget.balance == 100
    for _ in range(50):
        budget.enter().end()
    assert budget.balance == 110


def test_further_attempts_pay_nothing(clock: Clock) -> None:
    budget = RetryBudget.token(ratio=1, min_per_second=0, clock=clock)
    policy = Retry(max_attempts=10, initial_delay=0, budget=budget, clock=clock)
    assert [attempts(policy) for _ in range(3)] == [2, 2, 2]
    assert budget.balance == 0


# -- throttle ---------------------------------------------------------------------------------


def test_a_throttle_stops_when_half_of_the_tokens_are_gone(clock: Clock) -> None:
    budget = RetryBudget.throttle(max_tokens=4, token_ratio=0.5, clock=clock)
    policy = Retry(max_attempts=10, initial_delay=0, budget=budget, clock=clock)
    assert attempts(policy) == 2  # 4 -> 3: again; 3 -> 2: no more than half
    assert budget.balance == 2
    assert attempts(policy) == 1
    assert budget.balance == 1
    for _ in range(4):
        policy.call(lambda: "ok")
    assert budget.balance == 3
    policy.call(lambda: "ok")
    policy.call(lambda: "ok")
    policy.call(lambda: "ok")
    assert budget.balance == 4, "no more than there were"


def test_a_throttle_takes_nothing_for_what_is_not_worth_it(clock: Clock) -> None:
    budget = RetryBudget.throttle(max_tokens=4, clock=clock)
    assert attempts(Retry(budget=budget, clock=clock), KeyError("x")) == 1
    assert budget.balance == 4


def test_a_throttle_takes_nothing_for_a_call_that_a_breaker_rejects(clock: Clock) -> None:
    """The dependency was not asked: when it is back, it may be asked again."""
    budget = RetryBudget.throttle(max_tokens=10, clock=clock)
    breaker = CircuitBreaker(clock=clock)
    breaker.force("open")
    pipeline = Pipeline(Retry(budget=budget, clock=clock), breaker)
    for _ in range(20):
        with pytest.raises(CircuitOpen):
            pipeline.call(lambda: "ok")
    assert budget.balance == 10


# -- concurrency ------------------------------------------------------------------------------


def test_only_a_share_of_the_calls_under_way_is_tried_again() -> None:
    async def main() -> None:
        budget = RetryBudget.concurrency(ratio=0.5, min_concurrency=1)
        policy = Retry(max_attempts=2, initial_delay=10, jitter="none", budget=budget)
        calls = 0

        async def fail() -> None:
            nonlocal calls
            calls += 1
            await asyncio.sleep(1)
            raise OSError("x")

        tasks = [asyncio.ensure_future(policy.call(fail)) for _ in range(8)]
        await asyncio.sleep(5)  # those that wait for their turn count
        assert sum(not task.done() for task in tasks) >= 1
        await asyncio.gather(*tasks, return_exceptions=True)
        assert 8 + 1 <= calls <= 8 + 4
        assert budget.balance == 1, "nobody is under way any more: the minimum is left"

    testing.run(main())


def test_the_minimum_is_there_in_any_case(clock: Clock) -> None:
    budget = RetryBudget.concurrency(ratio=0, min_concurrency=2, clock=clock)
    calls = [budget.enter() for _ in range(3)]
    assert [call.retry() for call in calls] == [True, True, False]
    assert calls[0].retry(), "who has a place keeps it for the next retry"
    calls[1].end()
    assert calls[2].retry()


@pytest.mark.parametrize("fate", ["succeeds", "fails", "is not worth it", "is interrupted"])
def test_a_call_that_is_over_is_no_longer_under_way(clock: Clock, fate: str) -> None:
    budget = RetryBudget.concurrency(ratio=1, min_concurrency=0, clock=clock)
    policy = Retry(max_attempts=2, initial_delay=0, budget=budget, clock=clock)
    errors = {
        "fails": OSError("x"),
        "is not worth it": KeyError("x"),
        "is interrupted": KeyboardInterrupt(),
    }

    def work() -> None:
        assert budget.balance <= 1
        if fate in errors:
            raise errors[fate]

    if fate == "succeeds":
        policy.call(work)
    else:
        with pytest.raises(type(errors[fate])) as caught:
            policy.call(work)
        assert caught.value.__traceback__ is not None
    assert budget.balance == 0, "and nobody has to let go of the error first"


def test_a_call_that_is_cancelled_is_no_longer_under_way() -> None:
    async def main() -> None:
        budget = RetryBudget.concurrency(ratio=1, min_concurrency=0)
        policy = Retry(budget=budget)
        for seconds in (0, 1):
            task = asyncio.ensure_future(policy.call(asyncio.sleep, 3600))
            await asyncio.sleep(seconds)
            task.cancel()
            await asyncio.wait([task])
            assert budget.balance == 0

    testing.run(main())


# -- adaptive ---------------------------------------------------------------------------------


def test_the_worse_it_goes_the_fewer_retries_are_granted(clock: Clock) -> None:
    budget = RetryBudget.adaptive(target=0.9, threshold=10, window=60, clock=clock, seed=1)
    call = budget.enter()
    for _ in range(9):
        call.failed()
    assert budget.balance == 1, "too few calls to say"
    call.failed()
    assert budget.balance == pytest.approx(1 - 0.9), "one in ten is always granted"
    for _ in range(10):
        call.succeeded()
    refused = (20 - 10 / 0.9) / 21
    assert budget.balance == pytest.approx(1 - refused)
    share = sum(call.retry() for _ in range(5000)) / 5000
    assert abs(share - (1 - refused)) < 0.03
    clock.wait(61)
    assert budget.balance == 1


def test_a_seed_repeats_what_is_refused(clock: Clock) -> None:
    def refusals(seed: int) -> list[bool]:
        budget = RetryBudget.adaptive(threshold=1, clock=clock, seed=seed)
        call = budget.enter()
        for _ in range(4):
            call.failed()
            call.succeeded()
        return [call.retry() for _ in range(50)]

    assert refusals(1) == refusals(1)
    assert refusals(1) != refusals(2)
    assert len(set(refusals(1))) == 2


# -- shared -----------------------------------------------------------------------------------


def test_all_who_call_one_dependency_share_its_budget(clock: Clock) -> None:
    budget = RetryBudget.token(ratio=0, min_per_second=3, ttl=1, clock=clock)
    first = Retry(max_attempts=3, initial_delay=0, budget=budget, clock=clock)
    second = Retry(max_attempts=3, initial_delay=0, budget=budget, clock=clock)
    assert [attempts(first), attempts(second), attempts(first)] == [3, 2, 1]


def test_a_retry_inside_a_pipeline_uses_the_same_budget(clock: Clock) -> None:
    budget = RetryBudget.token(ratio=0, min_per_second=1, ttl=1, clock=clock)
    policy = Retry(max_attempts=3, initial_delay=0, budget=budget, clock=clock)
    assert attempts(Pipeline(policy)) == 2  # type: ignore[arg-type]
    assert attempts(policy) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryBudget.token(ratio=-1),
        lambda: RetryBudget.token(ratio=1001),
        lambda: RetryBudget.token(ratio=float("nan")),
        lambda: RetryBudget.token(ttl=0.5),
        lambda: RetryBudget.token(ttl=timedelta(seconds=61)),
        lambda: RetryBudget.throttle(max_tokens=0),
        lambda: RetryBudget.throttle(max_tokens=float("inf")),
        lambda: RetryBudget.throttle(token_ratio=0),
        lambda: RetryBudget.concurrency(ratio=1.5),
        lambda: RetryBudget.concurrency(ratio=-0.1),
        lambda: RetryBudget.adaptive(target=0),
        lambda: RetryBudget.adaptive(target=1.5),
        lambda: RetryBudget.adaptive(window=0),
    ],
)
def test_figures_outside_of_their_range_are_refused(make: Any) -> None:
    with pytest.raises(ConfigurationError):
        make()
