"""When a retry goes on, and what the caller gets in the end."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from tiebeam import CircuitOpen, TransientError
from tiebeam._core import Clock
from tiebeam.resilience import Backoff, CircuitBreaker, Retry

from vectors.cases import Areas, Case
from vectors.retry_schedule import backoff
from vectors.stance import compare, settle

__all__ = ["AREAS"]

Rows = list[tuple[str, Any, Any]]


class Failure(TransientError):
    """One failed attempt, with the name it has in its case."""


def run(case: Case) -> None:
    rows = _stops(case) if "table" in case else _course(case)
    settle(case, [line for row in rows for line in compare(*row)])


def _course(case: Case) -> Rows:
    clock = Clock.simulated()
    outcomes = iter(case["outcomes"])
    calls: list[float] = []
    shut = CircuitBreaker("shut", clock=clock)
    shut.force("forced_open")

    def attempt() -> str:
        calls.append(clock.monotonic())
        outcome = str(next(outcomes))
        if outcome == "breaker_open":
            shut.call(lambda: None)
        if outcome.startswith("E"):
            raise Failure(outcome)
        return outcome

    policy, expect = case["policy"], case["expect"]
    retry = Retry(max_attempts=policy["max_attempts"], backoff=backoff(policy), clock=clock)
    try:
        surfaced = retry.call(attempt)
    except Failure as error:
        surfaced = str(error)
    except CircuitOpen:
        surfaced = "breaker_open"
    sleeps = [after - before for before, after in itertools.pairwise(calls)]
    return [
        ("calls", len(calls), expect["calls"]),
        ("sleeps", sleeps, expect["sleeps"]),
        ("surfaced", surfaced, expect["surfaced"]),
    ]


LIMIT = 1.0
"""The cases with tables say how long after the first call another may begin: so many seconds."""


def _stops(case: Case) -> Rows:
    columns = case["columns"]
    rows = []
    for row in case["table"]:
        named = dict(zip(columns, row, strict=True))
        stopped = _stopped_after(named["elapsed_s"], named.get("next_wait_s", 0.0))
        rows.append((f"stop of {row}", stopped, named["stop"]))
    return rows


def _stopped_after(elapsed: float, wait: float) -> bool:
    """Whether a call that fails after `elapsed` seconds is the last one."""
    clock = Clock.simulated()
    schedule = Backoff.constant(wait, jitter="none")
    retry = Retry(max_attempts=None, max_elapsed=LIMIT, backoff=schedule, clock=clock)
    calls = 0

    def slow() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            clock.wait(elapsed)
            raise Failure("E1")

    return _raises(lambda: retry.call(slow)) and calls == 1


def _raises(call: Callable[[], Any]) -> bool:
    try:
        call()
    except Failure:
        return True
    return False


AREAS: Areas = {"retry_control": run}
