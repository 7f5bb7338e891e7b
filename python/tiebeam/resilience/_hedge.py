"""Asking twice, and taking the first answer."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

from tiebeam import _core
from tiebeam._core import Clock, RetryBudget
from tiebeam.exceptions import ConfigurationError
from tiebeam.resilience._apart import adopt
from tiebeam.resilience._decisions import tell
from tiebeam.resilience._stage import Stage, name_of, named

__all__ = ["Hedge"]

_losers: set[asyncio.Future[Any]] = set()
"""Attempts that were cancelled and have not ended yet: a loop keeps its tasks only weakly."""


class Hedge(Stage):
    """Starts a call again while the first one is still under way, and takes what comes first.

    For async functions that may be called twice without harm. Each attempt runs as a task of its
    own; the first result wins, with what it did to context variables, and the others are
    cancelled. An attempt that fails lets the next one begin at once; when all have failed, the
    error of the first is raised.

    >>> @Hedge(0.1)
    ... async def price(symbol): ...
    """

    def __init__(
        self,
        delay: float | timedelta,
        *,
        max_hedges: int = 1,
        budget: RetryBudget | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Say when, and how often.

        Args:
            delay: Seconds after an attempt has begun until the next one does; 0 starts all at
                once, below 0 one begins only when the one before has failed.
            max_hedges: Attempts beside the first.
            budget: How many there are in total; the one of the retries to the same dependency,
                best.
            name: What decisions call it; the function's name unless given.
            clock: The clock it goes by; the process's unless given.

        Raises:
            ConfigurationError: For no attempt beside the first.
        """
        if isinstance(max_hedges, bool) or not isinstance(max_hedges, int):
            raise TypeError(f"max_hedges is a whole number, got {max_hedges!r}")
        if max_hedges < 1:
            raise ConfigurationError("a hedge needs `max_hedges` of at least 1")
        if budget is not None and not isinstance(budget, RetryBudget):
            raise TypeError(f"budget is a RetryBudget, got {budget!r:.60}")
        self.name = name
        self.delay = _delay(delay)
        self.max_hedges = max_hedges
        self.budget = budget
        self.origin = self
        self._enter = budget.enter if budget is not None else None
        self._clock = clock or _core._process_clock()

    def _inside_of_retry(self) -> Hedge:
        """The same hedge inside of a retry with its budget, which has counted the call."""
        sibling = object.__new__(type(self))
        sibling.__dict__.update(self.__dict__)
        sibling._enter = self.budget.resume if self.budget is not None else None
        return sibling

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        raise TypeError(
            "a hedge cancels the attempts that lose, and a sync function cannot be cancelled; "
            "make the function async"
        )

    def _async(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def hedged(*args: Any, **kwargs: Any) -> Any:
            if not _core._resilience_active():
                return await function(*args, **kwargs)
            return await _Race(self, name_of(function), lambda: function(*args, **kwargs)).run()

        return named(hedged, function)

    def __repr__(self) -> str:
        name = "" if self.name is None else f"{self.name!r} "
        return f"<Hedge {name}{self.max_hedges} more after {self.delay:g} s>"


def _delay(given: float | timedelta) -> float:
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds < 0:
        return float(seconds)
    return _core._seconds(seconds, "delay")


async def _attempt(start: Callable[[], Awaitable[Any]], call: Any, left: _Left) -> Any:
    try:
        result = await start()
    except Exception:
        if call is not None:
            call.failed()
        raise
    else:
        if call is not None:
            call.succeeded()
        return result
    finally:
        left.context = contextvars.copy_context()


class _Left:
    """What an attempt leaves beside its result: the context variables as it had them."""

    context: contextvars.Context | None = None


class _Attempt:
    """One attempt, as a task. Its frames do not know of this: an error would keep itself alive."""

    def __init__(self, start: Callable[[], Awaitable[Any]], call: Any) -> None:
        self.left = _Left()
        self.task = asyncio.ensure_future(_attempt(start, call, self.left))

    @property
    def succeeded(self) -> bool:
        task = self.task
        return task.done() and not task.cancelled() and task.exception() is None

    def adopt(self) -> asyncio.Task[Any]:
        """Does to the caller's context what the attempt did to its own."""
        if self.left.context is not None:
            adopt(self.left.context)
        return self.task


class _Race:
    """The attempts of one call."""

    def __init__(self, hedge: Hedge, name: str, start: Callable[[], Awaitable[Any]]) -> None:
        self.hedge = hedge
        self.name = hedge.name or name
        self.start = start
        self.call = hedge._enter() if hedge._enter is not None else None
        self.left = hedge.max_hedges
        self.attempts: list[_Attempt] = []

    async def run(self) -> Any:
        self.begin()
        if self.hedge.delay == 0:
            while self.more():
                pass
        task: asyncio.Task[Any] | None = None
        try:
            task = (await self.winner()).adopt()
            self.cancel_others()
            return task.result()
        except asyncio.CancelledError as cancelled:
            await self.cancel_all(cancelled)
            raise
        finally:
            # What an attempt ended with holds its frames, and those hold us.
            del task
            self.attempts.clear()
            if self.call is not None:
                self.call.end()

    def begin(self) -> None:
        self.attempts.append(_Attempt(self.start, self.call))

    def more(self) -> bool:
        """Begin one more attempt, if there is to be one."""
        if self.left == 0 or (self.call is not None and not self.call.retry()):
            self.left = 0
            return False
        self.left -= 1
        tell(self.hedge.origin, "hedge.started", self.name, attempt=len(self.attempts) + 1)
        self.begin()
        return True

    async def winner(self) -> _Attempt:
        """The first attempt that succeeded, or the first of all when none did."""
        seen = 0
        while True:
            for attempt in self.attempts:
                if attempt.succeeded:
                    return attempt
            running = [attempt.task for attempt in self.attempts if not attempt.task.done()]
            failed = len(self.attempts) - len(running)
            if failed > seen or not running:
                seen = failed
                if not self.more() and not running:
                    return self.attempts[0]
                continue
            await self.next(running)

    async def next(self, running: Sequence[asyncio.Future[Any]]) -> None:
        """Wait until an attempt has ended, or one more is due."""
        if self.left == 0 or self.hedge.delay <= 0:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            return
        timer = asyncio.ensure_future(self.hedge._clock.sleep(self.hedge.delay))
        try:
            await asyncio.wait([*running, timer], return_when=asyncio.FIRST_COMPLETED)
            if timer.done() and all(not task.done() for task in running):
                self.more()
        finally:
            timer.cancel()

    def cancel_others(self) -> None:
        """Nobody waits for the losers: the winner's answer is what is wanted."""
        for attempt in self.attempts:
            _lose(attempt.task)

    async def cancel_all(self, cancelled: asyncio.CancelledError) -> None:
        """The call is cancelled: so are its attempts, with the same words, and waited for."""
        tasks = [attempt.task for attempt in self.attempts]
        for task in tasks:
            task.cancel(*cancelled.args[:1])
        await asyncio.wait(tasks)
        for task in tasks:
            _lose(task)


def _lose(task: asyncio.Future[Any]) -> None:
    if task.done():
        _gone(task)
    else:
        task.cancel()
        _losers.add(task)
        task.add_done_callback(_gone)


def _gone(task: asyncio.Future[Any]) -> None:
    """It has ended; nobody is to be told of a loser's error."""
    _losers.discard(task)
    if not task.cancelled():
        task.exception()
