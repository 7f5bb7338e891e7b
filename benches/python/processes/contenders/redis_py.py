"""redis-py by hand: pipelines of 100, read and acknowledged by 100."""

from __future__ import annotations

import json
from typing import Any

from processes.envelope import BATCH, GROUP, STREAM, text
from processes.pace import Pace


async def publish(url: str, count: int, pace: Pace, size: int = BATCH) -> None:
    """Pipelines of ``size``."""
    import redis.asyncio

    client = redis.asyncio.Redis.from_url(url)
    await client.ping()
    if pace.rate or size == 1:
        async for n in pace.beats(count):
            await client.xadd(STREAM, {"data": text(n, pace.sent())})
    else:
        pace.begin()
        for first in range(0, count, size):
            async with client.pipeline(transaction=False) as pipeline:
                for n in range(first, min(first + size, count)):
                    pipeline.xadd(STREAM, {"data": text(n)})
                await pipeline.execute()
    await client.aclose()


async def consume(url: str, ready: Any, handled: Any, size: int = BATCH) -> None:
    """Reads of ``size``, each acknowledged as a whole."""
    import redis.asyncio

    client = redis.asyncio.Redis.from_url(url, socket_timeout=30)
    await client.xgroup_create(STREAM, GROUP, "$", mkstream=True)
    ready()
    over = False
    while not over:
        found = await client.xreadgroup(GROUP, "one", {STREAM: ">"}, count=size, block=5_000)
        for _stream, entries in found:
            for _id, fields in entries:
                over = handled(json.loads(fields[b"data"])["payload"])
            await client.xack(STREAM, GROUP, *(entry[0] for entry in entries))
    await client.aclose()
