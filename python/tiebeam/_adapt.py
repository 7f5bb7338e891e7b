"""Handlers that take instances of typed events, made into what the core calls."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from tiebeam import _core
from tiebeam._annotations import resolved
from tiebeam._convert import is_model, reader
from tiebeam._hooks import is_async
from tiebeam._mismatch import Mismatch, short_name
from tiebeam._typed import spec_of
from tiebeam._upcast import Upcasters
from tiebeam.exceptions import PayloadError

__all__ = ["adapt", "dressed"]


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
    hints = [resolved(handler, p.annotation) for p in takes[:2]]
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
