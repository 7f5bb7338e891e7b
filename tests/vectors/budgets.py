"""How many retries a dependency gets in total, by each of the four rules."""

from __future__ import annotations

import math

from tiebeam import TransientError
from tiebeam._core import Clock
from tiebeam.resilience import Backoff, Retry, RetryBudget

from vectors.cases import Areas, Case
from vectors.stance import compare, settle

__all__ = ["AREAS"]


def run_tokens(case: Case) -> None:
    given, load, expect = case["budget"], case["load"], dict(case["expect"])
    clock = Clock.simulated()
    budget = RetryBudget.token(
        given["ratio"], given["min_per_sec"], ttl=given["ttl_s"], clock=clock
    )
    differences = []
    tolerance = expect.pop("tolerance", 0)
    if "initial_balance" in expect:
        initial = expect.pop("initial_balance")
        differences += compare("the balance at first", budget.balance, initial)
    if "withdrawals" in load:
        call = budget.enter()
        # What the call itself has paid is over: nothing is left but the reserve.
        clock.wait(2 * given["ttl_s"])
        granted = [call.retry() for _ in range(load["withdrawals"])]
        differences += compare("granted", granted, expect.pop("granted"))
    else:
        retries = _retries(budget, load["requests"], clock) if load["retry_each"] else 0
        if not load["retry_each"]:
            for _ in range(load["requests"]):
                budget.enter().end()
        if "retries" in expect and abs(retries - expect["retries"]) > tolerance:
            differences.append(f"{retries} retries instead of {expect['retries']}")
        expect.pop("retries", None)
        if "balance" in expect:
            differences += compare("the balance", budget.balance, expect.pop("balance"))
    assert not expect, f"unknown expectations: {sorted(expect)}"
    settle(case, differences)


def _retries(budget: RetryBudget, requests: int, clock: Clock) -> int:
    """How many of so many requests, each of which fails at first, are tried again."""
    at_once = Backoff.constant(0, jitter="none")
    retry = Retry(max_attempts=2, backoff=at_once, budget=budget, clock=clock)
    calls = 0

    def fails_at_first() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise TransientError("busy")

    retries = 0
    for _ in range(requests):
        calls = 0
        try:
            retry.call(fails_at_first)
        except TransientError:
            assert calls == 1
        else:
            retries += 1
    return retries


def run_throttle(case: Case) -> None:
    given = case["throttle"]
    budget = RetryBudget.throttle(
        given["max_tokens"], given["token_ratio"], clock=Clock.simulated()
    )
    call = budget.enter()
    differences = []
    for index, (event, tokens, allowed) in enumerate(case["steps"]):
        {"fail": call.failed, "success": call.succeeded}[event]()
        if not math.isclose(budget.balance, tokens, abs_tol=1e-9):
            differences.append(f"step {index}: {budget.balance} tokens instead of {tokens}")
        differences += compare(f"step {index}: a retry", call.retry(), allowed)
    settle(case, differences)


def run_concurrency(case: Case) -> None:
    differences = []
    for active, ratio, least, most in case["table"]:
        budget = RetryBudget.concurrency(ratio, least, clock=Clock.simulated())
        calls = [budget.enter() for _ in range(active)]
        row = f"{active} under way, {ratio:g}, {least}"
        differences += compare(row, budget.balance, most)
        # Of fewer calls than may retry, all may.
        granted = sum(call.retry() for call in calls)
        differences += compare(f"granted of {row}", granted, min(most, active))
        for call in calls:
            call.end()
    settle(case, differences)


def run_adaptive(case: Case) -> None:
    differences = []
    for executions, successes, threshold, refused in case["table"]:
        budget = RetryBudget.adaptive(case["target"], threshold, clock=Clock.simulated())
        call = budget.enter()
        for n in range(executions):
            (call.succeeded if n < successes else call.failed)()
        actual = 1 - budget.balance
        if not math.isclose(actual, refused, abs_tol=1e-9):
            row = f"{successes} of {executions} succeeded, {threshold} needed"
            differences.append(f"{row}: refused with {actual} instead of {refused}")
    settle(case, differences)


AREAS: Areas = {
    "retry_budget": run_tokens,
    "retry_throttle": run_throttle,
    "concurrency_budget": run_concurrency,
    "adaptive_throttle": run_adaptive,
}
