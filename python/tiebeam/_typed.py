"""Typed events: classes that have an event type, and handlers that take their instances."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from tiebeam import _core
from tiebeam._convert import Mismatch, is_model, reader, short_name
from tiebeam._hooks import is_async
from tiebeam._upcast import Upcasters
from tiebeam.exceptions import PayloadError

__all__ = ["Spec", "adapt", "describe", "event", "spec_of", "topic_of"]

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


# -- handlers -----------------------------------------------------------------------------


def adapt(handler: Any, given: Any, upcasters: Upcasters, *, what: str = "handler") -> Any:
    """``handler`` as the core calls it: with the event alone.

    One that takes an instance is wrapped; any other is returned as it is.

    Args:
        handler: What was subscribed.
        given: What it was subscribed to: a pattern or a class.
        upcasters: The steps for events of old versions.
        what: What to call it in errors.

    Raises:
        TypeError: Where it is not clear what the handler wants.
        ConfigurationError: For a gap in the chain of upcasters.
    """
    subscribed = given if isinstance(given, type) else None
    if not callable(handler) or inspect.isgeneratorfunction(handler):
        return handler  # the core refuses it, with the reason
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError):  # a builtin
        parameters = []
    takes = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    hints = [_resolved(handler, p.annotation) for p in takes[:2]]
    name = f"the {what} {short_name(handler)}"
    wanted = _wanted(name, takes, hints, subscribed)
    if wanted is None:
        return handler
    envelope = _takes_envelope(name, takes, hints, wanted)
    try:
        inspect.signature(handler).bind(*([None, None] if envelope else [None]))
    except ValueError:
        pass
    except TypeError:
        raise TypeError(
            f"{name} must take one argument, the {short_name(wanted)}, or two, that and "
            f"`event: Event`; its signature is {inspect.signature(handler)}"
        ) from None
    return _wrapped(handler, _instance_reader(wanted, upcasters), envelope)


def _wanted(
    name: str, takes: list[inspect.Parameter], hints: list[Any], subscribed: type | None
) -> Any:
    """The class of which the handler wants an instance; ``None`` if it wants the event."""
    hint: Any = hints[0] if hints else None
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if any(is_model(part) for part in typing.get_args(hint)):
            raise TypeError(
                f"{name}: `{takes[0].name}` may be one of several classes; take one class, and "
                "subscribe a handler for each"
            )
        hint = None
    if is_model(hint):
        if subscribed is not None and not issubclass(subscribed, hint):
            raise TypeError(
                f"{name} is subscribed to {short_name(subscribed)}, but its `{takes[0].name}` is "
                f"annotated {short_name(hint)}"
            )
        return subscribed or hint
    if len(hints) > 1 and is_model(hints[1]) and takes[1].default is takes[1].empty:
        raise TypeError(
            f"{name} takes `{takes[1].name}: {short_name(hints[1])}` second; the instance comes "
            "first, and `event: Event` after it"
        )
    return None if hint is _core.Event else subscribed


def _takes_envelope(
    name: str, takes: list[inspect.Parameter], hints: list[Any], wanted: Any
) -> bool:
    if len(takes) < 2:
        return False
    if hints[1] is _core.Event:
        return True
    if takes[1].default is not takes[1].empty:
        return False
    raise TypeError(
        f"{name} takes a {short_name(wanted)} and `{takes[1].name}`; a second parameter must be "
        "annotated `Event`, and gets the whole event"
    )


def _instance_reader(wanted: Any, upcasters: Upcasters) -> Callable[[_core.Event], Any]:
    spec, read, name = spec_of(wanted), reader(wanted), short_name(wanted)
    if spec is not None:
        upcasters._check(spec.event_type, spec.version)

    def instance(event: _core.Event) -> Any:
        payload = event.payload
        # Under another type than its own, the version is none of the class's.
        if spec is not None and event.event_type == spec.event_type:
            payload = upcasters._bring(spec.event_type, payload, event.version, spec.version)
        try:
            return read(payload)
        except Mismatch as mismatch:
            raise PayloadError(
                f"`{event.event_type}` (version {event.version}) is no {name}: {mismatch}",
                event_type=event.event_type,
                path=mismatch.problems[0][0],
            ) from mismatch.__cause__

    return instance


def _wrapped(handler: Any, instance: Callable[[_core.Event], Any], envelope: bool) -> Any:
    wrapper: Any
    if is_async(handler) and envelope:

        async def wrapper(event: _core.Event) -> Any:
            return await handler(instance(event), event)
    elif is_async(handler):

        async def wrapper(event: _core.Event) -> Any:
            return await handler(instance(event))
    elif envelope:

        def wrapper(event: _core.Event) -> Any:
            return handler(instance(event), event)
    else:

        def wrapper(event: _core.Event) -> Any:
            return handler(instance(event))

    return dressed(wrapper, handler)


def dressed(wrapper: Any, handler: Any) -> Any:
    """``wrapper`` under the name of ``handler``.

    Not by ``functools.wraps``: it has another signature than what it stands for.
    """
    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        if isinstance(said := getattr(handler, name, None), str):
            setattr(wrapper, name, said)
    if not hasattr(handler, "__qualname__"):
        wrapper.__qualname__ = wrapper.__name__ = type(handler).__name__
    wrapper.__tiebeam_handler__ = getattr(handler, "__tiebeam_handler__", handler)
    return wrapper


# -- annotations --------------------------------------------------------------------------


def _resolved(handler: Any, annotation: Any) -> Any:
    """What an annotation means, ``None`` where it means nothing to us."""
    if annotation is inspect.Parameter.empty or annotation is Any:
        return None
    if not isinstance(annotation, str):
        return annotation
    for names in _scopes(handler):
        with contextlib.suppress(Exception):  # another scope's name, or one for type checkers
            return eval(annotation, {**names})
    return None


def _scopes(handler: Any) -> Iterator[dict[str, Any]]:
    """Where the names of an annotation may come from: the handler's module and closure, then the
    functions that are subscribing it."""
    while hasattr(handler, "func"):  # partial
        handler = handler.func
    function = inspect.unwrap(getattr(handler, "__func__", handler))
    if not isinstance(function, types.FunctionType):
        function = getattr(type(handler), "__call__", None)  # noqa: B004
    if isinstance(function, types.FunctionType):
        held = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        closure = {}
        for name, cell in held:
            with contextlib.suppress(ValueError):  # not set yet
                closure[name] = cell.cell_contents
        yield {**function.__globals__, **closure}
    here = str(Path(__file__).parent)
    frame = sys._getframe(1)
    outside = 0
    while frame is not None and outside < 4:
        if not frame.f_code.co_filename.startswith(here):
            outside += 1
            yield {**frame.f_globals, **frame.f_locals}
        frame = frame.f_back  # type: ignore[assignment]
