"""Figures of one race."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Row:
    """One contender: a figure for each round, or a word on why there is none."""

    name: str
    values: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass
class Table:
    """All contenders; the first is what the others are compared with."""

    title: str
    unit: str
    rows: list[Row] = field(default_factory=list)

    def row(self, name: str) -> Row | None:
        """The figures of ``name``, if it has any."""
        return next((row for row in self.rows if row.name == name and row.values), None)

    def times(self, row: Row, than: Row | None = None) -> float:
        """How many times another one's figure this one's is: the median over the rounds.

        The other one is the first unless given. The two figures of a round were taken one after
        the other, so that whatever slows the machine for a while slows both.
        """
        pairs = zip(row.values, (than or self.rows[0]).values, strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "title": self.title,
            "unit": self.unit,
            "contenders": {row.name: self._row(row) for row in self.rows},
        }

    def _row(self, row: Row) -> dict[str, Any]:
        if not row.values:
            return {"note": row.note}
        return {
            "median": round(row.median, 1),
            "min": round(min(row.values), 1),
            "max": round(max(row.values), 1),
            "times": round(self.times(row), 3),
            "rounds": [round(value, 1) for value in row.values],
            **({"note": row.note} if row.note else {}),
        }

    def as_markdown(self) -> str:
        """For documentation."""
        lines = [f"| {self.title}, {self.unit} | median | min | max | x |", "| --- " * 5 + "|"]
        for row in self.rows:
            if not row.values:
                lines.append(f"| {row.name} | {row.note} | | | |")
                continue
            figures = (row.median, min(row.values), max(row.values))
            cells = " | ".join(f"{value:,.0f}" for value in figures)
            lines.append(f"| {row.name} | {cells} | {self.times(row):.2f} |")
        return "\n".join(lines)

    def as_text(self) -> str:
        """For people."""
        lines = [
            f"{self.title}, {self.unit}",
            f"  {'':<38}{'median':>11}{'min':>11}{'max':>11}   x",
        ]
        for row in self.rows:
            if not row.values:
                lines.append(f"  {row.name:<38}{row.note:>11}")
                continue
            spread = (min(row.values), max(row.values)) if len(row.values) > 1 else ()
            figures = "".join(f"{value:>11,.0f}" for value in (row.median, *spread))
            figures = figures.ljust(33)
            note = f"  ({row.note})" if row.note else ""
            lines.append(f"  {row.name:<38}{figures}   {self.times(row):.2f}{note}")
        return "\n".join(lines)
