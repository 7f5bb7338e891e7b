"""What a figure should be. Goals are shown beside the figures; missing one fails nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.table import Table


@dataclass(frozen=True)
class Goal:
    """A bound, and what was measured; ``None`` where a contender was missing."""

    what: str
    sign: str
    """``>=`` or ``<=``."""
    bound: float
    unit: str
    measured: float | None

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.bound if self.sign == ">=" else self.measured <= self.bound

    def as_row(self) -> str:
        """For documentation."""
        measured = "not measured" if self.measured is None else f"{self.measured:,.2f}"
        word = ", not met" if self.met is False else ""
        return f"| {self.what} | {self.sign} {self.bound:,g} {self.unit} | {measured}{word} |"

    def as_json(self) -> dict[str, Any]:
        measured = None if self.measured is None else round(self.measured, 3)
        return {
            "what": self.what,
            "goal": f"{self.sign} {self.bound:g} {self.unit}",
            "measured": measured,
            "met": self.met,
        }

    def as_text(self) -> str:
        goal = f"{self.sign} {self.bound:,g} {self.unit}"
        if self.measured is None:
            return f"  {self.what:<52}{goal:<45} not measured"
        digits = 2 if self.measured < 100 else 0
        word = "   met" if self.met else "   not met"
        return f"  {self.what:<52}{goal:<45} {self.measured:,.{digits}f}{word}"


def times(table: Table, peer: str, at_least: float, what: str = "") -> Goal:
    """Tiebeam, the first of ``table``, is to be so many times as fast as ``peer``."""
    row = table.row(peer)
    measured = table.times(row) if row and table.rows[0].values else None
    return Goal(what or table.title, ">=", at_least, f"x {peer}", measured)


def at_most(what: str, bound: float, unit: str, measured: float | None) -> Goal:
    """A figure that is to stay below ``bound``."""
    return Goal(what, "<=", bound, unit, measured)


def at_least(what: str, bound: float, unit: str, measured: float | None) -> Goal:
    """A figure that is to reach ``bound``."""
    return Goal(what, ">=", bound, unit, measured)
