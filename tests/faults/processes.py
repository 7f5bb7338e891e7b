"""The processes of a run, as whoever began them sees them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import psutil

from faults.ledger import Reading

T = TypeVar("T")

TESTS = Path(__file__).parent.parent


class Plan(Protocol):
    """What a process is to do."""

    name: str
    ledger: str

    def arguments(self) -> list[str]: ...


def until(what: Callable[[], T], within: float, why: str) -> T:
    """The first true thing that ``what`` returns.

    Raises:
        TimeoutError: When there is none in time.
    """
    end = time.monotonic() + within
    while not (found := what()):
        if time.monotonic() >= end:
            raise TimeoutError(f"not within {within:.0f} s: {why}")
        time.sleep(0.01)  # looking again: a ledger tells nobody that it grew
    return found


@dataclass(frozen=True)
class Size:
    """What a process takes of the machine."""

    rss: int
    threads: int
    files: int


class Spawned:
    """One process, begun and, at the latest with its block, ended."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.reading = Reading(Path(plan.ledger))
        self.killed_at: float | None = None
        log = Path(plan.ledger).with_suffix(".log").open("wb")
        # What we import from goes first there, too: they use the same build of the package.
        path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(TESTS))))
        with log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *plan.arguments()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=TESTS,
                env={**os.environ, "RUST_BACKTRACE": "0", "PYTHONPATH": path},
            )

    def await_word(self, word: str, within: float = 30.0) -> None:
        """Wait until it wrote so.

        Raises:
            TimeoutError: When it did not in time.
            AssertionError: When it ended meanwhile, with what it printed last.
        """

        def told() -> bool:
            if word in self.reading.words():
                return True
            assert self.process.poll() is None, f"{self.plan.name} ended: {self.printed()[-2000:]}"
            return False

        until(told, within, f"{self.plan.name} says {word!r}")

    def printed(self) -> str:
        """All it printed."""
        return Path(self.plan.ledger).with_suffix(".log").read_text(errors="replace")

    def kill(self) -> float:
        """End it at once; when that was."""
        self.process.kill()
        self.process.wait()
        self.killed_at = time.monotonic()
        return self.killed_at

    def ask(self) -> None:
        """What it does then is its own affair: a producer stops, a consumer hurries."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)

    def end(self, within: float = 30.0) -> int:
        """Have it end by itself; its exit code."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return self.process.wait(within)

    def size(self) -> Size:
        """What it takes just now."""
        process = psutil.Process(self.process.pid)
        with process.oneshot():
            return Size(process.memory_info().rss, process.num_threads(), process.num_fds())

    def abandon(self) -> None:
        """End it whatever it does, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
