"""What marks the methods of a component: handlers, checks, and listeners to configuration.

The marks are plain data on the function; :mod:`tiebeam._host` reads them when the component
joins a framework. A marked method stays an ordinary method that a test can call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeVar

from tiebeam import _core
from tiebeam._hooks import is_async
from tiebeam._options import check as check_options
from tiebeam._routes import route
from tiebeam._typed import topic_of

__all__ = ["check", "command", "on_config", "on_error", "respond", "subscribe"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
MarkT = TypeVar("MarkT")
Role = Literal["subscribe", "respond", "command"]
MARKS = "__tiebeam_marks__"


@dataclass(frozen=True)
class HandlerMark:
    """A method that handles events, requests or a command."""

    role: Role
    given: str | type[Any]
    """A pattern, or a class that has an event type."""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def pattern(self) -> str:
        """The topics it takes."""
        return topic_of(self.given)


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


def _handler(role: Role, given: Any, options: dict[str, Any]) -> Callable[[FunctionT], FunctionT]:
    check_options(role, options, sign="@")

    def mark(function: FunctionT) -> FunctionT:
        # What a bus would refuse is refused where it stands, not when the component starts.
        core_role = "handle" if role == "command" else role
        _core._check_options(core_role, is_async(function), **options)
        return _mark(function, HandlerMark(role, given, options))

    return mark


def subscribe(pattern: str | type[Any], /, **options: Any) -> Callable[[FunctionT], FunctionT]:
    """Have the method called with every event whose type matches ``pattern``.

    Takes what :meth:`tiebeam.EventBus.subscribe` takes: a pattern or a class that has an event
    type, and options. May be given several times.
    """
    _bare("subscribe", pattern, "market_data.price_update", classes=True)
    _core._matches(topic_of(pattern), "any")  # raises for a malformed one
    return _handler("subscribe", pattern, options)


def respond(event_type: str | type[Any], /, **options: Any) -> Callable[[FunctionT], FunctionT]:
    """Have requests of ``event_type`` answered with what the method returns."""
    _bare("respond", event_type, "decision.evaluate", classes=True)
    _core.Event(topic_of(event_type))  # raises for a malformed type, and for a pattern
    return _handler("respond", event_type, options)


def command(event_type: str | type[Any], /, **options: Any) -> Callable[[FunctionT], FunctionT]:
    """Make the method the one handler of the command ``event_type``."""
    _bare("command", event_type, "trading.execute_order", classes=True)
    _core.Event(topic_of(event_type))
    return _handler("command", event_type, options)


def on_error(
    *,
    category: str | None = None,
    component: str | None = None,
    error_type: type[BaseException] | str | None = None,
    final: bool | None = None,
    **options: Any,
) -> Callable[[FunctionT], FunctionT]:
    """Have the method called with errors of the system: the events ``system.error.<category>``.

    Each failed attempt of a handler and each failed hook is one. Its payload says ``category``,
    ``error_type``, ``message`` and ``traceback``, whose it is (``component``, ``subscription`` or
    ``hook``), what was handled (``event_id``, ``event_type``, ``correlation_id``, ``priority``),
    which ``attempt`` it was, whether it was the ``final`` one, and what is done about it
    (``action``). A failure of this method is logged and kept as a dead letter, and is no error of
    this kind again.

    Args:
        category: Of this category: ``transient``, ``permanent``, ``configuration``,
            ``dependency`` or ``internal``; all unless given.
        component: Of this component.
        error_type: Of exactly this class, or of the class of this name; not of those that derive
            from it.
        final: Only those after which there is no further attempt, or only the others.
        **options: As for :func:`subscribe`. Unless given, the oldest are dropped when more come
            than the method can take.

    Raises:
        ConfigurationError: For a category that there is not.
    """
    pattern, options = route(category, component, error_type, final, options)
    return _handler("subscribe", pattern, options)


def _with_parentheses(cls: type[MarkT]) -> type[MarkT]:
    """Refuse ``@check`` without its parentheses, whose function would be taken for an option."""
    made = cls.__init__

    @functools.wraps(made)
    def checked(self: MarkT, *bare: Any, **options: Any) -> None:
        if bare:
            raise TypeError(
                "write @check(), with parentheses, and name its options, such as @check(period=5)"
            )
        made(self, **options)

    cls.__init__ = checked  # type: ignore[method-assign,assignment]
    return cls


@_with_parentheses
@dataclass(frozen=True, kw_only=True)
class check:
    """Have the method run as a health check.

    What it returns is explained at :class:`~tiebeam.Health`.

    Args:
        kind: ``liveness``, ``readiness``, ``dependency``, ``performance`` or ``resource``.
        critical: Whether its failure fails the component; otherwise it degrades it.
        optional: Whether its failure is only noted.
        period: Seconds between two runs; ``health.check_interval`` if left out.
        timeout: Seconds one run may take; ``health.check_timeout`` if left out.
        success_threshold: Successes in a row that end a failure; ``health.success_threshold`` if
            left out.
        warn_threshold: Failures in a row that are a warning; ``failure_threshold`` if left out.
        failure_threshold: Failures in a row that are a failure; ``health.failure_threshold`` if
            left out. Where nothing is known yet, the first result counts.
        warn_at: The measured value from which it is a warning.
        fail_at: The measured value from which it is a failure.
        lower_is_worse: Whether these two are reached from above, such as free memory.
    """

    kind: str = "readiness"
    critical: bool = True
    optional: bool = False
    period: float | timedelta | None = None
    timeout: float | timedelta | None = None
    success_threshold: int | None = None
    warn_threshold: int | None = None
    failure_threshold: int | None = None
    warn_at: float | None = None
    fail_at: float | None = None
    lower_is_worse: bool = False

    def __call__(self, function: FunctionT) -> FunctionT:
        """Mark ``function``."""
        return _mark(function, self)

    def described(self, name: str) -> dict[str, Any]:
        """What the core reads, for a check of this name."""
        return {"name": name, **vars(self)}


def on_config(path: str, /) -> Callable[[FunctionT], FunctionT]:
    """Have the method called as ``method(path, old, new)`` when configuration at or below
    ``path`` changes: once for each change, with what stood at ``path`` before and stands there
    now."""
    _bare("on_config", path, "components.decision_engine.threshold")
    return lambda function: _mark(function, ConfigMark(path))
