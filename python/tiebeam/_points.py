"""Entry points: by which installed packages say what they bring."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Plugin", "described", "points", "takes_one"]

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


def points(*kinds: str) -> dict[str, list[EntryPoint]]:
    """The entry points of these kinds, each in the order of their names."""
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
        return {kind: [] for kind in kinds}
    found = {}
    for kind in kinds:
        # A folder that is twice on the path brings each of its packages twice.
        own = {(point.name, point.value): point for point in everything.select(group=GROUP + kind)}
        found[kind] = [own[key] for key in sorted(own)]
    return found


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
