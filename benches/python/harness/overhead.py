"""What a wrapper adds to a call that succeeds, measured beside the bare call.

The two take turns in short batches, and a figure is the median of the differences. Each is called
from a copy of the loop that is its own: the interpreter is quickest at a call site that always
sees the same function, which is what most call sites do.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from itertools import repeat
from types import FunctionType
from typing import Any

from harness.contender import Run

BATCHES = 50
"""Of a round, for the wrapper and for the bare call."""

Function = Callable[[object], object]
Coroutine = Callable[[object], Awaitable[object]]


def added(bare: Function, wrapped: Function) -> Run:
    """Nanoseconds per call of ``wrapped`` that ``bare`` does not take."""
    plain, around = _own(_calls), _own(_calls)

    def run(calls: int) -> float:
        size = max(1, calls // BATCHES)
        return statistics.median(
            (around(wrapped, size) - plain(bare, size)) / size for _ in range(BATCHES)
        )

    return run


def added_async(bare: Coroutine, wrapped: Coroutine) -> Run:
    """The same for coroutine functions; each call is awaited."""
    plain, around = _own(_awaits), _own(_awaits)

    async def run(calls: int) -> float:
        size = max(1, calls // BATCHES)
        return statistics.median(
            [(await around(wrapped, size) - await plain(bare, size)) / size for _ in range(BATCHES)]
        )

    return run


def alone(bare: Function) -> Run:
    """Nanoseconds per call of ``bare``, the loop included."""
    plain = _own(_calls)

    def run(calls: int) -> float:
        size = max(1, calls // BATCHES)
        return statistics.median(plain(bare, size) / size for _ in range(BATCHES))

    return run


def alone_async(bare: Coroutine) -> Run:
    """The same for a coroutine function."""
    plain = _own(_awaits)

    async def run(calls: int) -> float:
        size = max(1, calls // BATCHES)
        return statistics.median([await plain(bare, size) / size for _ in range(BATCHES)])

    return run


def _own(loop: Any) -> Any:
    """A copy, with call sites that have seen nothing yet."""
    return FunctionType(loop.__code__.replace(), loop.__globals__)


def _calls(function: Function, calls: int) -> int:
    argument = object()
    begin = time.perf_counter_ns()
    for _ in repeat(None, calls):
        function(argument)
    return time.perf_counter_ns() - begin


async def _awaits(function: Coroutine, calls: int) -> int:
    argument = object()
    begin = time.perf_counter_ns()
    for _ in repeat(None, calls):
        await function(argument)
    return time.perf_counter_ns() - begin
