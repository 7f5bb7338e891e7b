"""Entry points: by which installed packages say what they bring."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiebeam import _core

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Plugin", "described", "points", "takes_one", "timed"]

GROUP = "tiebeam."
"""What the groups of entry points begin with."""


@dataclass(frozen=True)
class Plugin:
    """Something that an installed package brings."""

    kind: str
    """``components``, ``middleware``, ``checks`` or ``config_sources``."""
    name: str
    """The name of its entry point."""
    package: str
    """The distribution that brings it, with its version."""
    error: str | None = None
    """Why it is not in use, if it should be and is not."""

    def __str__(self) -> str:
        return f"the entry point `{self.name}` ({GROUP}{self.kind}) of {self.package}"


SLOW = 1.0
"""Seconds after which it is said that a plugin took long."""

_Path = tuple[tuple[str, int | None], ...]

_known: tuple[_Path, dict[str, list[EntryPoint]]] | None = None
"""What was found last, and where: to look takes long where many packages are installed."""


def _path() -> _Path:
    """Where packages are installed, and when anything was there or taken away from there last."""
    return tuple((folder, _changed(folder)) for folder in map(str, sys.path))


def _changed(folder: str) -> int | None:
    try:
        return os.stat(folder or os.curdir).st_mtime_ns
    except OSError:
        return None


def points(*kinds: str) -> dict[str, list[EntryPoint]]:
    """The entry points of these kinds, each in the order of their names.

    Looked for once per process, and again when ``sys.path``, or a folder on it, has changed.
    """
    global _known
    path = _path()
    if _known is None or _known[0] != path:
        found = _read()
        if found is None:
            return {kind: [] for kind in kinds}
        _known = path, found
    return {kind: list(_known[1].get(GROUP + kind, ())) for kind in kinds}


def _read() -> dict[str, list[EntryPoint]] | None:
    """Those of all our kinds, by group; ``None`` where they cannot be read."""
    # Imported late: it is slow, and who needs a bus alone needs it never.
    from importlib.metadata import entry_points

    try:
        everything = entry_points()
    except Exception as error:  # of some package that may have nothing to do with this
        logging.getLogger("tiebeam").warning(
            "the entry points of installed packages cannot be read, and none is used: %s: %s",
            type(error).__name__,
            error,
        )
        return None
    found = {}
    for group in everything.groups:
        if group.startswith(GROUP):
            # A folder that is twice on the path brings each of its packages twice.
            own = {(point.name, point.value): point for point in everything.select(group=group)}
            found[group] = [own[key] for key in sorted(own)]
    return found


@contextlib.contextmanager
def timed(plugin: Plugin) -> Iterator[None]:
    """Say which plugin it is that takes long: its import, or what it does."""
    logger, clock = logging.getLogger("tiebeam"), _core.Clock.real()
    logger.debug("%s is loaded", plugin)
    began = clock.monotonic()
    try:
        yield
    finally:
        took = clock.monotonic() - began
        if took >= SLOW:
            logger.warning("%s took %.1f s to load", plugin, took)


def described(kind: str, point: EntryPoint) -> Plugin:
    """What is known of an entry point without loading it."""
    package = "a package without a name"
    with contextlib.suppress(Exception):  # a package may be without its metadata
        if point.dist is not None:
            package = f"{point.dist.name} {point.dist.version}"
    return Plugin(kind, point.name, package)


def takes_one(function: Callable[..., Any]) -> bool:
    """Whether a plugin's function takes an argument."""
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # a builtin may have no signature
        return True
    return True
