"""aio-pika by hand: 100 confirms under way, a quorum queue, acknowledged one by one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from processes.envelope import BATCH, GROUP, text
from processes.pace import Pace

QUORUM = {"x-queue-type": "quorum"}


async def publish(url: str, count: int, pace: Pace) -> None:
    """100 at a time; one by one at a rate."""
    import aio_pika

    def message(n: int) -> Any:
        body = text(n, pace.sent())
        return aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        exchange = channel.default_exchange
        if pace.rate:
            async for n in pace.beats(count):
                await exchange.publish(message(n), GROUP)
            return
        pace.begin()
        for first in range(0, count, BATCH):
            some = range(first, min(first + BATCH, count))
            await asyncio.gather(*(exchange.publish(message(n), GROUP) for n in some))


async def consume(url: str, ready: Any, handled: Any) -> None:
    """Messages as they come."""
    import aio_pika

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=BATCH)
        queue = await channel.declare_queue(GROUP, durable=True, arguments=QUORUM)
        done = asyncio.Event()

        async def handle(message: Any) -> None:
            async with message.process():
                if handled(json.loads(message.body)["payload"]):
                    done.set()

        await queue.consume(handle)
        ready()
        await done.wait()
