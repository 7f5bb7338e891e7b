"""tiebeam, published by 64 tasks that wait for each event."""

from __future__ import annotations

import asyncio

from processes.contenders.tiebeam_redis import consume
from processes.envelope import TYPE, payload
from processes.pace import Pace

__all__ = ["consume", "publish"]


async def publish(url: str, count: int, pace: Pace) -> None:
    """``await bus.publish(...)`` in a loop, 64 times side by side."""
    from tiebeam import EventBus

    async with EventBus("bench", url=url, prefix="bench") as bus:
        await bus.ready()
        pace.begin()

        async def some(first: int) -> None:
            for n in range(first, count, 64):
                await bus.publish(TYPE, payload(n))

        await asyncio.gather(*(some(first) for first in range(64)))
