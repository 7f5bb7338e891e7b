"""What a breaker counts, and what it makes of the figures, apart from its other states."""

from __future__ import annotations

import contextlib
from datetime import timedelta

from tiebeam import CircuitOpen
from tiebeam._core import Clock
from tiebeam.resilience import CircuitBreaker

from vectors.cases import Areas, Case
from vectors.stance import compare, settle

__all__ = ["AREAS"]


class Failure(Exception):
    """What a dependency fails with."""


def _calls(breaker: CircuitBreaker, outcomes: str) -> None:
    def fail() -> None:
        raise Failure

    for outcome in outcomes:
        with contextlib.suppress(Failure, CircuitOpen):
            breaker.call(fail if outcome == "F" else lambda: None)


def run_decision(case: Case) -> None:
    differences = []
    for throughput, minimum, failure_ratio, threshold, breaks in case["table"]:
        breaker = CircuitBreaker(
            case["id"],
            window_calls=max(throughput, minimum),
            minimum_calls=minimum,
            failure_rate=threshold * 100,
            clock=Clock.simulated(),
        )
        failures = round(throughput * failure_ratio)
        _calls(breaker, "S" * (throughput - failures) + "F" * failures)
        row = f"{failures} of {throughput} with {minimum} needed and {threshold:g} too much"
        differences += compare(row, breaker.state == "open", breaks)
    settle(case, differences)


def run_rolling(case: Case) -> None:
    clock = Clock.simulated()
    breaker = CircuitBreaker(
        case["id"],
        window_time=timedelta(milliseconds=case["sampling_ms"]),
        minimum_calls=1,
        clock=clock,
    )
    breaker.force("metrics_only")  # it counts, and never opens
    differences = []
    for index, step in enumerate(case["steps"]):
        _calls(breaker, "".join(step["record"]))
        until = clock.nanos() + step["advance_ms"] * 1_000_000
        while clock.step(until):
            pass
        if "expect" in step:
            figures = breaker.metrics()
            rate = (figures["failure_rate"] or 0.0) / 100
            actual = [figures["calls"], rate, figures["failed"]]
            differences += compare(f"step {index}", actual, step["expect"])
    settle(case, differences)


AREAS: Areas = {"circuit_breaker_decision": run_decision, "rolling_metrics": run_rolling}
