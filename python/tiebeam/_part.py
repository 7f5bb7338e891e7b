"""Which part of a system runs in this process: the components that ``only`` names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiebeam.component import Component
from tiebeam.exceptions import ConfigurationError

__all__ = ["Part", "part"]


@dataclass(frozen=True)
class Part:
    """What runs here, and what runs elsewhere."""

    elsewhere: dict[str, list[str]] = field(default_factory=dict)
    """The components of the other parts by name, each with its groups."""

    def here(
        self,
        given: Sequence[Component | type[Component]],
        entries: Mapping[str, Mapping[str, Any]],
    ) -> tuple[list[Component | type[Component]], dict[str, Mapping[str, Any]]]:
        """Of what was given and what the configuration declares, that of this part."""
        return (
            [component for component in given if component.name not in self.elsewhere],
            {name: entry for name, entry in entries.items() if name not in self.elsewhere},
        )


def part(
    only: Iterable[str] | None,
    given: Sequence[Component | type[Component]],
    entries: Mapping[str, Mapping[str, Any]],
) -> Part:
    """The part that ``only`` names, of components and groups; everything where it is ``None``.

    Raises:
        ConfigurationError: For names of nothing, each with a suggestion, and for a part without
            a component.
    """
    if only is None:
        return Part()
    if isinstance(only, str):
        raise TypeError(f"only= takes a list of names, got the string {only!r}; write [{only!r}]")
    groups = {component.name: list[str]() for component in given}
    enabled = {name: list(entry["group"]) for name, entry in entries.items() if entry["enabled"]}
    groups |= enabled
    for name, entry in entries.items():
        if not entry["enabled"]:
            groups.pop(name, None)
    named = list(only)
    known = sorted({*groups, *(group for inside in groups.values() for group in inside)})
    problems = []
    for name in named:
        if name in known:
            continue
        if name in entries:
            problems.append(f"`{name}` is disabled: {entries[name]['path']}.enabled is false")
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        problems.append(f"there is no component and no group `{name}`{hint}")
    if problems or not named:
        said = "; ".join(problems) or "it names nothing"
        raise ConfigurationError(f"only: {said} (there are: {', '.join(known) or 'none'})")
    here = {
        name
        for name, inside in groups.items()
        # A component comes before a group of the same name.
        if any(name == wanted or (wanted not in groups and wanted in inside) for wanted in named)
    }
    return Part({name: inside for name, inside in groups.items() if name not in here})
