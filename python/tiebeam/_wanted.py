"""What an annotation wants: a component of a class, of a protocol, or with a capability."""

from __future__ import annotations

import abc
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiebeam.component import Component
from tiebeam.exceptions import ConfigurationError
from tiebeam.services import Capability

__all__ = [
    "Overrides",
    "Wanted",
    "capability_asked",
    "is_a",
    "kind_asked",
    "name_asked",
    "overriding",
    "wanted_in",
]

Overrides = Mapping[Any, Any]
"""What is to be injected instead, by class, protocol or :class:`~tiebeam.Capability`."""


@dataclass(frozen=True)
class Wanted:
    """What is to be injected."""

    kind: type[Any] | None
    """A component class, a protocol or an abstract class."""
    capability: str | None
    optional: bool

    @property
    def certain(self) -> bool:
        """Whether it can be nothing but a component: any other class may be anything's."""
        return self.capability is not None or self.is_component

    @property
    def is_component(self) -> bool:
        return self.kind is not None and issubclass(self.kind, Component)

    def fits(self, component: Component | type[Component]) -> bool:
        return (self.kind is None or is_a(component, self.kind)) and (
            self.capability is None or self.capability in component.capabilities
        )

    def may_fit(self, cls: type[Component]) -> bool:
        """Whether an instance of a class may, though nothing is seen of it yet."""
        if self.kind is None or not _is_protocol(self.kind):
            return self.fits(cls)
        return self.capability is None or self.capability in cls.capabilities

    def override(self, overrides: Overrides) -> tuple[bool, Any]:
        """Whether something is to be injected instead, and what."""
        keys: list[Any] = [self.kind]
        if self.capability is not None:
            keys.insert(0, Capability(self.capability))
        for key in keys:
            if key is not None and key in overrides:
                return True, overrides[key]
        return False, None

    def __str__(self) -> str:
        kind = f"of type {self.kind.__qualname__}" if self.kind is not None else ""
        capability = f"with the capability `{self.capability}`" if self.capability else ""
        return f"component {kind}{' ' if kind and capability else ''}{capability}"


def kind_asked(where: str, given: Any, *, named: bool = False) -> type[Any]:
    """The class that somebody asks for.

    Args:
        where: What was called, such as ``get()``.
        given: What with.
        named: Whether a name would have done as well.

    Raises:
        TypeError: For what is no class, with what to give instead.
    """
    if isinstance(given, type) and typing.get_origin(given) is None:
        return given
    name = "the name of a component, " if named else ""
    asks = f"{where} takes {name}a class, an abstract class or a protocol"
    if isinstance(given, Component):
        kind = type(given).__qualname__
        raise TypeError(f"{asks}, got the component {given!r} itself; ask for {kind}")
    if isinstance(given, Capability):
        raise TypeError(f"{asks}, got {given!r}; write find(capability={given.name!r})")
    if typing.get_origin(given) is not None or isinstance(given, typing.NewType):
        raise TypeError(f"{asks}, got the type {given!r}; ask for the class in there itself")
    raise TypeError(f"{asks}, got {type(given).__name__} {given!r:.60}")


def name_asked(where: str, given: str) -> str:
    """The name that somebody asks for.

    Raises:
        ConfigurationError: For an empty one.
    """
    if not given.strip():
        raise ConfigurationError(f"{where} takes the name of a component, got the text {given!r}")
    return given


def capability_asked(where: str, given: Any) -> str | None:
    """The capability that somebody asks for, if any.

    Raises:
        TypeError: For what is no text.
        ConfigurationError: For an empty one.
    """
    if given is None:
        return None
    if isinstance(given, Capability):
        given = given.name
    if not isinstance(given, str):
        raise TypeError(
            f"{where} takes a capability= as components declare it, a text, got "
            f"{type(given).__name__} {given!r:.60}"
        )
    if not given.strip():
        raise ConfigurationError(f"{where}: capability= is empty; leave it out to ask for any")
    return given


def overriding(given: Any) -> dict[Any, Any]:
    """What is to be injected instead, as it was given.

    Raises:
        TypeError: For what is no dict, and for keys that name nothing that could be injected.
    """
    said = "overrides= is a dict of what to inject by class, protocol or Capability"
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"{said}, got {type(given).__name__} {given!r:.60}")
    for key in given:
        if isinstance(key, Capability):
            capability_asked("overrides=", key)
        elif isinstance(key, str):
            raise TypeError(
                f"{said}, got the name {key!r}; give the class of that component, or "
                f"Capability({key!r}) for whoever declares that"
            )
        else:
            kind_asked("overrides=", key)
    return dict(given)


def wanted_in(annotation: Any) -> Wanted | None:
    """What an annotation wants, if it is about components."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *notes = typing.get_args(annotation)
        named = next((note for note in notes if isinstance(note, Capability)), None)
        if named is None:
            return wanted_in(inner)
        inner, optional = _without_none(inner)
        kind = inner if inner is not Component and _is_service(inner) else None
        return Wanted(kind, named.name, optional)
    inner, optional = _without_none(annotation)
    if inner is not annotation:
        found = wanted_in(inner)
        return None if found is None else Wanted(found.kind, found.capability, True)
    return Wanted(annotation, None, False) if _is_service(annotation) else None


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """``X`` of ``X | None``, and whether it was that."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [part for part in typing.get_args(annotation) if part is not type(None)]
        if len(inner) == 1 and len(typing.get_args(annotation)) == 2:
            return inner[0], True
    return annotation, False


def _is_service(kind: Any) -> bool:
    """Whether a component may be looked for by this class."""
    if not isinstance(kind, type) or typing.get_origin(kind) is not None:
        return False
    if issubclass(kind, Component):
        return True
    if _is_protocol(kind):
        # One that every component satisfies tells none from another.
        return bool(_members(kind)) and not _satisfies(Component, kind)
    own = isinstance(kind, abc.ABCMeta) and bool(getattr(kind, "__abstractmethods__", ()))
    return own and kind.__module__ not in ("collections.abc", "typing", "contextlib", "numbers")


def is_a(component: Component | type[Component], kind: type[Any]) -> bool:
    """Whether a component, or what is made of its class, is a ``kind``.

    Args:
        component: A component, or its class.
        kind: A class, an abstract class, or a protocol, runtime-checkable or not.
    """
    cls = component if isinstance(component, type) else type(component)
    if kind in cls.__mro__:
        return True
    if _is_protocol(kind):
        return _satisfies(component, kind)
    return issubclass(cls, kind)


def _is_protocol(kind: type[Any]) -> bool:
    return bool(getattr(kind, "_is_protocol", False))


def _satisfies(component: Any, protocol: type[Any]) -> bool:
    return all(_has(component, member) for member in _members(protocol))


def _has(component: Any, member: str) -> bool:
    """Whether it has a member; a property of the user's is not run for that."""
    try:
        inspect.getattr_static(component, member)
    except AttributeError:
        try:
            return hasattr(component, member)  # by `__getattr__`
        except Exception:
            return False
    return True


def _members(protocol: type[Any]) -> Sequence[str]:
    """What a protocol asks for."""
    names: dict[str, None] = {}
    for base in protocol.__mro__:
        if _is_protocol(base) and base.__module__ not in ("typing", "typing_extensions"):
            names |= dict.fromkeys([*vars(base), *vars(base).get("__annotations__", ())])
    internal = ("_abc_", "_is_protocol", "_is_runtime_protocol", "_non_")
    return [
        name
        for name in names
        if not name.startswith(internal) and (not name.startswith("__") or name == "__call__")
    ]
