"""What a health check answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiebeam._html import table

__all__ = ["Health", "HealthReport"]


class Health:
    """The answer of a health check: a verdict, words, and facts.

    A check may also return a plain dict (pass, with these facts) or ``None`` (pass), and raising
    means fail.

    >>> Health.warn("cache is cold", hit_rate=0.2)
    <Health warn 'cache is cold' {'hit_rate': 0.2}>
    """

    __slots__ = {
        "details": "Facts, by name.",
        "message": "Words for people, if any.",
        "verdict": "``pass``, ``warn`` or ``fail``.",
    }

    def __init__(
        self, verdict: str, message: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        if verdict not in ("pass", "warn", "fail"):
            raise ValueError(f"a verdict is 'pass', 'warn' or 'fail', got {verdict!r}")
        self.verdict = verdict
        self.message = message
        self.details = dict(details or {})

    @classmethod
    def ok(cls, message: str | None = None, /, **details: Any) -> Health:
        """All is well."""
        return cls("pass", message, details)

    @classmethod
    def warn(cls, message: str | None = None, /, **details: Any) -> Health:
        """It works, with reduced functionality."""
        return cls("warn", message, details)

    @classmethod
    def fail(cls, message: str | None = None, /, **details: Any) -> Health:
        """It does not work."""
        return cls("fail", message, details)

    @classmethod
    def of(cls, answer: Any) -> Health:
        """The answer in one form, whatever a check returned."""
        if answer is None:
            return cls("pass")
        if isinstance(answer, Health):
            return answer
        if isinstance(answer, bool):
            return cls("pass" if answer else "fail")
        if isinstance(answer, Mapping):
            return cls("pass", None, answer)
        raise TypeError(
            "a health check returns None, a bool, a dict of details or a Health, "
            f"got {type(answer).__name__}"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Health):
            return NotImplemented
        return (self.verdict, self.message, self.details) == (
            other.verdict,
            other.message,
            other.details,
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        message = f" {self.message!r}" if self.message else ""
        return f"<Health {self.verdict}{message} {self.details}>"


class HealthReport(dict[str, Any]):
    """The health of a system or of one component: a plain dict that notebooks show as a table."""

    def _repr_html_(self) -> str:
        head = ["component", "status", "health", "live", "ready", "reasons"]
        rows = [
            [
                report["component_id"],
                report["status"],
                report["health"],
                report["live"],
                report["ready"],
                "; ".join(report["details"].get("reasons", [])),
            ]
            for report in self.get("components", [self])
        ]
        return table(head, rows)
