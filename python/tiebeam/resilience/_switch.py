"""Switching resilience off, for tests of what it stands around."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tiebeam import _core

__all__ = ["inactive", "is_active", "set_active"]


def is_active() -> bool:
    """Whether stages do what they are for."""
    return _core._resilience_active()


def set_active(active: bool) -> bool:
    """Switch all stages of this process on or off; returns what it was.

    Off, every call goes through as if there were no stage: nothing is tried again, rejected,
    limited, delayed or counted.
    """
    return _core._set_resilience(active)


@contextlib.contextmanager
def inactive() -> Iterator[None]:
    """Have all stages of this process off inside a ``with`` block."""
    before = set_active(False)
    try:
        yield
    finally:
        set_active(before)
