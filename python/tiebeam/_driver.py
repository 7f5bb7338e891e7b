"""The task in which the core steps handlers."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["DriverTask", "background"]


class DriverTask(asyncio.Task[None]):
    """An asyncio task that tells its driver when somebody cancels it.

    One task serves many events; it must not serve another one after a handler, or somebody
    outside, has cancelled it.
    """

    def __init__(self, driver: Any, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(driver, loop=loop)
        # A loop that is closed in the middle of things destroys its tasks. Ours hand back what
        # they hold, and the books say what became of it; asyncio need not complain as well.
        self._log_destroy_pending = False

    def cancel(self, msg: Any = None) -> bool:
        driver: Any = self.get_coro()
        driver.note_cancel()
        return super().cancel(msg)


_BACKGROUND: set[asyncio.Task[Any]] = set()


def background(awaitable: Any, *, loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
    """Run the core's background work as a task of ``loop``.

    The loop itself keeps only a weak reference to its tasks; we keep this one until it ends.
    """

    async def run() -> None:
        await awaitable

    task = loop.create_task(run())
    _BACKGROUND.add(task)
    task.add_done_callback(_BACKGROUND.discard)
    return task
