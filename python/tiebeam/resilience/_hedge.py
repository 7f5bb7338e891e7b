"""Asking twice, and taking the first answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from tiebeam import _core
from tiebeam._core import Clock, RetryBudget
from tiebeam.exceptions import ConfigurationError
from tiebeam.resilience._decisions import tell
from tiebeam.resilience._stage import Stage, name_of

__all__ = ["Hedge"]

_losers: set[asyncio.Task[Any]] = set()
"""Attempts that were cancelled and have not ended yet: a loop keeps its tasks only weakly."""


class Hedge(Stage):
    """Starts a call again while the first one is still under way, and takes what comes first.

    For async functions that may be called twice without harm. Each attempt runs as a task of its
    own; the first result wins, and the others are cancelled. An attempt that fails lets the next
    one begin at once; when all have failed, the error of the first is raised.

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
        if max_hedges < 1:
            raise ConfigurationError("a hedge needs `max_hedges` of at least 1")
        if isinstance(delay, timedelta):
            delay = delay.total_seconds()
        self.name = name
        self.delay = delay if delay < 0 else _core._seconds(delay, "delay")
        self.max_hedges = max_hedges
        self.budget = budget
        self._clock = clock or _core._process_clock()

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

        return hedged

    def __repr__(self) -> str:
        name = "" if self.name is None else f"{self.name!r} "
        return f"<Hedge {name}{self.max_hedges} more after {self.delay:g} s>"


class _Race:
    """The attempts of one call."""

    def __init__(self, hedge: Hedge, name: str, start: Callable[[], Awaitable[Any]]) -> None:
        self.hedge = hedge
        self.name = hedge.name or name
        self.start = start
        self.call = hedge.budget.enter() if hedge.budget is not None else None
        self.left = hedge.max_hedges
        self.attempts: list[asyncio.Future[Any]] = []

    async def run(self) -> Any:
        self.begin()
        if self.hedge.delay == 0:
            while self.more():
                pass
        try:
            winner = await self.winner()
        finally:
            self.cancel_others()
            if self.call is not None:
                self.call.end()
        return winner.result()

    def begin(self) -> None:
        self.attempts.append(asyncio.ensure_future(self.start()))

    def more(self) -> bool:
        """Begin one more attempt, if there is to be one."""
        if self.left == 0 or (self.call is not None and not self.call.retry()):
            self.left = 0
            return False
        self.left -= 1
        tell(self.hedge, "hedge.started", self.name, attempt=len(self.attempts) + 1)
        self.begin()
        return True

    async def winner(self) -> asyncio.Future[Any]:
        """The first attempt that succeeded, or the first of all when none did."""
        seen = 0
        while True:
            running = [attempt for attempt in self.attempts if not attempt.done()]
            for attempt in self.attempts:
                if attempt.done() and not attempt.cancelled() and attempt.exception() is None:
                    return attempt
            failed = len(self.attempts) - len(running)
            if failed > seen or not running:
                seen = failed
                if not self.more() and not running:
                    return self.attempts[0]
                continue
            await self.next(running)

    async def next(self, running: list[asyncio.Future[Any]]) -> None:
        """Wait until an attempt has ended, or one more is due."""
        if self.left == 0 or self.hedge.delay <= 0:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            return
        timer = asyncio.ensure_future(self.hedge._clock.sleep(self.hedge.delay))
        try:
            await asyncio.wait([*running, timer], return_when=asyncio.FIRST_COMPLETED)
            if timer.done() and all(not attempt.done() for attempt in running):
                self.more()
        finally:
            timer.cancel()

    def cancel_others(self) -> None:
        for attempt in self.attempts:
            if attempt.done():
                if not attempt.cancelled():
                    attempt.exception()  # seen: nobody is to be told of a loser's error
            elif isinstance(attempt, asyncio.Task):
                attempt.cancel()
                _losers.add(attempt)
                attempt.add_done_callback(_gone)


def _gone(loser: asyncio.Task[Any]) -> None:
    _losers.discard(loser)
    if not loser.cancelled():
        loser.exception()
