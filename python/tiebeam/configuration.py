"""The configuration of a system: read, explained, changed."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tiebeam._config_sources import Source, sources
from tiebeam._core import Clock, ConfigStore
from tiebeam._html import table
from tiebeam._points import Plugin
from tiebeam.exceptions import ConfigurationError

__all__ = ["Configuration"]


class Configuration:
    """Layered configuration; every value knows where it comes from.

    Strongest first: values set at run time, ``set`` (the command line's ``--set a.b=c``), the
    environment (``TIEBEAM_A__B``), plugins, files (later ones win), defaults.

    >>> configuration = Configuration(values={"system": {"name": "demo"}}, environ={})
    >>> configuration["system.name"], configuration["event_bus.batch_size"]
    ('demo', 100)
    """

    def __init__(
        self,
        *paths: str | os.PathLike[str],
        values: Mapping[str, Any] | None = None,
        set: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        components: Sequence[str] = (),
        clock: Clock | None = None,
    ) -> None:
        """Load ``paths`` in order, with ``values`` as one more source of the same strength.

        Args:
            *paths: YAML, TOML or JSON files.
            values: A tree of values instead of, or beside, files.
            set: Pairs such as ``"event_bus.batch_size=10"``.
            environ: The environment; the process's own if left out.
            components: Names that exist beside those in the files.
            clock: Where revisions get their time from.

        Raises:
            ConfigurationError: Listing every problem with file, line, path and rule.
        """
        read = functools.partial(
            ConfigStore,
            [os.fspath(path) for path in paths],
            values=dict(values) if values is not None else None,
            set=list(set),
            environ=dict(os.environ if environ is None else environ),
            known_components=list(components),
            clock=clock,
        )
        self._store = read()
        self._sources: list[Source] = []
        if self.get("service_registry.auto_discovery", True):
            # They may ask what the other sources say, to find where they are to ask.
            self._sources = sources(self)
        if self._sources:
            self._store = read(sources=[(source.place, source) for source in self._sources])

    @property
    def _plugins(self) -> list[Plugin]:
        """The plugins that are sources of this."""
        return [source.plugin for source in self._sources]

    @property
    def revision(self) -> int:
        """The number of the revision in force; it rises with each change."""
        return self._store.revision

    def __getitem__(self, path: str) -> Any:
        try:
            return self._store.get(path)
        except KeyError:
            raise ConfigurationError(f"there is no configuration at `{path}`", path=path) from None

    def get(self, path: str, default: Any = None) -> Any:
        """The value at a dotted path, or ``default``."""
        try:
            return self._store.get(path)
        except KeyError:
            return default

    def __contains__(self, path: str) -> bool:
        return path in self._store

    def explain(self, path: str) -> str:
        """Where the value at ``path`` comes from, and what it overrules.

        Raises:
            ConfigurationError: When there is no such value.
        """
        found = self._store.explain(path)
        if found is None:
            raise ConfigurationError(f"there is no configuration at `{path}`", path=path)
        return found

    def place(self, path: str) -> str | None:
        """Where the value at ``path`` stands, such as ``config/system.yaml:3``."""
        return self._store.place(path)

    def components(self) -> list[dict[str, Any]]:
        """The components declared, each with name, path, group, enabled, class and config."""
        return self._store.components()

    @property
    def warnings(self) -> list[str]:
        """Problems that are no errors."""
        return self._store.warnings()

    def history(self) -> list[dict[str, Any]]:
        """The last 20 revisions, oldest first: ``revision``, ``timestamp``, ``author``,
        ``rollback_of`` and the paths ``changed``."""
        return self._store.history()

    def as_dict(self) -> dict[str, Any]:
        """Everything, with secrets masked."""
        tree: dict[str, Any] = self._store.to_dict()
        return tree

    def __repr__(self) -> str:
        return repr(self._store)

    def _repr_html_(self) -> str:
        rows = [
            [path, repr(value), self.place(path) or ""]
            for path, value in _leaves("", self.as_dict())
        ]
        return table(["path", "value", "from"], rows)


def _leaves(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [
            leaf
            for key, item in value.items()
            for leaf in _leaves(f"{path}.{key}" if path else key, item)
        ]
    return [(path, value)]
