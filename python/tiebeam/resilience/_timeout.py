"""Time limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tiebeam import _core
from tiebeam._core import Clock
from tiebeam._options import Duration
from tiebeam.resilience._apart import run_apart
from tiebeam.resilience._decisions import tell
from tiebeam.resilience._inside import Block
from tiebeam.resilience._stage import Coroutine, name_of, named, refuse_coroutine

__all__ = ["Timeout"]


class Timeout(Block):
    """Gives a call so much time: :class:`~tiebeam.TimeoutExceeded` afterwards.

    An async call is cancelled, and what it raises after that is the cause of the error. A sync
    function cannot be interrupted: it runs on a thread of its own, with the context variables of
    the caller, and goes on there while the caller gets the error; its result is dropped, and for
    a :class:`CircuitBreaker` inside of the limit it has failed then. Outside
    of a :class:`Retry` the limit is one for all attempts, and no attempt begins that would have no
    time; inside, it is one for each.

    >>> @Timeout(2.0)
    ... async def price(symbol): ...
    """

    def __init__(
        self, seconds: Duration, name: str | None = None, *, clock: Clock | None = None
    ) -> None:
        """Set a limit.

        Args:
            seconds: The longest a call may take.
            name: What errors and decisions call it; the function's name unless given.
            clock: The clock it goes by; the process's unless given.

        Raises:
            ConfigurationError: For a limit of zero.
        """
        self.name = name
        self.seconds = _core._seconds(seconds, "seconds")
        self._clock = clock or _core._process_clock()
        self._core = _core._TimeLimit(name, seconds, self._told, clock)

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def limited(*args: Any, **kwargs: Any) -> Any:
            if not _core._resilience_active():
                return function(*args, **kwargs)
            begun = self._clock.monotonic()
            done, outcome = run_apart(function, args, kwargs)
            try:
                came = done.wait(self._clock, self.seconds)
            except BaseException:  # a signal's: nobody waits for the call any more
                outcome.leave_behind()
                raise
            if came and self._clock.is_virtual:
                # The function moves such a clock itself: which thread was quicker says nothing.
                came = self._clock.monotonic() - begun <= self.seconds
            if not came:
                outcome.leave_behind()
                self._tell(function)
                raise self._core.exceeded(name_of(function))
            result = outcome.take()
            if type(result) is Coroutine:
                refuse_coroutine(result, function)
            return result

        return named(limited, function)

    def _async(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        bound = self._core.bound

        def limited(*args: Any, **kwargs: Any) -> Any:
            return bound(function(*args, **kwargs))

        return named(limited, function)

    def _refuse_sync(self) -> None:
        raise TypeError(
            "nothing can interrupt a block of sync code; use `async with`, or put what may take "
            "long into a function and decorate that"
        )

    async def _enter_async(self) -> Any:
        return self._core.open()

    def _leave(self, given: Any, error: BaseException | None) -> None:
        if given is not None and given.close(error):
            self._tell(None)
            raise self._core.exceeded("block") from error

    def _told(self, name: str) -> None:
        tell(self, "timeout.exceeded", name, limit=self.seconds)

    def _tell(self, function: Callable[..., Any] | None) -> None:
        self._told(self.name or ("block" if function is None else name_of(function)))

    def __repr__(self) -> str:
        name = "" if self.name is None else f"{self.name!r} "
        return f"<Timeout {name}{self.seconds:g} s>"
