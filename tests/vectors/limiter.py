"""So many calls per period, and how long others have to wait."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tiebeam._core import Clock
from tiebeam.exceptions import RateLimited
from tiebeam.resilience import RateLimiter

from vectors.cases import Areas, Case
from vectors.stance import compare, settle

__all__ = ["AREAS"]

FOR_EVER = timedelta(days=1)
"""The longest wait where a case has none."""


def run(case: Case) -> None:
    given = case["limiter"]
    clock = Clock.simulated()
    limiter = RateLimiter(
        given["limit"],
        period=timedelta(milliseconds=given["period_ms"]),
        max_wait=timedelta(milliseconds=given["max_wait_ms"])
        if "max_wait_ms" in given
        else FOR_EVER,
        name=case["id"],
        clock=clock,
    )
    differences = []
    for row in case["steps"]:
        step = dict(zip(case["columns"], row, strict=True))
        while clock.step(step["at_ms"] * 1_000_000):
            pass
        for field, actual in _taken(limiter, step.get("permits", 1)).items():
            if field in step:
                differences += compare(f"{field} at {step['at_ms']} ms", actual, step[field])
    settle(case, differences)


def _taken(limiter: RateLimiter, permits: int) -> dict[str, Any]:
    try:
        wait: float | None = limiter.acquire(permits)
    except RateLimited:
        wait = None
    return {
        "granted": wait is not None,
        "wait_ms": None if wait is None else round(wait * 1_000, 6),
        "hint_wait_ms_after": round(limiter.wait_for(permits) * 1_000, 6),
        "available_after": limiter.available,
    }


AREAS: Areas = {"rate_limiter": run}
