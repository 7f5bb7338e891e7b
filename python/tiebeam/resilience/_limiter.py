"""So many calls per period."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from tiebeam import _core
from tiebeam._core import Clock
from tiebeam.exceptions import RateLimited
from tiebeam.resilience._decisions import tell
from tiebeam.resilience._inside import Block
from tiebeam.resilience._stage import Coroutine, named, refuse_coroutine, refuse_late

__all__ = ["RateLimiter"]


class RateLimiter(Block):
    """Lets so many calls begin per period; others wait for their turn, or are refused.

    Periods begin at multiples of their length on the clock, and each brings ``limit`` new
    permits. A call that may wait reserves a permit of a period to come, so that callers are
    served in their order; one that is cancelled as it waits gives it back. A refused call raises
    :class:`~tiebeam.RateLimited`.

    >>> exchange = RateLimiter(10, period=1.0, max_wait=2.0, name="exchange")
    """

    def __init__(
        self,
        limit: int,
        *,
        period: float | timedelta = 1.0,
        max_wait: float | timedelta = 0.0,
        name: str = "rate_limiter",
        clock: Clock | None = None,
    ) -> None:
        """Set the rate.

        Args:
            limit: Calls per period.
            period: The period in seconds.
            max_wait: The longest wait for a permit, in seconds; 0 never waits.
            name: What errors and decisions call it.
            clock: The clock it goes by; the process's unless given.

        Raises:
            ConfigurationError: For a limit or a period of zero.
        """
        self.name: str = name
        self.limit = limit
        self._clock = clock or _core._process_clock()
        self._core = _core._Limiter(name, limit, period, max_wait, clock)

    @property
    def available(self) -> int:
        """Permits left in this period; below zero when later ones are reserved."""
        return self._core.available

    def wait_for(self, permits: int = 1) -> float:
        """How long ``permits`` would have to wait now, in seconds; takes none."""
        return self._core.wait_for(permits)

    def acquire(self, permits: int = 1) -> float:
        """Take permits for code that waits by itself: it may begin after so many seconds.

        Raises:
            RateLimited: When that would be longer than ``max_wait``; none is taken then.
        """
        try:
            return self._core.enter(permits)
        except RateLimited as refused:
            self._refused(refused)
            raise

    def _refused(self, refused: RateLimited) -> None:
        tell(self, "rate_limiter.rejected", self.name, retry_after=refused.retry_after)

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def limited(*args: Any, **kwargs: Any) -> Any:
            self._enter()
            result = function(*args, **kwargs)
            if type(result) is Coroutine:
                refuse_coroutine(result, function)
            return result

        return named(limited, function)

    def _async(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def limited(*args: Any, **kwargs: Any) -> Any:
            await self._enter_async()
            return await function(*args, **kwargs)

        return named(limited, function)

    def _reserve(self) -> _core._Reservation | None:
        """A permit to wait for, unless there is one now."""
        try:
            reserved = self._core.reserve()
        except RateLimited as refused:
            self._refused(refused)
            raise
        if reserved is not None:
            try:
                tell(self, "rate_limiter.delayed", self.name, wait=reserved.wait)
            except BaseException:  # a listener's: the call does not begin
                reserved.give_back()
                raise
        return reserved

    def _enter(self) -> Any:
        reserved = self._reserve()
        if reserved is None:
            return
        try:
            self._clock.wait(reserved.wait)
            refuse_late(self.name)
        except BaseException:  # by a signal, or too late: the call does not begin
            reserved.give_back()
            raise

    async def _enter_async(self) -> Any:
        reserved = self._reserve()
        if reserved is None:
            return
        try:
            await self._clock.sleep(reserved.wait)
        except BaseException:  # cancelled, or never to go on: the call does not begin
            reserved.give_back()
            raise

    def _leave(self, given: Any, error: BaseException | None) -> None:
        """A permit is spent."""

    def __repr__(self) -> str:
        return f"<RateLimiter {self.name!r} {self.available} of {self.limit} left>"
