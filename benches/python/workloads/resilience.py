"""What breakers, retries and the like add to a call that succeeds.

The function returns its argument, and does nothing else. Before anything is measured, each wrapper
has to prove that it does what it is for.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any

from tiebeam.resilience import Bulkhead, CircuitBreaker, Pipeline, RateLimiter, Retry, Timeout

from harness.contender import Contender, Run
from harness.goal import Goal, at_least, at_most
from harness.overhead import added, added_async, alone, alone_async
from harness.race import race
from harness.settings import Settings
from harness.table import Table
from harness.tally import Miscount, Tally
from peers.wrappers import (
    ATTEMPTS,
    BREAKERS,
    BY_HAND,
    FAILURES,
    FIRST_WAIT,
    RETRIES,
    SYNC_BREAKERS,
    Way,
)
from workloads import Outcome

TITLES = {"sync": "what it adds to a sync call", "async": "what it adds to an async call"}
BREAKER, RETRY, BOTH = "tiebeam breaker", "tiebeam retry", "tiebeam retry + breaker"
LIMITED = "tiebeam retry + breaker + timeout"
BARE = "(the bare call by itself)"
MANY = 1_000_000_000


def measure(settings: Settings) -> Outcome:
    sync = _race("sync", _ours(), [*BREAKERS, *SYNC_BREAKERS, *RETRIES], settings)
    in_async = _race("async", [*_ours(), *_limited()], [*BREAKERS, *RETRIES], settings)
    goals = [*_goals("sync", sync), *_goals("async", in_async)]
    goals.append(_within("retry, breaker and timeout, async", in_async, LIMITED, 1.0))
    return Outcome([sync, in_async], goals)


def _race(mode: str, ours: list[Way], peers: list[Way], settings: Settings) -> Table:
    def contender(way: Way) -> Contender:
        return Contender(way.name, partial(_contender, way, mode), way.needs, way.share)

    contenders = [
        *map(contender, ours),
        Contender(BARE, partial(_bare, mode)),
        *map(contender, [BY_HAND, *peers]),
    ]
    return race(TITLES[mode], contenders, settings, unit="ns per call")


def _goals(mode: str, table: Table) -> list[Goal]:
    tenacity = _ratio(table, "tenacity", RETRY)
    return [
        _within(f"breaker, {mode}", table, BREAKER, 0.5),
        at_least(f"retry, {mode}", 40, "x tenacity", tenacity),
        _within(f"retry and breaker, {mode}", table, BOTH, 1.0),
    ]


def _within(what: str, table: Table, ours: str, most: float) -> Goal:
    return at_most(what, most, "x circuitbreaker", _ratio(table, ours, "circuitbreaker"))


def _ratio(table: Table, name: str, other: str) -> float | None:
    row, than = table.row(name), table.row(other)
    return table.times(row, than) if row and than else None


# -- tiebeam ------------------------------------------------------------------------------


def _ours() -> list[Way]:
    return [
        Way(BREAKER, lambda function: _breaker()(function), breaks=True),
        Way(RETRY, lambda function: _retry()(function), retries=True),
        Way(
            BOTH,
            lambda function: Pipeline(_retry(), _breaker())(function),
            breaks=True,
            retries=True,
        ),
        Way("tiebeam bulkhead", Bulkhead(1_000)),
        Way("tiebeam rate limiter", RateLimiter(MANY)),
    ]


def _limited() -> list[Way]:
    """For coroutines: a sync function with a time limit runs on a thread of its own."""
    return [
        Way("tiebeam timeout", Timeout(2)),
        Way(
            LIMITED,
            lambda function: Pipeline(_retry(), _breaker(), Timeout(2))(function),
            breaks=True,
            retries=True,
        ),
        Way(
            "tiebeam, all three in a total timeout",
            lambda function: Pipeline(Timeout(10), _retry(), _breaker(), Timeout(2))(function),
            breaks=True,
            retries=True,
        ),
    ]


def _breaker() -> CircuitBreaker:
    return CircuitBreaker("bench", threshold=FAILURES)


def _retry() -> Retry:
    return Retry("bench", max_attempts=ATTEMPTS, on=OSError, initial_delay=FIRST_WAIT)


# -- the call -----------------------------------------------------------------------------


def _sync_call(x: object) -> object:
    return x


async def _async_call(x: object) -> object:
    return x


async def _contender(way: Way, mode: str, _tally: Tally) -> AsyncGenerator[Run, None]:
    await prove(way, mode)
    if mode == "sync":
        yield added(_sync_call, way.wrap(_sync_call))
    else:
        yield added_async(_async_call, way.wrap(_async_call))


async def _bare(mode: str, _tally: Tally) -> AsyncGenerator[Run, None]:
    yield alone(_sync_call) if mode == "sync" else alone_async(_async_call)


# -- the proof ----------------------------------------------------------------------------


async def prove(way: Way, mode: str) -> None:
    """Raise :class:`Miscount` unless the wrapper hands on results, and does what it is for."""
    expected = [(0, 1, 1)]  # failures, calls of the wrapper, calls that arrive
    if way.retries:
        expected.append((ATTEMPTS - 1, 1, ATTEMPTS))
    if way.breaks:
        expected.append((MANY, FAILURES + 2, FAILURES))
    for failures, calls, arriving in expected:
        seen: list[object] = []
        wrapped = way.wrap(_failing(failures, seen, mode))
        given = object()
        results = [await _result(wrapped, given) for _ in range(calls)]
        if len(seen) != arriving:
            raise Miscount(f"{way.name}, {mode}: {len(seen)} calls arrived, not {arriving}")
        if results[-1] is not (given if failures < arriving else None):
            raise Miscount(f"{way.name}, {mode}: the last result is {results[-1]}")


async def _result(wrapped: Callable[..., Any], given: object) -> object:
    """``None`` if it fails; each wrapper has an error of its own for an open breaker."""
    try:
        result = wrapped(given)
        return await result if inspect.isawaitable(result) else result
    except Exception:
        return None


def _failing(failures: int, seen: list[object], mode: str) -> Callable[..., Any]:
    """A function that fails so often, and then returns its argument."""

    def call(x: object) -> object:
        seen.append(x)
        if len(seen) <= failures:
            raise OSError("the dependency is down")
        return x

    async def call_async(x: object) -> object:
        return call(x)

    return call if mode == "sync" else call_async
