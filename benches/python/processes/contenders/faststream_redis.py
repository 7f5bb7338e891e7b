"""FastStream on Redis Streams, as its guide shows it: one by one."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from processes.envelope import GROUP, STREAM, payload
from processes.pace import Pace


async def publish(url: str, count: int, pace: Pace) -> None:
    """``await broker.publish(...)`` in a loop."""
    from faststream.redis import RedisBroker

    async with RedisBroker(url, logger=None, log_level=logging.CRITICAL) as broker:
        async for n in pace.beats(count):
            await broker.publish(payload(n, pace.sent()), stream=STREAM)


async def consume(url: str, ready: Any, handled: Any) -> None:
    """One subscriber of one group."""
    from faststream.redis import RedisBroker, StreamSub

    broker = RedisBroker(url, logger=None, log_level=logging.CRITICAL)
    done = asyncio.Event()

    @broker.subscriber(stream=StreamSub(STREAM, group=GROUP, consumer="one"))
    async def handle(body: dict[str, Any]) -> None:
        if handled(body):
            done.set()

    await broker.start()
    ready()
    await done.wait()
    await broker.stop()
