"""FastStream on Redis Streams, as fast as its options let it: batches of 100 both ways."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from processes.envelope import BATCH, GROUP, STREAM, payload
from processes.pace import Pace


async def publish(url: str, count: int, pace: Pace) -> None:
    """Pipelines of 100."""
    import redis.asyncio
    from faststream.redis import RedisBroker

    client = redis.asyncio.Redis.from_url(url)
    async with RedisBroker(url, logger=None, log_level=logging.CRITICAL) as broker:
        pace.begin()
        for first in range(0, count, BATCH):
            async with client.pipeline(transaction=False) as pipeline:
                for n in range(first, min(first + BATCH, count)):
                    await broker.publish(payload(n), stream=STREAM, pipeline=pipeline)
                await pipeline.execute()
    await client.aclose()


async def consume(url: str, ready: Any, handled: Any) -> None:
    """One subscriber of one group, which gets lists."""
    from faststream.redis import RedisBroker, StreamSub

    broker = RedisBroker(url, logger=None, log_level=logging.CRITICAL)
    stream = StreamSub(STREAM, group=GROUP, consumer="one", batch=True, max_records=BATCH)
    done = asyncio.Event()

    @broker.subscriber(stream=stream)
    async def handle(bodies: list[dict[str, Any]]) -> None:
        if max(map(handled, bodies)):  # each is to be counted
            done.set()

    await broker.start()
    ready()
    await done.wait()
    await broker.stop()
