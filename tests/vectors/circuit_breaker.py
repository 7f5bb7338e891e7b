"""Circuit breakers: the steps of a case, played on a breaker whose clock only they move."""

from __future__ import annotations

import contextvars
import math
from asyncio import CancelledError
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tiebeam import CircuitOpen, LifecycleError
from tiebeam._core import Clock
from tiebeam.resilience import CircuitBreaker, Decision, listen

from vectors.breaker_options import Ignored, breaker_of
from vectors.cases import Areas, Case
from vectors.stance import compare, settle

__all__ = ["AREAS"]


class Failure(Exception):
    """What a dependency fails with."""


OUTCOMES: dict[str, type[Exception] | None] = {
    "success": None,
    "error": Failure,
    "ignored": Ignored,
}

SECOND = 1_000
"""In milliseconds, as all times of the cases."""

FREE = ("closed", "metrics_only", "disabled")
"""States in which any number of calls may begin."""

BREAKS = ("force", "reset")
"""Steps that no call is to overlap with."""

Rate = float | None
Figures = dict[str, Any]


def _rate(rate: Rate) -> float:
    return -1.0 if rate is None else rate


FIELDS: dict[str, Callable[[Figures], Any]] = {
    "state": lambda figures: figures["state"],
    "buffered": lambda figures: figures["calls"],
    "failed": lambda figures: figures["failed"],
    "slow": lambda figures: figures["slow"],
    "failure_rate": lambda figures: _rate(figures["failure_rate"]),
    "slow_rate": lambda figures: _rate(figures["slow_rate"]),
    "not_permitted": lambda figures: figures["rejected"],
}
"""What a step may expect of the breaker, as its metrics have it."""


def run(case: Case) -> None:
    play = Play(case)
    surfaced = case.get("surfaced_errors", {}).get("canonical")
    if surfaced is not None:
        settle(case, compare("surfaced", play.surfaced, surfaced), canonical=True)
        return
    events = case.get("expect", {}).get("events")
    if events is not None:
        play.differences += compare("events", play.events, events)
    settle(case, play.differences)


class Call:
    """A call that passes the breaker, from its beginning to its end.

    A `with` block stays with its context, so that each call has one of its own.
    """

    def __init__(self, breaker: CircuitBreaker, since: int) -> None:
        self.since = since
        self._breaker = breaker
        self._context = contextvars.copy_context()
        self._context.run(breaker.__enter__)

    def end(self, error: BaseException | None) -> None:
        kind = None if error is None else type(error)
        self._context.run(self._breaker.__exit__, kind, error, None)


class Play:
    """The steps of one case, and what came of them."""

    def __init__(self, case: Case) -> None:
        self.differences: list[str] = []
        self.events: list[str] = []
        self.surfaced: list[str] = []
        self.steps: list[dict[str, Any]] = case["steps"]
        self.clock = Clock.simulated()
        self.breaker = breaker_of(case, self.clock)
        # Those that are recorded without having been acquired began before everything else.
        self.held = [Call(self.breaker, 0) for _ in range(unmatched(self.steps))]
        self.due: list[tuple[int, int]] = []
        self.begun: dict[int, Call] = {}
        end = listen(self._heard)
        try:
            self._plan(0)
            for index, step in enumerate(self.steps):
                self._step(index, step)
        finally:
            end()

    def _heard(self, decision: Decision) -> None:
        if decision.name != self.breaker.name or decision.kind == "circuit_breaker.rejected":
            return
        if "from" in decision.facts:
            self.events.append(f"{decision.facts['from']}->{decision.facts['to']}")
        else:
            self.events.append(decision.kind.removeprefix("circuit_breaker."))

    # -- time -----------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """Milliseconds."""
        return self.clock.nanos() // 1_000_000

    def _advance(self, ms: int) -> None:
        until = self.now + ms
        while self.due and self.due[0][0] <= until:
            at, index = self.due.pop(0)
            self._move(at)
            self.begun[index] = Call(self.breaker, at)
        self._move(until)

    def _move(self, to: int) -> None:
        while self.clock.step(to * 1_000_000):
            pass

    def _plan(self, first: int) -> None:
        """Have the calls from step `first` on begin so early that they end in their time.

        In the cases, time stands still while a call takes its time: what is recorded at one
        moment, however long it took, falls out of a window of time at one moment, too. So calls
        overlap here. It is only of use where a call may begin at any time; elsewhere each call
        moves the clock.
        """
        for call in self.begun.values():
            call.end(CancelledError())
        self.begun, self.due = {}, []
        if self.breaker.state not in FREE:
            return
        offset, begins = 0, []
        for index, step in enumerate(self.steps[first:], first):
            if step["op"] in BREAKS:
                break
            if step["op"] == "advance":
                offset += step["ms"]
            elif step["op"] == "call" and step.get("duration_ms"):
                begins.append((offset - step["duration_ms"], index))
        lead = max([0, *(-begin for begin, _ in begins)])
        lead += -lead % SECOND  # a window forgets whole seconds: they are where the case has them
        self.due = sorted((self.now + lead + begin, index) for begin, index in begins)
        self._advance(lead)

    # -- steps ----------------------------------------------------------------------------

    def _step(self, index: int, step: dict[str, Any]) -> None:
        generation = self.breaker.metrics()["generation"]
        error: Exception | None = None
        try:
            getattr(self, f"_{step['op']}_step")(index, step)
        except (CircuitOpen, LifecycleError) as raised:
            error = raised
        for field, expected in step.get("expect", {}).items():
            actual = self._field(field, error)
            same = (
                math.isclose(actual, expected) if field.endswith("_rate") else (actual == expected)
            )
            if not same:
                self.differences.append(
                    f"step {index}, {step['op']}: {field} is {actual} instead of {expected}"
                )
        if isinstance(error, LifecycleError) and "error" not in step.get("expect", {}):
            self.differences.append(f"step {index}, {step['op']}: {error}")
        if step["op"] in BREAKS or self.breaker.metrics()["generation"] != generation:
            self._plan(index + 1)

    def _field(self, field: str, error: Exception | None) -> Any:
        if field == "permitted":
            return not isinstance(error, CircuitOpen)
        if field == "error":
            return "illegal_transition" if isinstance(error, LifecycleError) else None
        return FIELDS[field](self.breaker.metrics())

    def _call_step(self, index: int, step: dict[str, Any]) -> None:
        outcome = OUTCOMES[step["outcome"]]
        error = None if outcome is None else outcome()
        if (call := self.begun.pop(index, None)) is not None:
            call.end(error)
            self.surfaced += ["own"] if error else []
            return

        def work() -> None:
            self._advance(step.get("duration_ms", 0))
            if error is not None:
                raise error

        try:
            self.breaker.call(work)
        except CircuitOpen:
            self.surfaced.append("breaker")
            raise
        except (Failure, Ignored) as raised:
            self.surfaced.append("own" if raised is error else "another")

    def _acquire_step(self, _index: int, _step: dict[str, Any]) -> None:
        try:
            self.held.append(Call(self.breaker, self.now))
        except CircuitOpen:
            self.surfaced.append("breaker")
            raise

    def _record_step(self, _index: int, step: dict[str, Any]) -> None:
        outcome = OUTCOMES[step["outcome"]]
        call = self.held.pop(0)
        self._advance(max(0, step.get("duration_ms", 0) - (self.now - call.since)))
        call.end(None if outcome is None else outcome())

    def _release_step(self, _index: int, _step: dict[str, Any]) -> None:
        self.held.pop(0).end(CancelledError())

    def _advance_step(self, _index: int, step: dict[str, Any]) -> None:
        self._advance(step["ms"])

    def _force_step(self, _index: int, step: dict[str, Any]) -> None:
        wait = timedelta(milliseconds=step["wait_ms"]) if "wait_ms" in step else None
        self.breaker.force(step["state"], wait=wait)

    def _reset_step(self, _index: int, _step: dict[str, Any]) -> None:
        self.breaker.reset()


def unmatched(steps: list[dict[str, Any]]) -> int:
    """How many outcomes are recorded of calls that no step has acquired before."""
    held = early = 0
    for step in steps:
        if step["op"] == "acquire" and step.get("expect", {}).get("permitted", True):
            held += 1
        elif step["op"] in ("record", "release"):
            early += held == 0
            held = max(0, held - 1)
    return early


AREAS: Areas = {"circuit_breaker": run}
