"""A sync function on a thread of its own, for callers that may not wait for its end."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from tiebeam import _core

__all__ = ["TOO_LATE", "Outcome", "adopt", "run_apart"]

TOO_LATE = "it took longer than its caller had time for"
"""What breakers say of a call that a time limit around them has ended, or left behind."""


class Outcome:
    """What the function came to."""

    def __init__(self, context: contextvars.Context, apart: _core._Apart) -> None:
        self._context = context
        self._apart = apart
        self.result: Any = None
        self.error: BaseException | None = None

    def leave_behind(self) -> None:
        """Nobody waits for it any more: for the breakers inside, the call has failed."""
        self._apart.leave_behind(TOO_LATE)

    def take(self) -> Any:
        """The result, or the error; context variables are as the function left them."""
        adopt(self._context)
        error = self.error
        if error is None:
            return self.result
        try:
            raise error
        finally:
            self.error = None
            del error


_MISSING: Any = object()


def adopt(context: contextvars.Context) -> None:
    """Have the context variables of the caller be as they are in ``context``."""
    for variable, value in context.items():
        if variable.get(_MISSING) is not value:
            variable.set(value)


def run_apart(
    function: Callable[..., Any], args: Any, kwargs: Any
) -> tuple[_core._Handover, Outcome]:
    """Start ``function`` on a new thread, in a copy of the caller's context."""
    done = _core._Handover()
    context = contextvars.copy_context()
    apart = _core._Apart()
    outcome = Outcome(context, apart)

    def run() -> None:
        apart.begin()
        try:
            outcome.result = context.run(function, *args, **kwargs)
        except BaseException as error:
            outcome.error = error
        finally:
            done.set()

    # Nobody waits for it at the end of the process: it may never come back.
    name = getattr(function, "__name__", "call")
    threading.Thread(target=run, name=f"tiebeam-limited-{name}", daemon=True).start()
    return done, outcome
