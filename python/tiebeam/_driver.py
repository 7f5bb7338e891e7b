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

    _being_cancelled = False

    def cancel(self, msg: Any = None) -> bool:
        driver: Any = self.get_coro()
        driver.note_cancel()
        if self._being_cancelled:
            self._let_go()
            return True
        self._being_cancelled = True
        try:
            return super().cancel(msg)
        finally:
            self._being_cancelled = False

    def _let_go(self) -> None:
        """Break a circle: what this task awaits awaits this task.

        asyncio passes a cancellation on to what a task awaits, and here it would go round until
        the stack is used up. Those that await this task are told that it was cancelled; so it
        comes back to it.
        """
        loop = self.get_loop()
        cancelled = loop.create_future()
        cancelled.cancel()
        for callback, context in list(getattr(self, "_callbacks", None) or ()):
            self.remove_done_callback(callback)
            loop.call_soon(callback, cancelled, context=context)


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
