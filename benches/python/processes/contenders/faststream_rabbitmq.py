"""FastStream on RabbitMQ, as its guide shows it, on a quorum queue with confirms."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from processes.envelope import GROUP, payload
from processes.pace import Pace


def _queue() -> Any:
    from faststream.rabbit import QueueType, RabbitQueue

    return RabbitQueue(GROUP, queue_type=QueueType.QUORUM, durable=True)


async def publish(url: str, count: int, pace: Pace) -> None:
    """``await broker.publish(...)`` in a loop."""
    from faststream.rabbit import RabbitBroker

    async with RabbitBroker(url, logger=None, log_level=logging.CRITICAL) as broker:
        await broker.declare_queue(_queue())
        async for n in pace.beats(count):
            await broker.publish(payload(n, pace.sent()), queue=_queue(), persist=True)


async def consume(url: str, ready: Any, handled: Any) -> None:
    """One subscriber."""
    from faststream.rabbit import RabbitBroker

    broker = RabbitBroker(url, logger=None, log_level=logging.CRITICAL)
    done = asyncio.Event()

    @broker.subscriber(_queue())
    async def handle(body: dict[str, Any]) -> None:
        if handled(body):
            done.set()

    await broker.start()
    ready()
    await done.wait()
    await broker.stop()
