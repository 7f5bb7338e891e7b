"""The task in which the core steps handlers."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["DriverTask"]


class DriverTask(asyncio.Task[None]):
    """An asyncio task that tells its driver when somebody cancels it.

    One task serves many events; it must not serve another one after a handler, or somebody
    outside, has cancelled it.
    """

    def cancel(self, msg: Any = None) -> bool:
        driver: Any = self.get_coro()
        driver.note_cancel()
        return super().cancel(msg)
