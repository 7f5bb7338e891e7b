"""Dependencies by annotation: attributes and constructor parameters that want a component."""

from __future__ import annotations

import difflib
import inspect
import sys
import typing
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from tiebeam._logging import LOGGER
from tiebeam._wanted import Overrides, Wanted, is_a, wanted_in
from tiebeam.component import Component
from tiebeam.exceptions import ConfigurationError

__all__ = ["inject", "instantiate", "names", "one_of_type", "tell_unresolved"]

ServiceT = TypeVar("ServiceT")


def wanted(kind: type[Component]) -> dict[str, Wanted]:
    """The attributes of a class that are to be injected, and what they want."""
    found = {}
    for name, annotation in _attribute_hints(kind).known.items():
        wants = wanted_in(annotation)
        if wants is not None and not hasattr(kind, name):
            found[name] = wants
    return found


class _Hints:
    """Annotations, resolved one by one: a name that exists for type checkers alone must not hide
    the others."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.unknown: dict[str, str] = {}
        """What cannot be resolved, in words: the annotation, and why."""

    def add(self, annotations: Mapping[str, Any], names: dict[str, Any]) -> None:
        """Resolve ``annotations`` by the ``names`` of their module."""
        for name, annotation in annotations.items():
            carrier = type("Carrier", (), {"__annotations__": {name: annotation}})
            try:
                found = typing.get_type_hints(carrier, names, include_extras=True)
            except Exception as error:
                said = annotation if isinstance(annotation, str) else repr(annotation)
                self.unknown[name] = f"`{said}` ({type(error).__name__}: {error})"
            else:
                self.known |= found
                self.unknown.pop(name, None)


def _attribute_hints(kind: type[Component]) -> _Hints:
    hints = _Hints()
    for cls in reversed(kind.__mro__[: kind.__mro__.index(Component)]):
        module = sys.modules.get(cls.__module__)
        # Names of the class's own body come first, as for Python itself.
        names = {**(vars(module) if module else {}), **vars(cls)}
        hints.add(vars(cls).get("__annotations__", {}), names)
    return hints


def _constructor_hints(kind: type[Component]) -> _Hints:
    hints, constructor = _Hints(), inspect.unwrap(kind.__init__)
    names = getattr(constructor, "__globals__", {})  # a base's own, where it is a base's
    hints.add(getattr(constructor, "__annotations__", {}), names)
    hints.known.pop("return", None)
    hints.unknown.pop("return", None)
    return hints


_REMEDY = (
    "define or import it where its module runs, neither under `if TYPE_CHECKING` nor inside of a "
    "function"
)


def tell_unresolved(components: Mapping[str, Component]) -> None:
    """Log which annotations mean nothing here: whatever they want is not injected."""
    for name, component in components.items():
        kind = type(component)
        for attribute, said in _attribute_hints(kind).unknown.items():
            if attribute in vars(component) or hasattr(kind, attribute) or "ClassVar[" in said:
                continue  # somebody has set it
            LOGGER.warning(
                "`%s`: nothing is injected for the attribute `%s` of %s, whose annotation cannot "
                "be resolved: %s; %s; where nothing is to be injected, give it a value",
                *(name, attribute, kind.__qualname__, said, _REMEDY),
            )
        for parameter, said in _constructor_hints(kind).unknown.items():
            LOGGER.warning(
                "`%s`: nothing is injected for the parameter `%s` of %s, and no dependency follows "
                "from it, because its annotation cannot be resolved: %s; %s",
                *(name, parameter, kind.__qualname__, said, _REMEDY),
            )


def names(
    component: Component,
    all_components: Iterable[Component],
    overrides: Overrides,
    elsewhere: Container[str] = (),
) -> tuple[list[str], list[str]]:
    """What the annotations of a component add to ``depends_on`` and ``wants``.

    Raises:
        ConfigurationError: For one that runs ``elsewhere``: objects do not leave their process;
            and for a capability that nobody has.
    """
    hard: list[str] = []
    soft: list[str] = []
    others = [other for other in all_components if other is not component]
    for attribute, wants in wanted(type(component)).items():
        if attribute in vars(component) or wants.override(overrides)[0]:
            continue  # somebody has set it, or will: nothing of the system is needed
        match = _match(wants, attribute, others)
        if match is not None:
            (soft if wants.optional else hard).append(match.name)
        elif wants.optional or not wants.certain:
            continue
        elif wants.capability is not None:
            raise ConfigurationError(
                f"`{component.name}` has an attribute `{attribute}` for a {wants}, and there is "
                f"none{_hint(wants.capability, others)}",
                component=component.name,
            )
        else:
            kind: Any = wants.kind
            if kind.name in elsewhere:
                raise ConfigurationError(
                    f"`{component.name}` has an attribute `{attribute}: {kind.__qualname__}`, and "
                    f"`{kind.name}` runs in another part of the system, where no object can be "
                    f"handed over from; ask it by a request, annotate `{attribute}: "
                    f"{kind.__qualname__} | None`, or run `{kind.name}` in this part, too"
                )
            hard.append(kind.name)  # missing: the plan says so, with a suggestion
    for parameter, annotation in _constructor_hints(type(component)).known.items():
        in_constructor = wanted_in(annotation)
        if in_constructor is None or in_constructor.override(overrides)[0]:
            continue
        match = _match(in_constructor, parameter, others)
        if match is not None:  # where there is none, somebody passed what is none of ours
            (soft if in_constructor.optional else hard).append(match.name)
    return hard, soft


def _hint(capability: str, others: Iterable[Component | type[Component]]) -> str:
    """What may have been meant."""
    known = sorted({name for other in others for name in other.capabilities})
    near = difflib.get_close_matches(capability, known, n=1)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f"; there are: {', '.join(known) or 'none'}"


def inject(components: Mapping[str, Component], overrides: Overrides) -> None:
    """Set the annotated attributes that nobody has set, a test's own among them."""
    for component in components.values():
        others = [other for other in components.values() if other is not component]
        for attribute, wants in wanted(type(component)).items():
            if attribute in vars(component):
                continue
            instead, override = wants.override(overrides)
            if instead:
                setattr(component, attribute, override)
                continue
            match = _match(wants, attribute, others)
            if match is not None or (wants.optional and wants.certain):
                setattr(component, attribute, match)


def instantiate(
    found: Mapping[str, Component | type[Component]], overrides: Overrides
) -> dict[str, Component]:
    """An instance of each, constructor parameters that name components filled in."""
    made = {name: item for name, item in found.items() if isinstance(item, Component)}
    pending = {name: item for name, item in found.items() if isinstance(item, type)}
    sure = False
    while pending:
        ready = {}
        for name, kind in pending.items():
            others = set(pending.values()) - {kind}
            arguments = _arguments(kind, list(made.values()), overrides, others, sure)
            if arguments is not None:
                ready[name] = _make(name, kind, arguments)
        if not ready and not sure:
            sure = True  # what may have fitted once it is made does not: nothing waits for it
            continue
        sure = False
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
    overrides: Overrides,
    pending: set[type[Component]],
    sure: bool,
) -> dict[str, Any] | None:
    """What to call the constructor with; ``None`` while something it needs is not made yet.

    Where nothing is ``sure``, a class that is not made yet may yet fit a protocol: its instances
    may have more than it has itself.
    """
    hints = _constructor_hints(kind)
    arguments: dict[str, Any] = {}
    for parameter in list(inspect.signature(kind).parameters.values()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        wants = wanted_in(hints.known.get(parameter.name))
        if wants is None:
            if parameter.default is parameter.empty:
                if parameter.name in hints.unknown:
                    raise ConfigurationError(
                        f"cannot make {kind.__qualname__}: the annotation of its parameter "
                        f"`{parameter.name}` cannot be resolved: {hints.unknown[parameter.name]}; "
                        f"{_REMEDY}, or pass an instance instead"
                    )
                raise ConfigurationError(
                    f"cannot make {kind.__qualname__}: its parameter `{parameter.name}` has no "
                    "default and names no component; pass an instance instead"
                )
            continue
        instead, override = wants.override(overrides)
        if instead:
            arguments[parameter.name] = override
            continue
        match = _match(wants, parameter.name, made)
        may_fit = wants.fits if sure else wants.may_fit
        if match is None and any(may_fit(other) for other in pending):
            return None
        needed = parameter.default is parameter.empty
        if match is None and not wants.optional and needed:
            hint = _hint(wants.capability, [*made, *pending]) if wants.capability else ""
            raise ConfigurationError(
                f"cannot make {kind.__qualname__}: there is no {wants} for its parameter "
                f"`{parameter.name}`{hint}"
            )
        if match is not None or needed:
            arguments[parameter.name] = match
    return arguments


def _match(wants: Wanted, name: str, components: Sequence[Component]) -> Component | None:
    """The component that is wanted; of several, the one whose name the attribute bears."""
    found = [component for component in components if wants.fits(component)]
    if len(found) > 1:
        found = [component for component in found if component.name == name] or found
    if len(found) > 1:
        kind = wants.kind.__qualname__ if wants.kind is not None else f"a {wants}"
        raise ConfigurationError(
            f"`{name}: {kind}` could be {' or '.join(c.name for c in found)}; name "
            "the attribute after the one that is meant"
        )
    return found[0] if found else None


def one_of_type(kind: type[ServiceT], components: Sequence[Component]) -> ServiceT:
    """The one component of a type."""
    found = [component for component in components if is_a(component, kind)]
    if len(found) == 1:
        return typing.cast(ServiceT, found[0])
    if found:
        raise ConfigurationError(
            f"{len(found)} components are a {kind.__qualname__}: "
            f"{', '.join(c.name for c in found)}; ask by name"
        )
    classes = [type(component).__qualname__ for component in components]
    near = difflib.get_close_matches(kind.__name__, classes, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigurationError(
        f"there is no component of type {kind.__qualname__}; there are: "
        f"{', '.join(classes) or 'none'}{hint}"
    )
