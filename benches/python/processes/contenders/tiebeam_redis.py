"""tiebeam, as its guide shows it; the url says which broker it is."""

from __future__ import annotations

import asyncio
from typing import Any

from processes.envelope import GROUP, TYPE, payload
from processes.pace import Pace


async def publish(url: str, count: int, pace: Pace) -> None:
    """One coroutine; it waits for all receipts of a few hundred events at a time."""
    from tiebeam import EventBus

    async with EventBus("bench", url=url, prefix="bench") as bus:
        await bus.ready()
        if pace.rate:
            async for n in pace.beats(count):
                await bus.publish(TYPE, payload(n, pace.sent()))
            return
        pace.begin()
        receipts: list[Any] = []
        for n in range(count):
            receipts.append(bus.publish(TYPE, payload(n)))
            if len(receipts) == 500:
                for receipt in receipts:
                    await receipt
                receipts.clear()
        for receipt in receipts:
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
