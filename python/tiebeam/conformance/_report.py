"""What came of the cases, for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tiebeam._core import ConfigStore

__all__ = ["MARKS", "Report", "Result", "matrix", "place"]

MARKS = {"passed": "ok", "failed": "FAILED", "left out": "-"}
"""What stands for what came of a case."""


@dataclass(frozen=True)
class Result:
    """What came of one case."""

    case: str
    outcome: Literal["passed", "failed", "left out"]
    reason: str = ""
    seconds: float = 0.0


@dataclass
class Report:
    """What came of all cases on one transport."""

    transport: str
    capabilities: dict[str, Any]
    results: list[Result] = field(default_factory=list)
    where: str = ""
    """Where its broker is, as :func:`place` has it."""

    @property
    def failed(self) -> list[Result]:
        """The cases that failed."""
        return [result for result in self.results if result.outcome == "failed"]

    def count(self, outcome: str) -> int:
        """How many cases came to this."""
        return sum(result.outcome == outcome for result in self.results)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "transport": self.transport,
            "where": self.where,
            "capabilities": {n: v for n, v in self.capabilities.items() if n != "name"},
            "results": [asdict(result) for result in self.results],
            **{outcome.replace(" ", "_"): self.count(outcome) for outcome in MARKS},
        }

    def __str__(self) -> str:
        return matrix([self])


def matrix(reports: Sequence[Report]) -> str:
    """One column for each transport, a line for what it can do and for each case; then the reasons.

    Args:
        reports: Of the same cases.
    """
    heads = [[report.transport for report in reports], [report.where for report in reports]]
    parts: list[list[tuple[str, list[str]]]] = [[("", head) for head in heads if any(head)], [], []]
    for name in reports[0].capabilities:
        if name != "name":
            cells = ["yes" if report.capabilities[name] else "no" for report in reports]
            parts[1].append((name.replace("_", " "), cells))
    for results in zip(*(report.results for report in reports), strict=True):
        parts[2].append((results[0].case, [MARKS[result.outcome] for result in results]))
    parts.append([(o, [str(report.count(o)) for report in reports]) for o in MARKS])
    rows = [row for part in parts for row in part]
    first = max(len(name) for name, _cells in rows)
    widths = [max(map(len, column)) for column in zip(*(cells for _, cells in rows), strict=True)]
    lines: list[str] = []
    for part in parts:
        for name, cells in part:
            padded = (f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
            lines.append(f"{name:{first}}  {'  '.join(padded)}".rstrip())
        lines.append("")
    lines.pop()
    for report in reports:
        told = [result for result in report.results if result.reason]
        if told:
            lines += ["", f"{report.transport} {report.where}".rstrip()]
            lines += [f"  {MARKS[r.outcome]} {r.case}: {r.reason}" for r in told]
    return "\n".join(lines)


def place(url: str | None) -> str:
    """Where a URL leads, as it may be shown: the host, its port and what stands behind it.

    Args:
        url: The URL; none is this process.
    """
    if url is None:
        return ""
    # What is no URL may be a part of a password.
    masked = str(ConfigStore.redact("", url)) if "://" in url else ""
    return masked.partition("://")[2].rpartition("@")[2].partition("?")[0].rstrip("/")
