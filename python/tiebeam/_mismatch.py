"""What is wrong with a payload, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Field", "Mismatch", "short_name", "shown"]

Field = Callable[[Any, str], Any]
"""Reads the value at a path, or raises :class:`Mismatch`."""


class Mismatch(Exception):
    """What is wrong with a payload: pairs of path and rule."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        super().__init__("; ".join(f"{path}: {rule}" for path, rule in problems))
        self.problems = problems


def short_name(named: Any) -> str:
    """What a class or function is called where it was written: without the functions around."""
    return str(getattr(named, "__qualname__", named)).rpartition("<locals>.")[2]


def shown(value: Any) -> str:
    """A value, with its type, for a message."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
