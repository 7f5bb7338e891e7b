"""Waiting for what another process does: by looking again, for it tells nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

GUARD = 30.0
"""Longer than anything here may take."""


async def until(what: Callable[[], T], within: float = GUARD) -> T:
    """The first true thing that ``what`` returns."""
    end = time.monotonic() + within
    while not (found := what()):
        assert time.monotonic() < end, f"not within {within} s: {what}"
        await asyncio.sleep(0.002)
    return found
