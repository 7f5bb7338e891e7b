"""The core's worker threads as ``threading`` sees them.

They are started by the core, so ``threading`` knows nothing of them until somebody asks for the
current thread, a log record for one; before 3.13 it then lists them for ever.
"""

from __future__ import annotations

import threading

__all__ = ["enter", "leave"]


def enter(name: str) -> None:
    """Have the calling thread show under ``name`` in debuggers and log records."""
    threading.current_thread().name = name


def leave() -> None:
    """Take the calling thread off the list; it is about to end."""
    active: dict[int, threading.Thread] = getattr(threading, "_active", {})
    active.pop(threading.get_ident(), None)
