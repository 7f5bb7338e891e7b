"""redis-py by hand, one by one."""

from __future__ import annotations

from typing import Any

from processes.contenders import redis_py
from processes.pace import Pace


async def publish(url: str, count: int, pace: Pace) -> None:
    """One ``XADD`` after the other."""
    await redis_py.publish(url, count, pace, 1)


async def consume(url: str, ready: Any, handled: Any) -> None:
    """One entry at a time."""
    await redis_py.consume(url, ready, handled, 1)
