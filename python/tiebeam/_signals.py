"""SIGINT and SIGTERM while a framework runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiebeam.framework import Framework

__all__ = ["Signals"]

OURS = (signal.SIGINT, signal.SIGTERM)

FORCED_SECONDS = 0.5
"""How long a forced end waits for the logs to be written out."""

PATIENCE_SECONDS = 0.5
"""How long the main thread has to see to a signal itself, before the lookout does."""


class Signals:
    """SIGINT and SIGTERM: the first asks for a stop in order, the second forces the end.

    Plain signal handlers, not the loop's: a component that blocks the loop must not keep the
    second signal from its work. And a lookout beside them: Python runs a handler on the main
    thread alone, as soon as that comes to it, and a signal wakes the main thread from a sleep
    only if it arrives there and then. One that another thread took, or that came just before
    the main thread went to sleep, would wait with it.
    """

    def __init__(self, framework: Framework, loop: asyncio.AbstractEventLoop) -> None:
        self._framework = framework
        self._loop = loop
        self._received = 0
        self._forced = threading.Event()
        self._before: dict[signal.Signals, Any] = {}
        self._lookout: _Lookout | None = None

    def install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # signals are the caller's affair; Python hands them to the main thread alone
        for number in OURS:
            self._before[number] = signal.signal(number, self._receive)
        if sys.platform != "win32":
            self._lookout = _Lookout(self._receive, self._noticed)

    def remove(self) -> None:
        if self._lookout is not None:
            self._lookout.end()
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)

    def _receive(self, number: int, _frame: object) -> None:
        """On the main thread."""
        self._received += 1
        if self._received == 1:
            self._say(f"{signal.Signals(number).name}: stopping in order; once more to force")
            self._loop.call_soon_threadsafe(self._framework.request_stop)
        else:
            self._force(number)

    def _noticed(self, number: int, count: int) -> None:
        """On the thread of the lookout."""
        with contextlib.suppress(RuntimeError):  # the loop has ended: nothing to wake
            self._loop.call_soon_threadsafe(_nothing)  # a turn of it runs the handler, if need be
        if count > 1 and not self._forced.wait(PATIENCE_SECONDS):
            self._force(number)

    def _force(self, number: int) -> None:
        if self._forced.is_set():
            return  # the other thread is at it
        self._forced.set()
        left = [
            name
            for name, host in list(self._framework._hosts.items())
            if host.state in ("starting", "running", "degraded", "stopping")
        ]
        name = signal.Signals(number).name

        def tell() -> None:
            self._say(f"{name}: forced, still at work: {', '.join(left) or 'nothing'}")
            self._framework._close_logs()
            with contextlib.suppress(RuntimeError, ValueError, OSError):
                sys.stdout.flush()

        # Nothing from here on may wait for what hangs, not even for a lock of the logs.
        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        teller.join(FORCED_SECONDS)
        os._exit(128 + number)

    def _say(self, text: str) -> None:
        # A signal may come in the middle of a print; and there may be no stderr.
        with contextlib.suppress(RuntimeError, ValueError, OSError):
            print(text, file=sys.stderr, flush=True)


class _Lookout:
    """A thread that hears of every signal, whatever the main thread does.

    Python's C handler writes the number of a signal to one descriptor, on whichever thread the
    signal arrives. An event loop may have its own there: what comes is passed on to it. One that
    puts its own there later, by ``loop.add_signal_handler``, is not overruled: the lookout hears
    nothing more then, and the handlers on the main thread are left.
    """

    def __init__(
        self, handler: Callable[[int, Any], None], noticed: Callable[[int, int], None]
    ) -> None:
        self._handler = handler
        self._noticed = noticed
        self._heard, self._written = socket.socketpair()
        self._written.setblocking(False)
        self._next = signal.set_wakeup_fd(self._written.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, name="tiebeam-signals", daemon=True)
        self._thread.start()
        _all.add(self)

    def end(self) -> None:
        """On the main thread."""
        _all.discard(self)
        since = signal.set_wakeup_fd(-1)
        back = self._next if since == self._written.fileno() else since
        with contextlib.suppress(OSError, ValueError):  # it was closed meanwhile
            signal.set_wakeup_fd(back, warn_on_full_buffer=False)
        self._written.close()
        self._thread.join(PATIENCE_SECONDS)

    def leave_to_parent(self) -> None:
        """In a forked child, whose signals are none of the parent's."""
        with contextlib.suppress(OSError, ValueError):
            since = signal.set_wakeup_fd(-1)
            if since != self._written.fileno():
                signal.set_wakeup_fd(since, warn_on_full_buffer=False)
        self._written.close()
        self._heard.close()

    def _listen(self) -> None:
        count = 0
        with self._heard:
            while numbers := self._heard.recv(64):
                if self._next != -1:
                    with contextlib.suppress(OSError):  # closed meanwhile, or full: it is awake
                        os.write(self._next, numbers)
                for number in numbers:
                    # Who has put a handler of their own there since sees to it themselves.
                    if number in OURS and signal.getsignal(number) == self._handler:
                        count += 1
                        self._noticed(number, count)


_all: weakref.WeakSet[_Lookout] = weakref.WeakSet()


def _in_forked_child() -> None:
    for lookout in list(_all):
        lookout.leave_to_parent()
    _all.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)


def _nothing() -> None:
    pass
