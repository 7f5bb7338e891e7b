"""How fast a publisher is to be, and when it began."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass


@dataclass
class Pace:
    """So many events per second; 0 is as fast as it can."""

    rate: float = 0.0
    begun: float = 0.0
    """When the first event was due, by the wall clock; 0 before."""

    def begin(self) -> None:
        """The publisher is connected, and begins now."""
        self.begun = time.time()

    async def beats(self, count: int) -> AsyncIterator[int]:
        """The numbers of ``count`` events, each at its time."""
        self.begin()
        begun = time.perf_counter()
        for n in range(count):
            if self.rate:
                wait = begun + n / self.rate - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
            yield n

    def ticks(self, count: int) -> Iterator[int]:
        """The same for those without a loop."""
        self.begin()
        begun = time.perf_counter()
        for n in range(count):
            if self.rate:
                wait = begun + n / self.rate - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
            yield n

    def sent(self) -> float:
        """What an event says of when it was sent: 0 where nobody asks."""
        return time.time() if self.rate else 0.0
