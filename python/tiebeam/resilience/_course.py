"""The course of one call that is tried again: what failed, what follows, what is told of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tiebeam.exceptions import CircuitOpen
from tiebeam.resilience._decisions import shown, tell
from tiebeam.resilience._stage import name_of

if TYPE_CHECKING:
    from tiebeam.resilience._retry import Retry

__all__ = ["Attempt", "Course"]

_NEVER = ("not_retryable", "attempts", "circuit_open")
"""Reasons for which a first attempt is the last, without more ado."""


class Course:
    """The course of one call, from its first failure on; of a block, from the beginning."""

    def __init__(
        self,
        owner: Retry,
        function: Callable[..., Any] | None,
        begun: Any,
        failure: Exception | None,
        result: Any,
    ) -> None:
        self.owner = owner
        self.function: Any = function
        self.name = owner.name or ("block" if function is None else name_of(function))
        self.run: Any = owner._core.run(begun)  # none while resilience is off
        self.failure = failure
        self.result = result
        self.waited = 0.0
        self.done = False

    def failed(self, error: Exception) -> None:
        self.failure = error

    def came_to(self, result: Any) -> None:
        wants_more = self.owner._on_result
        self.failure, self.result = None, result
        self.done = wants_more is None or not wants_more(result)

    def wait(self) -> float | None:
        """How long to wait before another attempt; ``None`` if there is none."""
        owner = self.owner
        if self.done:
            self.run.succeeded()
            tell(
                owner.origin,
                "retry.recovered",
                self.name,
                attempts=self.run.attempt,
                waited=self.waited,
            )
            return None
        if self.run is None:
            return None
        error = self.failure
        retryable, hint = self._asked(error)
        verdict = self.run.failed(
            error,
            retryable=retryable,
            circuit_open=isinstance(error, CircuitOpen),
            hint=hint,
        )
        if isinstance(verdict, str):
            self._give_up(verdict)
            return None
        self.waited += verdict
        tell(
            self.owner.origin,
            "retry.scheduled",
            self.name,
            attempt=self.run.attempt,
            wait=verdict,
            error=shown(error) if error is not None else "a result that is not good enough",
        )
        return float(verdict)

    def _asked(self, error: Exception | None) -> tuple[bool | None, float | None]:
        """What the user's functions say of an error: whether to try again, and when."""
        on, hint = self.owner._on, self.owner._hint
        if error is None:
            return True, None
        try:
            retryable = None
            if on is not None:
                retryable = isinstance(error, on) if isinstance(on, tuple) else bool(on(error))
            return retryable, _seconds(hint(error))
        except Exception as own:
            own.__context__ = error  # it must not hide what it was asked about
            raise

    def _give_up(self, reason: str) -> None:
        attempts = self.run.attempt
        self.run.end()
        if reason == "budget":
            tell(self.owner.origin, "retry.suppressed", self.name, attempt=attempts, reason=reason)
        if attempts == 1 and reason in _NEVER:
            return  # it was never a matter of trying again
        tell(
            self.owner.origin,
            "retry.gave_up",
            self.name,
            attempts=attempts,
            waited=self.waited,
            reason=reason,
            error=shown(self.failure) if self.failure is not None else None,
        )
        if self.failure is not None:
            _annotate(self.failure, self.name, attempts, self.waited, reason)

    def over(self) -> None:
        """Nobody goes on with it."""
        if self.run is not None:
            self.run.end()

    def end(self) -> Any:
        """The last result, or the last error."""
        failure = self.failure
        if failure is None:
            return self.result
        try:
            raise failure
        finally:
            self.failure = None
            del failure


class Attempt:
    """One attempt at a block of code: ``with attempt: ...``."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._wait: float | None = None
        self.number: int = 1 if course.run is None else course.run.attempt
        """Which attempt this is; the first is 1."""

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        course = self._course
        if error is None:
            if course.run is not None:
                course.run.succeeded()
                if course.run.attempt > 1:
                    facts = {"attempts": course.run.attempt, "waited": course.waited}
                    tell(course.owner.origin, "retry.recovered", course.name, **facts)
            return False
        if isinstance(error, Exception):
            course.failed(error)
            self._wait = course.wait()
            course.failure = None
        if self._wait is None:
            course.over()
        return self._wait is not None


def _seconds(wait: Any) -> float | None:
    if isinstance(wait, timedelta):
        return wait.total_seconds()
    # What a stranger's exception has under this name may be anything.
    if isinstance(wait, bool) or not isinstance(wait, (int, float)):
        return None
    try:
        return float(wait)
    except OverflowError:
        return None


def _annotate(error: Exception, name: str, attempts: int, waited: float, reason: str) -> None:
    note = (
        f"{name}: gave up after {attempts} attempt{'s' if attempts > 1 else ''} and "
        f"{waited:.3g} s of waiting ({reason})"
    )
    known: Any = None
    facts = {"attempts": attempts, "waited": waited, "reason": reason}
    # What `add_note` does, which Python 3.10 does not have. An exception that takes no attributes,
    # or has its own idea of them, is raised as it is.
    with contextlib.suppress(Exception):
        known = getattr(error, "__notes__", None)
    with contextlib.suppress(Exception):
        error.__notes__ = [*known, note] if isinstance(known, list) else [note]  # type: ignore[attr-defined]
    with contextlib.suppress(Exception):
        error.__retry__ = facts  # type: ignore[attr-defined]
