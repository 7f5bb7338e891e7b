"""Typed events: classes that have an event type."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from tiebeam import _core
from tiebeam._convert import is_model
from tiebeam._mismatch import short_name

__all__ = ["Spec", "describe", "event", "spec_of", "topic_of"]

ModelT = TypeVar("ModelT", bound=type)


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a class says about its events."""

    event_type: str
    version: int


_DECLARED: WeakKeyDictionary[type, Spec] = WeakKeyDictionary()
_KNOWN: WeakKeyDictionary[type, Spec | None] = WeakKeyDictionary()


def event(event_type: str, /, *, version: int = 1) -> Callable[[ModelT], ModelT]:
    """Make a dataclass, pydantic model or msgspec ``Struct`` an event's payload.

    The same as a class attribute ``event_type``, and ``version`` beside it.

    >>> @event("market_data.price_update", version=2)
    ... @dataclass
    ... class PriceUpdate:
    ...     symbol: str
    ...     price: float

    Args:
        event_type: The topic that instances are published to.
        version: The version of the payload's form, from 1.

    Raises:
        TopicError: For a malformed topic.
        TypeError: For a class that is none of the three, or a ``version`` that is no integer.
        ValueError: For a ``version`` below 1.
    """
    if not isinstance(event_type, str):
        raise TypeError('write @event("market_data.price_update"): it needs the topic')
    spec = _checked(event_type, version, "@event")

    def decorate(kind: ModelT) -> ModelT:
        if not is_model(kind):
            hint = "; put @event above @dataclass" if isinstance(kind, type) else ""
            raise TypeError(f"@event is for {_MODELS}, got {kind!r}{hint}")
        _DECLARED[kind] = spec
        _KNOWN.clear()  # what derives from it, too
        return kind

    return decorate


_MODELS = "a dataclass, a pydantic model or a msgspec Struct"


def _checked(event_type: str, version: Any, where: str) -> Spec:
    _core.Event(event_type)  # raises for a malformed type, and for a pattern
    if type(version) is not int:
        raise TypeError(f"{where}: the version is an integer, got {type(version).__name__}")
    if version < 1:
        raise ValueError(f"{where}: versions begin with 1, got {version}")
    return Spec(event_type, version)


def spec_of(kind: type) -> Spec | None:
    """The event type of a class, if it has one.

    Raises:
        TypeError, ValueError, TopicError: For a class that says it in a wrong way.
    """
    if kind not in _KNOWN:
        _KNOWN[kind] = _look(kind)
    return _KNOWN[kind]


def _look(kind: type) -> Spec | None:
    for base in kind.__mro__:
        if base in _DECLARED:
            return _DECLARED[base]
        event_type = vars(base).get("event_type")
        if isinstance(event_type, str) and is_model(kind):
            name = short_name(kind)
            if "event_type" in _field_names(kind):
                raise TypeError(
                    f"{name}.event_type is a field, so that each instance could have another; "
                    "write `event_type: ClassVar[str] = ...`"
                )
            own = "version" in _field_names(kind)
            version = 1 if own else getattr(kind, "version", 1)
            return _checked(event_type, version, name)
    return None


def _field_names(kind: Any) -> set[str]:
    if dataclasses.is_dataclass(kind):
        return {field.name for field in dataclasses.fields(kind)}
    return {*getattr(kind, "__struct_fields__", ()), *getattr(kind, "model_fields", ())}


def describe(given: Any) -> tuple[str, int]:
    """Type and version of a typed event; the core asks for what is no string."""
    spec = None if isinstance(given, type) else spec_of(type(given))
    if spec is not None:
        return spec.event_type, spec.version
    if isinstance(given, _core.Event):
        said = "an Event is published already; to send it on, give its event_type and payload"
    elif isinstance(given, type):
        said = f"got the class {short_name(given)}; give an instance of it"
    elif is_model(type(given)):
        name = short_name(type(given))
        said = f"{name} has no event type; give it `event_type: ClassVar[str] = ...` or @event(...)"
    else:
        said = f"got {type(given).__name__}"
    raise TypeError(f"the first argument is the event's type, or a typed event: {said}")


def topic_of(given: Any) -> str:
    """The pattern to subscribe to, of a pattern or a class."""
    if isinstance(given, str):
        return given
    spec = spec_of(given) if isinstance(given, type) else None
    if spec is not None:
        return spec.event_type
    name = short_name(given) if isinstance(given, type) else repr(given)
    hint = "; give it `event_type: ClassVar[str] = ...` or @event(...)" if is_model(given) else ""
    raise TypeError(
        f"subscribe to a pattern such as 'market_data.*', or to a class that has an event type; "
        f"{name} has none{hint}"
    )
