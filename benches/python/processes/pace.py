"""How fast a publisher is to be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """So many events per second; 0 is as fast as it can."""

    rate: float = 0.0

    async def beats(self, count: int) -> AsyncIterator[int]:
        """The numbers of ``count`` events, each at its time."""
        begun = time.perf_counter()
        for n in range(count):
            wait = begun + n / self.rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            yield n
