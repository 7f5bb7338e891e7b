"""How long a retry waits before each further attempt, and how many of them there are."""

from __future__ import annotations

import contextlib
from typing import Any

from tiebeam import TransientError
from tiebeam._core import Clock
from tiebeam.resilience import Backoff, Retry

from vectors.cases import Areas, Case
from vectors.stance import is_mistake, settle

__all__ = ["AREAS", "backoff"]

NEAR = 1e-9
"""A wait is a whole number of nanoseconds."""

SPREAD: dict[str, dict[str, Any]] = {
    "additive_then_cap": {"jitter": "factor"},
    "cap_then_additive_fraction": {"jitter": "factor"},
}
"""Ways of others to spread waits, and what spreads them here upwards, too."""


def backoff(policy: dict[str, Any]) -> Backoff:
    """The schedule that a policy describes; the unit of its figures is a second here."""
    kind, base = policy["kind"], policy["base"]
    options: dict[str, Any] = {}
    if "max" in policy:
        options["max_delay"] = policy["max"]
    if kind == "decorrelated":  # random in itself, as the next
        return Backoff.decorrelated(base, **options)
    if kind == "decorrelated_v2":
        return Backoff.smooth(base, **options)
    jitter = policy.get("jitter", "none")
    options.update(SPREAD.get(jitter, {"jitter": jitter}))
    if options["jitter"] in ("factor", "down"):
        options["jitter_amount"] = policy.get("amount", 1)
    if kind == "constant":
        return Backoff.constant(base, **options)
    if kind == "linear":
        return Backoff.linear(base, policy["increment"], **options)
    if kind in ("exponential", "exponential_trunc"):
        return Backoff.exponential(base, policy["factor"], **options)
    if kind == "fibonacci":
        return Backoff.fibonacci(base, **options)
    if kind == "geometric_steps":
        longest = options.pop("max_delay")
        return Backoff.geometric(base, longest, policy["steps"], **options)
    raise AssertionError(f"unknown kind of schedule {kind!r}")


def run(case: Case) -> None:
    policy, expected, random = case["policy"], case["expect"]["delays"], case.get("random")
    schedule = backoff(policy)
    if isinstance(expected, dict):
        actual = [schedule.delay(expected["attempt"], random=random)]
        expected = [expected["delay"]]
    else:
        actual = schedule.delays(len(expected), random=random)
    if "max_retries" in policy:
        waits = _number_of_waits(schedule, policy["max_retries"])
        actual = [wait if n < waits else None for n, wait in enumerate(actual)]
    settle(case, _differences(actual, expected))
    if is_mistake(case) and "jitter" in policy:
        _spreads_below_the_cap(schedule, policy["max"])


def _differences(actual: list[float | None], expected: list[float | None]) -> list[str]:
    return [
        f"wait {n} is {ours} instead of {theirs}"
        for n, (ours, theirs) in enumerate(zip(actual, expected, strict=True), 1)
        if not _same(ours, theirs)
    ]


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= NEAR * max(1.0, abs(other))


def _number_of_waits(schedule: Backoff, retries: int) -> int:
    calls: list[float] = []
    clock = Clock.simulated()
    retry = Retry(max_attempts=1 + retries, backoff=schedule, budget=None, clock=clock)

    def fail() -> None:
        calls.append(clock.monotonic())
        raise TransientError("no")

    with contextlib.suppress(TransientError):
        retry.call(fail)
    return len(calls) - 1


def _spreads_below_the_cap(schedule: Backoff, cap: float) -> None:
    """What the mistakes are about: the cap holds, and clients that have reached it are spread."""
    lowest, highest = schedule.delays(50, random=0), schedule.delays(50, random=1)
    assert all(wait is not None and wait <= cap for wait in highest)
    assert lowest[-1] != highest[-1]


AREAS: Areas = {"retry_schedule": run}
