"""What one process did, in a file that it syncs to disk: lines that are only ever added."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One line: what happened to which event, and when by the machine's monotonic clock."""

    word: str
    event_id: str = ""
    seq: int = -1
    key: str = ""
    at: float = 0.0
    more: Any = None

    def line(self) -> bytes:
        fields = [self.word, self.event_id, self.seq, self.key, self.at, self.more]
        return json.dumps(fields).encode() + b"\n"


class Ledger:
    """The ledger of this process, open for writing."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        self._syncing: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    def note(
        self, word: str, event_id: str = "", seq: int = -1, key: str = "", more: Any = None
    ) -> None:
        """Write a line: it outlives this process, if not the machine."""
        entry = Entry(word, event_id, seq, key, time.monotonic(), more)
        os.write(self._file, entry.line())

    async def synced(self) -> None:
        """Wait until all that was noted by now is on disk; many who wait share one sync."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._sync(self._syncing))
        await asyncio.shield(self._next)

    async def _sync(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._syncing, self._next = self._next, None
        await asyncio.to_thread(os.fdatasync, self._file)

    def sync(self) -> None:
        """The same, for whoever may block."""
        os.fdatasync(self._file)


class Reading:
    """A ledger as it grows, read by somebody else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self._counts: Counter[str] = Counter()
        self._at = 0

    def refresh(self) -> list[Entry]:
        """All there is by now. A line that was cut off by the end of its process is none."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._at)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._at += len(line)
                    entry = Entry(*json.loads(line))
                    self.entries.append(entry)
                    self._counts[entry.word] += 1
        return self.entries

    def count(self, word: str) -> int:
        """How many lines with this word it has by now."""
        self.refresh()
        return self._counts[word]

    def since(self, moment: float) -> list[Entry]:
        """What was noted after that."""
        later = takewhile(lambda entry: entry.at > moment, reversed(self.refresh()))
        return list(later)[::-1]

    def words(self) -> set[str]:
        """The words that it has by now."""
        self.refresh()
        return set(self._counts)
