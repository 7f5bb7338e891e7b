"""What to give instead."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from tiebeam import _core
from tiebeam.exceptions import ConfigurationError
from tiebeam.resilience._breaker import Errors
from tiebeam.resilience._decisions import shown, tell
from tiebeam.resilience._stage import (
    Coroutine,
    Stage,
    checked_types,
    is_async,
    name_of,
    named,
    refuse_coroutine,
)

__all__ = ["Fallback"]

_MISSING: Any = object()


class Fallback(Stage):
    """Gives a value, or what a function makes of the error, where a call fails for good.

    >>> @Fallback(value=None, on=CircuitOpen)
    ... async def price(symbol): ...
    """

    def __init__(
        self,
        handler: Callable[[Exception], Any] | None = None,
        *,
        value: Any = _MISSING,
        on: Errors | None = None,
        name: str | None = None,
    ) -> None:
        """Say what, and after which errors.

        Args:
            handler: Called with the error; what it returns is the result of the call. It may be
                a coroutine function where what it stands around is one. What it raises has the
                error as its context.
            value: The result, instead of a handler.
            on: The exceptions that it is for, as classes or as a function that says so of one;
                every ``Exception`` unless given.
            name: What decisions call it; the function's name unless given.

        Raises:
            ConfigurationError: For both a handler and a value, or neither.
        """
        if (handler is None) == (value is _MISSING):
            raise ConfigurationError("a fallback needs a handler or a value, and only one of them")
        if handler is not None and not callable(handler):
            raise ConfigurationError(
                f"a fallback's handler is called with the error, got {handler!r:.60}; "
                "for a plain value write Fallback(value=...)"
            )
        self.name = name
        self._handler = handler
        self._value = value
        self._on = checked_types("on", on)

    def _takes(self, error: Exception) -> bool:
        on = self._on
        if not _core._resilience_active() or _core._left_behind():
            return False
        if on is None:
            return True
        return isinstance(error, on) if isinstance(on, tuple) else bool(on(error))

    def _instead(self, function: Callable[..., Any], error: Exception) -> Any:
        tell(self, "fallback.used", self.name or name_of(function), error=shown(error))
        return self._value if self._handler is None else self._handler(error)

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if self._handler is not None and is_async(self._handler):
            raise TypeError(
                f"{self!r} has an async handler, and stands around the sync {name_of(function)}"
            )

        def falling_back(*args: Any, **kwargs: Any) -> Any:
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                if not self._takes(error):
                    raise
                result = self._instead(function, error)
                if type(result) is Coroutine:
                    refuse_coroutine(result, self._handler or function)
                return result
            if type(result) is Coroutine:
                refuse_coroutine(result, function)
            return result

        return named(falling_back, function)

    def _async(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def falling_back(*args: Any, **kwargs: Any) -> Any:
            try:
                return await function(*args, **kwargs)
            except Exception as error:
                if not self._takes(error):
                    raise
                result = self._instead(function, error)
                return await result if inspect.isawaitable(result) else result

        return named(falling_back, function)

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        return f"<Fallback{name}>"
