"""What came of the cases, for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Report", "Result"]


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

    @property
    def failed(self) -> list[Result]:
        """The cases that failed."""
        return [result for result in self.results if result.outcome == "failed"]

    def count(self, outcome: str) -> int:
        """How many cases came to this."""
        return sum(result.outcome == outcome for result in self.results)

    def __str__(self) -> str:
        lines = [f"{self.transport}", ""]
        for name, value in self.capabilities.items():
            if name != "name":
                lines.append(f"  {'yes' if value else 'no ':4} {name.replace('_', ' ')}")
        lines.append("")
        width = max((len(result.case) for result in self.results), default=0)
        for result in self.results:
            mark = {"passed": "ok", "failed": "FAILED", "left out": "-"}[result.outcome]
            reason = f"  {result.reason}" if result.reason else ""
            lines.append(f"  {result.case:{width}}  {mark}{reason}")
        lines.append("")
        lines.append(
            f"  {self.count('passed')} passed, {self.count('failed')} failed, "
            f"{self.count('left out')} left out"
        )
        return "\n".join(lines)
