"""What a health check answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

from tiebeam import _core
from tiebeam._core import Slo
from tiebeam._html import table

__all__ = ["Health", "HealthReport", "Slo", "aggregate", "http_status"]


class Health:
    """The answer of a health check: a verdict, words, and facts.

    A check may also return a plain dict (pass, with these facts), ``None`` (pass), ``True`` or
    ``False`` (pass or fail) or a number, which is a measured value: the check's ``warn_at`` and
    ``fail_at`` say what that means. Raising means fail.

    >>> Health.warn("cache is cold", hit_rate=0.2)
    <Health warn 'cache is cold' {'hit_rate': 0.2}>
    """

    __slots__ = {
        "details": "Facts, by name.",
        "message": "Words for people, if any.",
        "value": "What was measured, if anything.",
        "verdict": "``pass``, ``warn`` or ``fail``.",
    }

    def __init__(
        self,
        verdict: str,
        message: str | None = None,
        details: Mapping[str, Any] | None = None,
        value: float | None = None,
    ) -> None:
        if verdict not in ("pass", "warn", "fail"):
            raise ValueError(f"a verdict is 'pass', 'warn' or 'fail', got {verdict!r}")
        if message is not None and not isinstance(message, str):
            raise TypeError(f"the message of a health is text, got {message!r}")
        if details is not None and not isinstance(details, Mapping):
            raise TypeError(f"the details of a health are a dict of facts, got {details!r}")
        self.verdict = verdict
        self.message = message
        self.details = dict(details or {})
        self.value = None if value is None else _number(value)

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
    def measured(cls, value: float, message: str | None = None, /, **details: Any) -> Health:
        """A value that the check's limits judge."""
        return cls("pass", message, details, value)

    @classmethod
    def of(cls, answer: Any) -> Health:
        """The answer in one form, whatever a check returned."""
        if answer is None:
            return cls("pass")
        if isinstance(answer, Health):
            return answer
        if isinstance(answer, bool):
            return cls("pass" if answer else "fail")
        if isinstance(answer, (Real, Decimal)):
            return cls.measured(_number(answer))
        if isinstance(answer, Mapping):
            return cls("pass", None, answer)
        raise TypeError(
            "a health check returns None, a bool, a number, a dict of details or a Health, "
            f"got {type(answer).__name__}"
        )

    def _as_dict(self) -> dict[str, Any]:
        """What the core reads."""
        return {
            "verdict": self.verdict,
            "message": self.message,
            "details": self.details,
            "value": self.value,
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Health):
            return NotImplemented
        return (self.verdict, self.message, self.details, self.value) == (
            other.verdict,
            other.message,
            other.details,
            other.value,
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        message = f" {self.message!r}" if self.message else ""
        value = "" if self.value is None else f" {self.value:g}"
        return f"<Health {self.verdict}{value}{message} {self.details}>"


def _number(value: Any) -> float:
    """A measured value, of whatever kind of number it is."""
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
        raise TypeError(f"a measured value is a number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a measured value is too large for a float") from None


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


def aggregate(verdicts: Iterable[str], *, order: Sequence[str] | None = None) -> str:
    """What several verdicts add up to.

    Args:
        verdicts: ``pass``, ``warn``, ``fail``, ``out_of_service`` or ``unknown``, or what others
            call them (``UP``, ``DOWN``, ``ok``, ``error``), in any case and punctuation; what is
            none of these is left out.
        order: Which one wins: the first of these that there is. Unless given, the worst, and
            ``unknown`` only where there is nothing else.

    Returns:
        The verdict; ``unknown`` for none.
    """
    return _core._aggregate(list(verdicts), None if order is None else list(order))


def http_status(verdict: str, mapping: Mapping[str, int] | None = None) -> int:
    """The HTTP status of an endpoint that says this.

    Args:
        verdict: As for :func:`aggregate`.
        mapping: Other statuses for some of them; the rest stay as they are.

    Returns:
        503 for ``fail`` and ``out_of_service``, else 200.
    """
    wanted = _core._verdict(verdict) or verdict
    for name, status in (mapping or {}).items():
        if (_core._verdict(name) or name) == wanted:
            return status
    return _core._http_status(verdict)
