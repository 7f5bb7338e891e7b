"""What marks the methods of a component: handlers, checks, and listeners to configuration.

The marks are plain data on the function; :mod:`tiebeam._host` reads them when the component
joins a framework. A marked method stays an ordinary method that a test can call.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeVar

from tiebeam import _core
from tiebeam._typed import topic_of
from tiebeam.bus import HandleOptions, RespondOptions, SubscribeOptions

__all__ = ["check", "command", "on_config", "respond", "subscribe"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
MARKS = "__tiebeam_marks__"


@dataclass(frozen=True)
class HandlerMark:
    """A method that handles events, requests or a command."""

    role: Literal["subscribe", "respond", "command"]
    given: str | type[Any]
    """A pattern, or a class that has an event type."""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def pattern(self) -> str:
        """The topics it takes."""
        return topic_of(self.given)


@dataclass(frozen=True)
class CheckMark:
    """A method that checks one aspect of health."""

    kind: str
    critical: bool
    period: float | timedelta | None
    timeout: float | timedelta | None


@dataclass(frozen=True)
class ConfigMark:
    """A method that hears of changes of one part of the configuration."""

    path: str


def _mark(function: FunctionT, mark: object) -> FunctionT:
    marks: list[object] = list(getattr(function, MARKS, ()))
    marks.append(mark)
    setattr(function, MARKS, marks)
    return function


def _bare(name: str, given: object, example: str, *, classes: bool = False) -> None:
    """Refuse ``@subscribe`` without its pattern, which would mark nothing."""
    if classes and isinstance(given, type):
        topic_of(given)  # raises for one that has no event type
    elif not isinstance(given, str):
        raise TypeError(f'write @{name}("{example}"): it needs {example.split(".")[0]}... text')


def _known(name: str, given: Iterable[str], options: type) -> None:
    """Refuse a misspelt option where it stands, not when the component starts."""
    known = sorted(options.__annotations__)
    for option in given:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(known)}"
            raise TypeError(f"@{name} has no option `{option}`; {hint}")


def subscribe(pattern: str | type[Any], /, **options: Any) -> Callable[[FunctionT], FunctionT]:
    """Have the method called with every event whose type matches ``pattern``.

    Takes what :meth:`tiebeam.EventBus.subscribe` takes: a pattern or a class that has an event
    type, and options. May be given several times.
    """
    _bare("subscribe", pattern, "market_data.price_update", classes=True)
    _known("subscribe", options, SubscribeOptions)
    _core._matches(topic_of(pattern), "any")  # raises for a malformed one
    return lambda function: _mark(function, HandlerMark("subscribe", pattern, options))


def respond(event_type: str | type[Any], /, **options: Any) -> Callable[[FunctionT], FunctionT]:
    """Have requests of ``event_type`` answered with what the method returns."""
    _bare("respond", event_type, "decision.evaluate", classes=True)
    _known("respond", options, RespondOptions)
    _core.Event(topic_of(event_type))  # raises for a malformed type, and for a pattern
    return lambda function: _mark(function, HandlerMark("respond", event_type, options))


def command(event_type: str | type[Any], /, **options: Any) -> Callable[[FunctionT], FunctionT]:
    """Make the method the one handler of the command ``event_type``."""
    _bare("command", event_type, "trading.execute_order", classes=True)
    _known("command", options, HandleOptions)
    _core.Event(topic_of(event_type))
    return lambda function: _mark(function, HandlerMark("command", event_type, options))


def check(
    *,
    kind: str = "readiness",
    critical: bool = True,
    period: float | timedelta | None = None,
    timeout: float | timedelta | None = None,
) -> Callable[[FunctionT], FunctionT]:
    """Have the method run as a health check.

    Args:
        kind: ``liveness``, ``readiness``, ``dependency``, ``performance`` or ``resource``.
        critical: Whether its failure fails the component; otherwise it degrades it.
        period: Seconds between two runs; ``health.check_interval`` if left out.
        timeout: Seconds one run may take; ``health.check_timeout`` if left out.
    """
    return lambda function: _mark(function, CheckMark(kind, critical, period, timeout))


def on_config(path: str, /) -> Callable[[FunctionT], FunctionT]:
    """Have the method called as ``method(path, old, new)`` when configuration at or below
    ``path`` changes."""
    _bare("on_config", path, "components.decision_engine.threshold")
    return lambda function: _mark(function, ConfigMark(path))
