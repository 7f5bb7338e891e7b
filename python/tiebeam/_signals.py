"""SIGINT and SIGTERM while a framework runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiebeam.framework import Framework

__all__ = ["Signals"]

FORCED_SECONDS = 0.5
"""How long a forced end waits for the logs to be written out."""


class Signals:
    """SIGINT and SIGTERM: the first asks for a stop in order, the second forces the end.

    Plain signal handlers, not the loop's: a component that blocks the loop must not keep the
    second signal from its work.
    """

    def __init__(self, framework: Framework, loop: asyncio.AbstractEventLoop) -> None:
        self._framework = framework
        self._loop = loop
        self._received = 0
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # signals are the caller's affair; Python hands them to the main thread alone
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._receive)

    def remove(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)

    def _receive(self, number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        self._received += 1
        if self._received == 1:
            self._say(f"{name}: stopping in order; once more to force")
            self._loop.call_soon_threadsafe(self._framework.request_stop)
            return
        left = [
            name
            for name, host in self._framework._hosts.items()
            if host.state in ("starting", "running", "degraded", "stopping")
        ]
        self._say(f"{name}: forced, still at work: {', '.join(left) or 'nothing'}")
        # Nothing from here on may wait for what hangs, not even for a lock of the logs.
        writer = threading.Thread(target=self._framework._close_logs, daemon=True)
        writer.start()
        writer.join(FORCED_SECONDS)
        with contextlib.suppress(RuntimeError, ValueError, OSError):
            sys.stdout.flush()
        os._exit(128 + number)

    def _say(self, text: str) -> None:
        # A signal may come in the middle of a print; and there may be no stderr.
        with contextlib.suppress(RuntimeError, ValueError, OSError):
            print(text, file=sys.stderr, flush=True)
