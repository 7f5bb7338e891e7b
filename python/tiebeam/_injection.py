"""Dependencies by annotation: attributes and constructor parameters that name a component."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Container, Mapping, Sequence
from typing import Any, TypeVar

from tiebeam.component import Component
from tiebeam.exceptions import ConfigurationError

__all__ = ["inject", "instantiate", "names", "one_of_type"]

ComponentT = TypeVar("ComponentT", bound=Component)


def wanted(kind: type[Component]) -> dict[str, tuple[type[Component], bool]]:
    """The attributes of a class that are to be injected: type, and whether it is optional."""
    found = {}
    for cls in reversed(kind.__mro__[: kind.__mro__.index(Component)]):
        for name, annotation in _hints(cls, vars(cls).get("__annotations__", {})).items():
            dependency, optional = _component_in(annotation)
            if dependency is not None and not hasattr(kind, name):
                found[name] = (dependency, optional)
    return found


def _hints(owner: Any, annotations: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations that can be resolved, one by one: a name that exists for type checkers
    alone must not hide the others."""
    module = sys.modules.get(owner.__module__)
    hints: dict[str, Any] = {}
    for name, annotation in annotations.items():
        carrier = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= typing.get_type_hints(carrier, vars(module) if module else {})
        except (NameError, TypeError, AttributeError, SyntaxError):
            continue
    return hints


def _component_in(annotation: Any) -> tuple[type[Component] | None, bool]:
    if isinstance(annotation, type) and issubclass(annotation, Component):
        return annotation, False
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [part for part in typing.get_args(annotation) if part is not type(None)]
        if len(inner) == 1 and len(typing.get_args(annotation)) == 2:
            return _component_in(inner[0])[0], True
    return None, False


def names(
    component: Component,
    others: Sequence[Component],
    overrides: Mapping[type[Any], Any],
    elsewhere: Container[str] = (),
) -> tuple[list[str], list[str]]:
    """What the annotations of a component add to ``depends_on`` and ``wants``.

    Raises:
        ConfigurationError: For one that runs ``elsewhere``: objects do not leave their process.
    """
    hard: list[str] = []
    soft: list[str] = []
    for attribute, (kind, optional) in wanted(type(component)).items():
        if attribute in vars(component) or kind in overrides:
            continue  # somebody has set it, or will: nothing of the system is needed
        match = _match(kind, attribute, others)
        if match is not None:
            (soft if optional else hard).append(match.name)
        elif not optional and kind.name in elsewhere:
            raise ConfigurationError(
                f"`{component.name}` has an attribute `{attribute}: {kind.__qualname__}`, and "
                f"`{kind.name}` runs in another part of the system, where no object can be handed "
                f"over from; ask it by a request, annotate `{attribute}: {kind.__qualname__} | "
                f"None`, or run `{kind.name}` in this part, too"
            )
        elif not optional:
            hard.append(kind.name)  # missing: the plan says so, with a suggestion
    for parameter, annotation in _constructor_hints(type(component)).items():
        kind_wanted, optional = _component_in(annotation)
        if kind_wanted is None or kind_wanted in overrides:
            continue
        match = _match(kind_wanted, parameter, others)
        if match is not None:  # where there is none, somebody passed what is none of ours
            (soft if optional else hard).append(match.name)
    return hard, soft


def _constructor_hints(kind: type[Component]) -> dict[str, Any]:
    return _hints(kind, getattr(kind.__init__, "__annotations__", {}))


def inject(components: Mapping[str, Component], overrides: Mapping[type[Any], Any]) -> None:
    """Set the annotated attributes that nobody has set, a test's own among them."""
    for component in components.values():
        for attribute, (kind, optional) in wanted(type(component)).items():
            if attribute in vars(component):
                continue
            if kind in overrides:
                setattr(component, attribute, overrides[kind])
                continue
            match = _match(kind, attribute, list(components.values()))
            if match is not None or optional:
                setattr(component, attribute, match)


def instantiate(
    found: Mapping[str, Component | type[Component]], overrides: Mapping[type[Any], Any]
) -> dict[str, Component]:
    """An instance of each, constructor parameters that name components filled in."""
    made = {name: item for name, item in found.items() if isinstance(item, Component)}
    pending = {name: item for name, item in found.items() if isinstance(item, type)}
    while pending:
        ready = {}
        for name, kind in pending.items():
            arguments = _arguments(kind, list(made.values()), overrides, set(pending.values()))
            if arguments is not None:
                ready[name] = _make(name, kind, arguments)
        if not ready:
            raise ConfigurationError(
                "these components need each other to be made: " + ", ".join(sorted(pending))
            )
        made |= ready
        pending = {name: kind for name, kind in pending.items() if name not in ready}
    return {name: made[name] for name in found}


def _make(name: str, kind: type[Component], arguments: Mapping[str, Any]) -> Component:
    try:
        return kind(**arguments)
    except Exception as error:
        raise ConfigurationError(
            f"cannot make the component `{name}`: {kind.__qualname__}() raised "
            f"{type(error).__name__}: {error}",
            component=name,
        ) from error


def _arguments(
    kind: type[Component],
    made: Sequence[Component],
    overrides: Mapping[type[Any], Any],
    pending: set[type[Component]],
) -> dict[str, Any] | None:
    """What to call the constructor with; ``None`` while something it needs is not made yet."""
    hints = _constructor_hints(kind)
    arguments: dict[str, Any] = {}
    for parameter in list(inspect.signature(kind).parameters.values()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        dependency, optional = _component_in(hints.get(parameter.name))
        if dependency is None:
            if parameter.default is parameter.empty:
                raise ConfigurationError(
                    f"cannot make {kind.__qualname__}: its parameter `{parameter.name}` has no "
                    "default and names no component; pass an instance instead"
                )
            continue
        if dependency in overrides:
            arguments[parameter.name] = overrides[dependency]
            continue
        match = _match(dependency, parameter.name, made)
        if match is None and any(issubclass(other, dependency) for other in pending):
            return None
        if match is None and not optional and parameter.default is parameter.empty:
            raise ConfigurationError(
                f"cannot make {kind.__qualname__}: there is no component of type "
                f"{dependency.__qualname__} for its parameter `{parameter.name}`"
            )
        if match is not None or parameter.default is parameter.empty:
            arguments[parameter.name] = match
    return arguments


def _match(kind: type[ComponentT], name: str, components: Sequence[Component]) -> ComponentT | None:
    """The component of a type; of several, the one whose name the attribute bears."""
    found = [component for component in components if isinstance(component, kind)]
    if len(found) > 1:
        found = [component for component in found if component.name == name] or found
    if len(found) > 1:
        raise ConfigurationError(
            f"`{name}: {kind.__qualname__}` could be {' or '.join(c.name for c in found)}; name "
            "the attribute after the one that is meant"
        )
    return found[0] if found else None


def one_of_type(kind: type[ComponentT], components: Sequence[Component]) -> ComponentT:
    """The one component of a type."""
    found = [component for component in components if isinstance(component, kind)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigurationError(
            f"{len(found)} components are a {kind.__qualname__}: "
            f"{', '.join(c.name for c in found)}; ask by name"
        )
    known = ", ".join(type(component).__qualname__ for component in components) or "none"
    raise ConfigurationError(
        f"there is no component of type {kind.__qualname__}; there are: {known}"
    )
