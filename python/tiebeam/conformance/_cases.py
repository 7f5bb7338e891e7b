"""The cases, in the order in which they run."""

from __future__ import annotations

from tiebeam.conformance import _commands, _delivery, _failures, _requests, _scheduling, _survival
from tiebeam.conformance._case import Case, cases_of

__all__ = ["CASES", "Case"]

CASES: tuple[Case, ...] = tuple(
    case
    for module in (_delivery, _failures, _requests, _commands, _scheduling, _survival)
    for case in cases_of(module)
)
