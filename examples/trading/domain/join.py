"""Joining streams by sequence number.

Agents work side by side, so what they say about one candle arrives in any order. A decision that
took what happened to be there would change with the machine's mood; one that waits for the whole
row, and takes rows in order, depends on the input alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class SeqJoin(Generic[T]):
    """Rows `0, 1, 2, ...`, each complete when every expected item has arrived.

    A row expects one item of every source; `expect` asks for more. Adding an item again, or one
    of a row that is done, changes nothing: redelivery is harmless. The number of open rows is
    bounded by how far the streams are apart, hence by the mailboxes between them.
    """

    def __init__(self, sources: Collection[str]) -> None:
        self._sources = tuple(sources)
        self._rows: dict[int, dict[str, T]] = {}
        self._extra: dict[int, tuple[str, ...]] = {}
        self.next_seq = 0

    def __len__(self) -> int:
        """Rows begun and not done."""
        return len(self._rows)

    def add(self, seq: int, source: str, item: T) -> bool:
        """Add an item to its row; false if the row has it already or is done."""
        if seq < self.next_seq:
            return False
        row = self._rows.setdefault(seq, {})
        if source in row:
            return False
        row[source] = item
        return True

    def expect(self, seq: int, sources: Collection[str]) -> None:
        """Let row `seq` wait for further sources as well."""
        if seq >= self.next_seq:
            known = self._extra.get(seq, ())
            self._extra[seq] = known + tuple(s for s in sources if s not in known)

    def missing(self) -> list[str]:
        """What the next row still waits for."""
        row = self._rows.get(self.next_seq, {})
        return [s for s in self._wanted(self.next_seq) if s not in row]

    def ready(self) -> Iterator[tuple[int, dict[str, T]]]:
        """The complete rows in order; a row is done once the loop comes back for the next.

        If the body raises, its row stays and is offered again, so no row is lost half-way.
        """
        while not self.missing():
            seq = self.next_seq
            yield seq, dict(self._rows[seq])
            del self._rows[seq]
            self._extra.pop(seq, None)
            self.next_seq += 1

    def _wanted(self, seq: int) -> tuple[str, ...]:
        return self._sources + self._extra.get(seq, ())
