"""So many calls at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from tiebeam import _core
from tiebeam._core import Clock
from tiebeam.exceptions import BulkheadFull
from tiebeam.resilience._decisions import tell
from tiebeam.resilience._inside import Block
from tiebeam.resilience._stage import Coroutine, named, refuse_coroutine, refuse_late

__all__ = ["Bulkhead"]


class Bulkhead(Block):
    """Lets so many calls run at once, and so many wait in line; others are refused.

    Those that wait are served in the order in which they came, sync and async callers in one
    line. A refused call raises :class:`~tiebeam.BulkheadFull`.

    >>> exchange = Bulkhead(4, name="exchange", max_waiting=20, max_wait=1.0)
    """

    def __init__(
        self,
        max_concurrent: int,
        *,
        max_waiting: int = 0,
        max_wait: float | timedelta | None = None,
        name: str = "bulkhead",
        clock: Clock | None = None,
    ) -> None:
        """Set the number of places.

        Args:
            max_concurrent: Calls at once.
            max_waiting: Calls that may wait for a place.
            max_wait: The longest wait, in seconds; ``None`` waits until there is a place.
            name: What errors and decisions call it.
            clock: The clock it goes by; the process's unless given.

        Raises:
            ConfigurationError: For no place at all.
        """
        self.name: str = name
        self.max_concurrent = max_concurrent
        self._core = _core._Bulkhead(name, max_concurrent, max_waiting, max_wait, clock)

    @property
    def running(self) -> int:
        """Calls that have a place."""
        return self._core.load[0]

    @property
    def waiting(self) -> int:
        """Calls that wait for one."""
        return self._core.load[1]

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def placed(*args: Any, **kwargs: Any) -> Any:
            taken = self._enter()
            try:
                result = function(*args, **kwargs)
                if type(result) is Coroutine:
                    refuse_coroutine(result, function)
                return result
            finally:
                self._leave(taken, None)

        return named(placed, function)

    def _async(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def placed(*args: Any, **kwargs: Any) -> Any:
            taken = await self._enter_async()
            try:
                return await function(*args, **kwargs)
            finally:
                self._leave(taken, None)

        return named(placed, function)

    def _enter(self) -> Any:
        taken = self._core.enter()
        if taken is False:
            try:
                taken = self._core.arrive_sync()
            except BulkheadFull as refused:
                self._refused(refused)
                raise
            try:
                refuse_late(self.name)
            except BaseException:
                self._leave(taken, None)
                raise
        return taken

    async def _enter_async(self) -> Any:
        taken = self._core.enter()
        if taken is False:
            try:
                taken = await self._core.arrive()
            except BulkheadFull as refused:
                self._refused(refused)
                raise
        return taken

    def _leave(self, given: Any, error: BaseException | None) -> None:
        if given:
            self._core.leave()

    def _refused(self, refused: BulkheadFull) -> None:
        tell(self, "bulkhead.rejected", self.name, reason=refused.context.get("reason"))

    def __repr__(self) -> str:
        running, waiting = self._core.load
        return f"<Bulkhead {self.name!r} {running} of {self.max_concurrent}, {waiting} wait>"
