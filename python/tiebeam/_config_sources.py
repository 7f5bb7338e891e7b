"""Configuration that installed packages bring."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tiebeam._points import Plugin, described, points, takes_one, timed

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from tiebeam.configuration import Configuration

__all__ = ["Source", "sources"]


def sources(configuration: Configuration) -> list[Source]:
    """The configuration sources of plugins."""
    return [
        Source(described("config_sources", point), point, configuration)
        for point in points("config_sources")["config_sources"]
    ]


class Source:
    """A configuration source. Where it fails, what it said last holds."""

    def __init__(self, plugin: Plugin, point: EntryPoint, configuration: Configuration) -> None:
        self.plugin, self._point, self._configuration = plugin, point, configuration
        self._last: dict[str, Any] = {}
        self.place = f"{plugin.package} ({plugin.name})"

    def __call__(self) -> dict[str, Any]:
        try:
            with timed(self.plugin):
                said = self._ask()
            if not isinstance(said, Mapping):
                # Not what it is: that may be secret.
                kind = type(said).__name__
                raise TypeError(f"it is to return a dict of sections, got a {kind}")
            self._last = json.loads(json.dumps(dict(said)))  # what has no such form is refused here
            self.plugin = dataclasses.replace(self.plugin, error=None)
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}"
            logging.getLogger("tiebeam").warning("%s cannot be used: %s", self.plugin, reason)
            self.plugin = dataclasses.replace(self.plugin, error=reason)
        return self._last

    def _ask(self) -> Any:
        read = self._point.load()
        if not callable(read):
            raise TypeError(f"it is to be a function of the configuration so far, got {read!r}")
        return read(self._configuration) if takes_one(read) else read()
