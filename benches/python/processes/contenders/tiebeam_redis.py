"""tiebeam, as its guide shows it; the url says which broker it is."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from processes.envelope import GROUP, TYPE, payload
from processes.pace import Pace

WINDOW = 500


async def publish(url: str, count: int, pace: Pace) -> None:
    """One coroutine; a few hundred events are under way, and each receipt is waited for."""
    from tiebeam import EventBus

    async with EventBus("bench", url=url, prefix="bench") as bus:
        await bus.ready()
        if pace.rate:
            async for n in pace.beats(count):
                await bus.publish(TYPE, payload(n, pace.sent()))
            return
        pace.begin()
        under_way: deque[Any] = deque()
        for n in range(count):
            under_way.append(bus.publish(TYPE, payload(n)))
            if len(under_way) >= WINDOW:
                await under_way.popleft()
        for receipt in under_way:
            await receipt


async def consume(url: str, ready: Any, handled: Any) -> None:
    """One async handler of one group."""
    from tiebeam import EventBus

    async with EventBus("bench", url=url, prefix="bench") as bus:
        done = asyncio.Event()

        @bus.subscribe(TYPE, group=GROUP)
        async def handle(event: Any) -> None:
            if handled(event.payload):
                done.set()

        await bus.ready()
        ready()
        await done.wait()
