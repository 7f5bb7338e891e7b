"""How a process of a run is told to stop, and to end: no word of it goes over the broker."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable


def on_request(what: Callable[[], object]) -> None:
    """Do it when somebody asks for it by SIGUSR1."""
    signal.signal(signal.SIGUSR1, lambda *_: what())


async def told_to_end() -> None:
    """Wait until the standard input ends: so it is, too, when whoever began the process is gone."""
    await asyncio.to_thread(sys.stdin.buffer.read)
