"""The circuit breaker."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, NamedTuple

from tiebeam import _core
from tiebeam._core import Clock
from tiebeam._options import Duration
from tiebeam.exceptions import BulkheadFull, CircuitOpen, RateLimited
from tiebeam.resilience._apart import TOO_LATE
from tiebeam.resilience._decisions import shown, tell
from tiebeam.resilience._inside import Block
from tiebeam.resilience._stage import Coroutine, check_name, checked_types, named, refuse_coroutine

__all__ = ["NO_PERMIT", "CircuitBreaker", "Errors", "Guard"]

Errors = type[BaseException] | Iterable[type[BaseException]] | Callable[[BaseException], bool]

_NOT_ASKED = (RateLimited, BulkheadFull)
"""Rejections of our own, further inside: the dependency was not asked."""


NO_PERMIT: Any = object()
"""In place of a permit, before there is one."""


class Guard(NamedTuple):
    """What a breaker does around a call."""

    enter: Callable[[], Any]
    passed: Callable[[Any], None]
    settle: Callable[[Any, BaseException], None]
    breaker: CircuitBreaker


class CircuitBreaker(Block):
    """Stops calling what keeps failing, and finds out when to start again.

    Closed, it lets calls pass and counts how they end. When there are too many failures, the call
    that was one too many raises its own error, and the breaker is open: calls raise
    :class:`~tiebeam.CircuitOpen` at once. After ``reset_timeout`` exactly ``probes`` calls at a
    time are let through; how they end closes or opens it. Three more states are an operator's:
    ``forced_open``, ``disabled`` and ``metrics_only`` (see :meth:`force`).

    What counts as too many, one of three:

    * ``threshold`` failures in a row (the default, 5);
    * ``threshold`` failures among the last ``of`` calls;
    * a share of ``failure_rate`` percent failed, or ``slow_rate`` percent slower than
      ``slow_call``, among the last ``window_calls`` calls or in the last ``window_time`` seconds,
      once there were ``minimum_calls``.

    Every ``Exception`` is a failure that is not one of ``ignore``. A call whose task is cancelled
    says nothing, unless a :class:`Timeout` outside of the breaker cancelled it; a sync call that
    such a limit leaves behind has failed when its time was up, whatever becomes of it. All threads
    and loops share the breaker, and no lock is held while a call runs.

    >>> exchange = CircuitBreaker("exchange", threshold=5, reset_timeout=30)
    >>> @exchange
    ... async def price(symbol): ...
    """

    def __init__(
        self,
        name: str = "circuit_breaker",
        *,
        threshold: int | None = None,
        of: int | None = None,
        failure_rate: float | None = None,
        slow_rate: float | None = None,
        slow_call: Duration | None = None,
        minimum_calls: int | None = None,
        window_calls: int | None = None,
        window_time: Duration | None = None,
        reset_timeout: Duration = 30.0,
        reset_factor: float | None = None,
        reset_max: Duration | None = None,
        reset_jitter: bool = False,
        probes: int | None = None,
        successes: int | None = None,
        successes_of: int | None = None,
        probe_timeout: Duration | None = None,
        on_probe_timeout: Literal["open", "closed"] | None = None,
        ignore: Errors = (),
        count: Errors | None = None,
        failed_if: Callable[[Any], bool] | None = None,
        seed: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Make a closed breaker.

        Args:
            name: What errors and decisions call it.
            threshold: Failures in a row, or with ``of`` among that many calls; 5.
            of: Among how many of the last calls failures are counted.
            failure_rate: Failed calls in percent, above 0 to 100; 50 with any of the others.
            slow_rate: Slow calls in percent; 100.
            slow_call: Seconds above which a call is slow; 60.
            minimum_calls: Fewer calls than this give no verdict; 100.
            window_calls: Over how many calls shares are computed; 100.
            window_time: Over how many seconds instead.
            reset_timeout: Seconds it stays open.
            reset_factor: Growth of that for each time it opens without having been closed; 1.
            reset_max: The longest it stays open, in seconds; an hour, unless ``reset_timeout``
                is longer.
            reset_jitter: Whether to vary it by 10 % either way.
            probes: Calls at a time that are let through afterwards; 1.
            successes: How many of them in a row close it; 1. With shares, the same rates decide.
            successes_of: Among so many probes instead of in a row.
            probe_timeout: Seconds after which probes without a verdict are given up;
                ``reset_timeout``.
            on_probe_timeout: What it is then; ``open``.
            ignore: Exceptions that say nothing about the dependency, as classes or as a function
                that says so of one.
            count: The exceptions that are failures; others are successes. All unless given.
            failed_if: Says of a result whether it is a failure; it is returned all the same.
            seed: Repeats the jitter.
            clock: The clock it goes by; the process's unless given.

        Raises:
            ConfigurationError: For figures that make no sense, or not together.
        """
        check_name(self, name, "threshold")
        given = {
            "threshold": threshold,
            "of": of,
            "failure_rate": failure_rate,
            "slow_rate": slow_rate,
            "slow_call": slow_call,
            "minimum_calls": minimum_calls,
            "window_calls": window_calls,
            "window_time": window_time,
            "reset_timeout": reset_timeout,
            "reset_factor": reset_factor,
            "reset_max": reset_max,
            "reset_jitter": reset_jitter,
            "probes": probes,
            "successes": successes,
            "successes_of": successes_of,
            "probe_timeout": probe_timeout,
            "on_probe_timeout": on_probe_timeout,
            "seed": seed,
        }
        self.name: str = name
        self._core = _core._Breaker(name, given, clock)
        self._ignore = checked_types("ignore", ignore) or ()
        self._count = checked_types("count", count)
        self._failed_if = failed_if
        self._core.observe(self._signal)

    # -- calls ----------------------------------------------------------------------------

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        enter, passed, settle, judge = (
            self._core.enter,
            self._core.passed,
            self._settle,
            self._judge,
        )

        def guarded(*args: Any, **kwargs: Any) -> Any:
            permit = NO_PERMIT
            try:
                permit = enter()
                result = function(*args, **kwargs)
                if type(result) is Coroutine:
                    refuse_coroutine(result, function)
                if judge is not None and judge(permit, result):
                    return result
            except BaseException as error:
                settle(permit, error)
                raise
            passed(permit)
            return result

        return named(guarded, function)

    def _async(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        enter, passed, settle, judge = (
            self._core.enter,
            self._core.passed,
            self._settle,
            self._judge,
        )

        async def guarded(*args: Any, **kwargs: Any) -> Any:
            permit = NO_PERMIT
            try:
                permit = enter()
                result = await function(*args, **kwargs)
                if judge is not None and judge(permit, result):
                    return result
            except BaseException as error:
                settle(permit, error)
                raise
            passed(permit)
            return result

        return named(guarded, function)

    def _guard(self) -> Guard | None:
        """What stands around a call, for a retry that saves a frame by doing it itself."""
        if self._judge is not None:
            return None
        return Guard(self._core.enter, self._core.passed, self._settle, self)

    @property
    def _judge(self) -> Callable[[Any, Any], bool] | None:
        """Takes a result that is a failure for one."""
        failed_if = self._failed_if
        if failed_if is None:
            return None

        def judge(permit: Any, result: Any) -> bool:
            failed = bool(failed_if(result))
            if failed:
                self._core.failed(permit, "a result that counts as a failure")
            return failed

        return judge

    def _settle(self, permit: Any, error: BaseException) -> None:
        """The call ended with ``error``: a failure, a success, or neither; without a permit, it
        did not begin."""
        if permit is NO_PERMIT:
            if isinstance(error, CircuitOpen):
                facts = {"state": error.state, "retry_after": error.retry_after}
                tell(self, "circuit_breaker.rejected", self.name, **facts)
        elif not isinstance(error, Exception):
            # Cancelled by a caller, or the end of the process: it says nothing. By a time limit
            # around us: the dependency was too slow.
            if isinstance(error, CancelledError) and _is_late(error):
                self._core.failed(permit, TOO_LATE)
            else:
                self._core.given_back(permit, True)
        else:
            self._judge_error(permit, error)

    def _judge_error(self, permit: Any, error: Exception) -> None:
        try:
            ignored = _is(self._ignore, error)
            counts = self._count is not None and not ignored and _is(self._count, error)
        except BaseException:
            self._core.given_back(permit, True)  # what should judge it failed itself
            raise
        if ignored:
            self._core.given_back(permit, False)
        elif counts:
            self._core.failed(permit, shown(error))
        elif isinstance(error, _NOT_ASKED):
            self._core.given_back(permit, False)
        elif self._count is None:
            self._core.failed(permit, shown(error))
        else:
            self._core.passed(permit)

    def _enter(self) -> Any:
        try:
            return self._core.enter()
        except CircuitOpen as rejected:
            self._settle(NO_PERMIT, rejected)
            raise

    def _leave(self, given: Any, error: BaseException | None) -> None:
        if error is None:
            self._core.passed(given)
        else:
            self._settle(given, error)

    # -- the breaker itself ---------------------------------------------------------------

    @property
    def state(self) -> str:
        """``closed``, ``open``, ``half_open``, ``forced_open``, ``disabled`` or
        ``metrics_only``."""
        return self._core.state

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may pass: 0 if one may now, ``None`` if time does not help."""
        return self._core.retry_after

    def metrics(self) -> dict[str, Any]:
        """The figures of this moment.

        ``calls``, ``failed``, ``slow`` and the rates in percent (``None`` below
        ``minimum_calls``) are those of the window; while it is open, of the window that decided.
        ``late`` counts outcomes that came after the state in which their call began, ``abandoned``
        calls without an outcome.
        """
        return self._core.metrics()

    def force(self, state: str, *, wait: Duration | None = None) -> None:
        """Put the breaker into a state.

        Args:
            state: ``open``; ``forced_open``, until it is forced out of it; ``disabled``: all
                calls pass and none counts; ``metrics_only``: all calls pass, are counted, and
                what would have opened it is told; ``closed``.
            wait: How long ``open`` lasts, in seconds; ``reset_timeout`` unless given.

        Raises:
            LifecycleError: For what makes no sense from the present state.
        """
        self._core.force(state, wait)

    def reset(self) -> None:
        """Close it, and forget what was counted."""
        self._core.reset()

    def _signal(self, kind: str, facts: dict[str, Any]) -> None:
        if kind == "transition":
            tell(self, f"circuit_breaker.{facts['to']}", self.name, **facts)
        else:
            tell(self, f"circuit_breaker.{kind}", self.name, **facts)

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r} {self.state}>"


def _is_late(error: CancelledError) -> bool:
    """Whether a time limit cancelled the task. An attempt of a hedge is a task of its own: what
    cancels it passes the words on."""
    return error.args[:1] == (_core._TIME_IS_UP,) or _core._time_is_up()


def _is(errors: Any, error: BaseException) -> bool:
    return bool(errors(error)) if callable(errors) else isinstance(error, errors)
