"""How much of everything, and on which event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What the command line decides."""

    events: int = 20_000
    """Deliveries per contender and round; slow contenders get a share of them."""
    rounds: int = 15
    """Rounds that count."""
    warm_up: int = 2
    """Rounds before them that do not."""
    loop: str = "asyncio"
    """``asyncio`` or ``uvloop``."""

    alone: bool = False
    """Leave the peers out: for profiles, and to see what a change does."""

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """A loop of the kind that was asked for."""
        if self.loop == "uvloop":
            import uvloop

            return uvloop.new_event_loop()
        return asyncio.new_event_loop()
