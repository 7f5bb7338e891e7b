"""Which class stands behind a name of the ``components:`` section."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tiebeam._plugins import Plugins
from tiebeam.component import Component
from tiebeam.configuration import Configuration
from tiebeam.exceptions import ConfigurationError

__all__ = ["checked", "resolve"]


def resolve(
    configuration: Configuration,
    given: Sequence[Component | type[Component]],
    entries: Mapping[str, Mapping[str, Any]],
    plugins: Plugins,
) -> dict[str, Component | type[Component]]:
    """Every component by name, those of the configuration first.

    An instance or class that was given comes before an entry point of that name, which comes
    before the section's own ``class``. Configuration files are trusted like code; nothing else
    names a class.

    Raises:
        ConfigurationError: Listing every name without a class, and every class that is none.
    """
    handed = _by_name(given)
    points = plugins.components()
    found: dict[str, Component | type[Component]] = {}
    problems: list[str] = []
    for name, entry in entries.items():
        if not entry["enabled"]:
            handed.pop(name, None)
            continue
        if name in handed:
            found[name] = handed.pop(name)
            continue
        place = configuration.place(entry["path"]) or "default"
        try:
            if name in points:
                found[name] = _fitting(plugins.use_component(points[name]), name)
            elif entry["class"]:
                found[name] = _fitting(_load(entry["class"]), name)
            else:
                raise ConfigurationError(
                    f"nothing is known of the component `{name}`: pass an instance, install an "
                    "entry point `tiebeam.components` of that name, or add `class: "
                    f'"package.module:Class"`{_meant(name, points, handed)}'
                )
        except ConfigurationError as error:
            problems.append(f"{place}: {entry['path']}: {error}")
        except Exception as error:
            problems.append(
                f"{place}: {entry['path']}: cannot load the component `{name}`: "
                f"{type(error).__name__}: {error}{_advice(error)}"
            )
    if problems:
        raise ConfigurationError("\n".join(problems))
    return found | handed


def _meant(name: str, *known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, [other for names in known for other in names], n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def checked(given: Iterable[Component | type[Component]]) -> list[Component | type[Component]]:
    """What was given as components, if it is."""
    components = list(given)
    for component in components:
        kind = component if isinstance(component, type) else type(component)
        if not issubclass(kind, Component):
            raise TypeError(f"a component must subclass tiebeam.Component, got {component!r}")
    return components


def _by_name(
    given: Sequence[Component | type[Component]],
) -> dict[str, Component | type[Component]]:
    named: dict[str, Component | type[Component]] = {}
    for component in given:
        if component.name in named:
            raise ConfigurationError(
                f"two components are called `{component.name}`; give one of them another `name`"
            )
        named[component.name] = component
    return named


def _advice(error: Exception) -> str:
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    package = error.name.partition(".")[0]
    return f"; install `{package}`, run from the folder that holds it, or name that in PYTHONPATH"


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _fitting(kind: Any, name: str) -> type[Component]:
    if not (isinstance(kind, type) and issubclass(kind, Component)):
        raise ConfigurationError(f"{kind!r} is no subclass of tiebeam.Component")
    if kind.name != name:
        raise ConfigurationError(
            f"the class {kind.__qualname__} is called `{kind.name}`, not `{name}`; set its "
            f'`name = "{name}"`'
        )
    return kind
