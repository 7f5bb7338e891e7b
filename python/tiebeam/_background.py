"""An event loop on a thread of its own, for async handlers subscribed where no loop runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["BackgroundLoop", "start"]


class BackgroundLoop:
    """A daemon thread that runs an event loop until it is stopped."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="tiebeam-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self._cancel_tasks()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def _cancel_tasks(self) -> None:
        # A cancelled handler hands its events to a new task; the bus is closed, so that one
        # ends at once. What a handler begins while it is cancelled is given up in the end.
        for _ in range(10):
            tasks = asyncio.all_tasks(self.loop)
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    def call(self, function: Callable[[], Any]) -> None:
        """Run ``function`` on the loop's thread, and wait until it has run."""
        done = threading.Event()

        def run() -> None:
            try:
                function()
            finally:
                done.set()

        self.loop.call_soon_threadsafe(run)
        done.wait()

    def stop(self, wait: float = 2.0) -> None:
        """End the loop and its tasks, and wait for that at most ``wait`` seconds; idempotent."""
        if self.loop.is_closed():
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(wait)


def start() -> BackgroundLoop:
    """Start a background loop."""
    return BackgroundLoop()
