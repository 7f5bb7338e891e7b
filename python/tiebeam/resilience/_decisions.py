"""What the stages decide: told to whoever listens, and counted."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiebeam.resilience._stage import Stage

__all__ = ["Decision", "counts", "listen", "shown", "tell"]


@dataclass(frozen=True)
class Decision:
    """One decision of one stage."""

    kind: str
    """``retry.scheduled``, ``circuit_breaker.open``, ``bulkhead.rejected``, ..."""
    name: str
    """The stage's, or that of the function that it stands around."""
    stage: Stage
    """The stage itself."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What belongs to it: ``attempt``, ``wait``, ``reason``, ``error``, ..."""

    @property
    def changes(self) -> bool:
        """Whether it tells of a new state, and not of what became of one call."""
        return "to" in self.facts


_lock = threading.Lock()
_listeners: tuple[Callable[[Decision], object], ...] = ()
_counts: dict[tuple[str, str], int] = {}


def listen(listener: Callable[[Decision], object]) -> Callable[[], None]:
    """Have ``listener`` called with every decision, on the thread that makes it.

    An exception it raises is reported as unraisable, and disturbs nothing.

    Returns:
        A function that ends this.
    """
    global _listeners

    def hear(decision: Decision) -> object:
        return listener(decision)  # one that listens twice is two, each with its own end

    def end() -> None:
        global _listeners
        with _lock:
            _listeners = tuple(other for other in _listeners if other is not hear)

    with _lock:
        _listeners = (*_listeners, hear)

    return end


def counts() -> dict[tuple[str, str], int]:
    """How many decisions there were, by kind and name."""
    with _lock:
        return dict(_counts)


def tell(stage: Stage, kind: str, name: str, **facts: Any) -> None:
    """A stage has decided something."""
    with _lock:
        _counts[kind, name] = _counts.get((kind, name), 0) + 1
        listeners = _listeners
    if not listeners:
        return
    decision = Decision(kind, name, stage, facts)
    for listener in listeners:
        _tell_one(listener, decision)


def _tell_one(listener: Callable[[Decision], object], decision: Decision) -> None:
    try:
        listener(decision)
    except Exception as error:
        report = SimpleNamespace(
            exc_type=type(error),
            exc_value=error,
            exc_traceback=error.__traceback__,
            err_msg="a listener to decisions failed",
            object=listener,
        )
        sys.unraisablehook(report)


def shown(error: BaseException) -> str:
    """An exception in a few words, whatever its ``__str__`` does."""
    try:
        text = str(error)
    except Exception:
        text = "(its message could not be formatted)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
