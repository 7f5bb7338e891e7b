"""Retries: how often and when, what is worth another attempt, and what the caller is told."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import (
    CircuitOpen,
    ConfigurationError,
    DependencyError,
    InternalError,
    PermanentError,
    TimeoutExceeded,
    TransientError,
    testing,
)
from tiebeam._core import Clock
from tiebeam.exceptions import BulkheadFull, RateLimited
from tiebeam.resilience import (
    Backoff,
    CircuitBreaker,
    Decision,
    Fallback,
    Pipeline,
    Retry,
    RetryBudget,
    Timeout,
    listen,
    retry,
)


@pytest.fixture
def clock() -> Clock:
    return Clock.simulated()


@pytest.fixture
def decisions() -> Iterator[list[Decision]]:
    seen: list[Decision] = []
    end = listen(seen.append)
    yield seen
    end()


class Flaky:
    """Does what it is told, in turn; the last for ever."""

    def __init__(self, clock: Clock, *what: Any) -> None:
        self.clock = clock
        self.what = what
        self.at: list[float] = []

    @property
    def calls(self) -> int:
        return len(self.at)

    @property
    def waits(self) -> list[float]:
        return [round(b - a, 9) for a, b in zip(self.at, self.at[1:], strict=False)]

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self.at.append(self.clock.monotonic())
        what = self.what[min(len(self.at), len(self.what)) - 1]
        if isinstance(what, BaseException):
            raise what
        return what


@pytest.fixture(params=["sync", "async"])
def through(request: pytest.FixtureRequest, clock: Clock) -> Callable[[Retry, Flaky], Any]:
    """Calls a function through a retry, as a sync or an async one."""

    def sync(policy: Retry, function: Flaky) -> Any:
        return policy.call(function)

    def asynchronous(policy: Retry, function: Flaky) -> Any:
        async def call() -> Any:
            await asyncio.sleep(0)
            return function()

        return testing.run(policy(call)(), clock=clock)

    return sync if request.param == "sync" else asynchronous


Through = Callable[[Retry, Flaky], Any]


def steady(clock: Clock, delay: float = 1.0, **options: Any) -> Retry:
    """Waits always as long."""
    return Retry("it", backoff=Backoff.constant(delay, jitter="none"), clock=clock, **options)


# -- how often and when -----------------------------------------------------------------------


def test_the_first_call_is_one_of_the_attempts(clock: Clock, through: Through) -> None:
    flaky = Flaky(clock, OSError("x"))
    with pytest.raises(OSError, match="x"):
        through(steady(clock, max_attempts=3), flaky)
    assert (flaky.calls, flaky.waits) == (3, [1.0, 1.0])


def test_it_ends_with_the_first_success(clock: Clock, through: Through) -> None:
    flaky = Flaky(clock, OSError("x"), OSError("y"), "at last", "not asked")
    assert through(steady(clock, max_attempts=5), flaky) == "at last"
    assert flaky.calls == 3


def test_what_succeeds_is_called_once_and_nothing_waits(clock: Clock, through: Through) -> None:
    flaky = Flaky(clock, "ok")
    assert through(steady(clock), flaky) == "ok"
    assert (flaky.calls, clock.monotonic()) == (1, 0.0)


def test_one_attempt_is_no_retry(clock: Clock, through: Through) -> None:
    flaky = Flaky(clock, OSError("x"))
    with pytest.raises(OSError, match="x") as caught:
        through(steady(clock, max_attempts=1), flaky)
    assert flaky.calls == 1
    assert not hasattr(caught.value, "__retry__")
    assert not getattr(caught.value, "__notes__", [])


def test_the_defaults_are_three_attempts_within_a_tenth_and_a_fifth_of_a_second(
    clock: Clock, through: Through
) -> None:
    seen: set[float] = set()
    for seed in range(20):
        flaky = Flaky(clock, OSError("x"))
        with pytest.raises(OSError, match="x"):
            through(Retry(clock=clock, seed=seed, budget=None), flaky)
        first, second = flaky.waits
        assert 0 <= first <= 0.1
        assert 0 <= second <= 0.2
        seen.add(first)
    assert len(seen) > 15, "full jitter spreads the waits"


def test_arguments_and_results_pass_through(clock: Clock) -> None:
    @steady(clock)
    def function(*arguments: Any, **keywords: Any) -> Any:
        return arguments, keywords

    assert function(1, 2, self=3, function=4) == ((1, 2), {"self": 3, "function": 4})


CURVES = [
    (Backoff.constant(2, jitter="none"), [2, 2, 2, 2, 2]),
    (Backoff.linear(1, 0.5, jitter="none"), [1, 1.5, 2, 2.5, 3]),
    (Backoff.linear(1, -0.4, jitter="none"), [1, 0.6, 0.2, 0, 0]),
    (Backoff.exponential(0.1, jitter="none"), [0.1, 0.2, 0.4, 0.8, 1.6]),
    (Backoff.exponential(1, 3, max_delay=10, jitter="none"), [1, 3, 9, 10, 10]),
    (Backoff.fibonacci(0.5, jitter="none"), [0.5, 0.5, 1, 1.5, 2.5]),
    (Backoff.sequence([3, timedelta(seconds=1), 0.25], jitter="none"), [3, 1, 0.25, 0.25, 0.25]),
    (Backoff.geometric(1, 16, 4, jitter="none"), [1, 2, 4, 8, 16]),
    (Backoff.constant(1, min_delay=2, jitter="none"), [2, 2, 2, 2, 2]),
]


@pytest.mark.parametrize(("backoff", "waits"), CURVES, ids=lambda value: repr(value)[:40])
def test_every_curve_is_waited_for_exactly(
    clock: Clock, through: Through, backoff: Backoff, waits: list[float]
) -> None:
    flaky = Flaky(clock, OSError("x"))
    with pytest.raises(OSError, match="x"):
        through(Retry(max_attempts=6, backoff=backoff, clock=clock, budget=None), flaky)
    assert flaky.waits == pytest.approx(waits, abs=2e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Backoff.decorrelated(1, max_delay=20),
        lambda: Backoff.smooth(1, max_delay=20),
        lambda: Backoff.exponential(1, max_delay=20),
        lambda: Backoff.exponential(1, max_delay=20, jitter="equal"),
        lambda: Backoff.exponential(1, max_delay=20, jitter="factor", jitter_amount=0.3),
        lambda: Backoff.exponential(1, max_delay=20, jitter="down", jitter_amount=0.3),
    ],
)
def test_random_waits_stay_under_the_cap_and_repeat_with_a_seed(
    clock: Clock, make: Callable[[], Backoff]
) -> None:
    def waits(seed: int) -> list[float]:
        flaky = Flaky(clock, OSError("x"))
        policy = Retry(max_attempts=8, backoff=make(), clock=clock, seed=seed, budget=None)
        with pytest.raises(OSError, match="x"):
            policy.call(flaky)
        return flaky.waits

    assert all(0 <= wait <= 20 for wait in waits(1))
    assert waits(1) == pytest.approx(waits(1), abs=2e-9)
    assert waits(1) != waits(2)


def test_the_calls_through_one_seeded_retry_wait_differently(clock: Clock) -> None:
    policy = Retry(max_attempts=2, clock=clock, seed=3, budget=None)
    waits = set()
    for _ in range(10):
        flaky = Flaky(clock, OSError("x"))
        with pytest.raises(OSError, match="x"):
            policy.call(flaky)
        waits.add(flaky.waits[0])
    assert len(waits) == 10


def test_the_short_options_make_an_exponential(clock: Clock) -> None:
    flaky = Flaky(clock, OSError("x"))
    policy = Retry(
        max_attempts=5,
        initial_delay=timedelta(seconds=1),
        multiplier=3,
        max_delay=8,
        jitter="none",
        clock=clock,
    )
    with pytest.raises(OSError, match="x"):
        policy.call(flaky)
    assert flaky.waits == [1, 3, 8, 8]


def test_a_wait_that_has_outgrown_all_bounds_ends_it(clock: Clock) -> None:
    flaky = Flaky(clock, OSError("x"))
    policy = Retry(
        backoff=Backoff.exponential(1, 1e308, jitter="none"), max_attempts=9, clock=clock
    )
    with pytest.raises(OSError, match="x") as caught:
        policy.call(flaky)
    assert flaky.calls == 2
    assert caught.value.__retry__["reason"] == "overflow"  # type: ignore[attr-defined]


# -- limits -----------------------------------------------------------------------------------


def test_no_attempt_begins_at_max_elapsed_or_later(clock: Clock, through: Through) -> None:
    flaky = Flaky(clock, OSError("x"))
    with pytest.raises(OSError, match="x") as caught:
        through(steady(clock, max_attempts=None, max_elapsed=3), flaky)
    assert flaky.at == pytest.approx([0, 1, 2]), "the one at 3 would have been too late"
    assert caught.value.__retry__["reason"] == "elapsed"  # type: ignore[attr-defined]
    assert clock.monotonic() == pytest.approx(2), "it waited for an attempt that never came"


def test_the_time_of_the_calls_counts_for_max_elapsed(clock: Clock) -> None:
    calls = 0

    def slow() -> None:
        nonlocal calls
        calls += 1
        clock.wait(2)
        raise OSError("x")

    with pytest.raises(OSError, match="x"):
        steady(clock, max_attempts=None, max_elapsed=5).call(slow)
    assert calls == 2


def test_it_must_end(clock: Clock) -> None:
    with pytest.raises(ConfigurationError, match="must end"):
        Retry(max_attempts=None)
    with pytest.raises(ConfigurationError):
        Retry(max_attempts=0)


def test_a_refusal_names_the_option_as_it_was_given() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Retry(max_attempts=0)
    assert caught.value.context["field"] == "max_attempts"
    assert "`max_attempts`" in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": -1},
        {"attempts": 2.5},
        {"attempts": True},
        {"max_elapsed": -1},
        {"initial_delay": -1},
        {"initial_delay": float("nan")},
        {"multiplier": 0},
        {"multiplier": float("inf")},
        {"max_delay": -1},
        {"jitter": "lots"},
        {"on": 5},
        {"on": [int]},
        {"on": "OSError"},
        {"backoff": Backoff.constant(1), "initial_delay": 2},
        {"backoff": Backoff.constant(1), "jitter": "none"},
        {"backoff": 5},
        {"budget": 5},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        Retry(**options)
    assert str(caught.value)


def test_a_timeout_around_ends_it_with_the_error_itself(clock: Clock, through: Through) -> None:
    """There is no time for another attempt: what went wrong says more than that."""
    error = OSError("down")
    flaky = Flaky(clock, error)
    pipeline = Pipeline(Timeout(2.5, clock=clock), steady(clock, max_attempts=10), name="exchange")
    with pytest.raises(OSError, match="down") as caught:
        through(pipeline, flaky)  # type: ignore[arg-type]
    assert caught.value is error
    assert (flaky.calls, clock.monotonic()) == (3, pytest.approx(2))
    assert caught.value.__retry__["reason"] == "deadline"  # type: ignore[attr-defined]


def test_a_wait_that_just_fits_leaves_no_time_for_the_attempt(clock: Clock) -> None:
    flaky = Flaky(clock, OSError("x"))
    with pytest.raises(OSError, match="x"):
        Pipeline(Timeout(2, clock=clock), steady(clock, max_attempts=10)).call(flaky)
    assert flaky.calls == 2


def test_a_timeout_ends_an_attempt_that_takes_too_long() -> None:
    async def main() -> None:
        pipeline = Pipeline(Timeout(10), Retry(max_attempts=5, initial_delay=1, jitter="none"))
        calls = 0

        async def slow() -> None:
            nonlocal calls
            calls += 1
            await asyncio.sleep(6)
            raise OSError("x")

        with pytest.raises(TimeoutExceeded):
            await pipeline.call(slow)
        assert calls == 2

    testing.run(main())


def test_it_is_told_when_there_was_no_time_for_any_retry(
    clock: Clock, decisions: list[Decision]
) -> None:
    """A policy that can never try again is a mistake that nobody would notice."""
    pipeline = Pipeline(Timeout(0.5, clock=clock), steady(clock, max_attempts=10))
    with pytest.raises(OSError, match="x") as caught:
        pipeline.call(Flaky(clock, OSError("x")))
    assert [decision.kind for decision in decisions] == ["retry.gave_up"]
    assert caught.value.__retry__["reason"] == "deadline"  # type: ignore[attr-defined]


def test_a_timeout_inside_is_one_for_each_attempt() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        retrying = Retry(max_attempts=3, initial_delay=1, multiplier=1, jitter="none")
        begun = loop.time()
        with pytest.raises(TimeoutExceeded):
            await Pipeline(retrying, Timeout(5)).call(asyncio.sleep, 3600)
        assert loop.time() - begun == pytest.approx(3 * 5 + 2)

    testing.run(main())


# -- the budget -------------------------------------------------------------------------------


def test_an_empty_budget_ends_it_with_the_error_itself(
    clock: Clock, through: Through, decisions: list[Decision]
) -> None:
    budget = RetryBudget.token(ratio=0, min_per_second=1, ttl=1, clock=clock)
    policy = steady(clock, 0, max_attempts=5, budget=budget)
    error = OSError("x")
    flaky = Flaky(clock, error)
    with pytest.raises(OSError, match="x") as caught:
        through(policy, flaky)
    assert caught.value is error
    assert flaky.calls == 2, "one retry was all there was"
    assert caught.value.__retry__ == {  # type: ignore[attr-defined]
        "attempts": 2,
        "waited": 0.0,
        "reason": "budget",
    }
    assert [d.kind for d in decisions][-2:] == ["retry.suppressed", "retry.gave_up"]


def test_a_budget_is_not_charged_for_a_retry_that_does_not_come(clock: Clock) -> None:
    budget = RetryBudget.token(ratio=0, min_per_second=10, ttl=1, clock=clock)
    policy = steady(clock, max_attempts=2, max_elapsed=1, budget=budget)
    with pytest.raises(OSError, match="x"):
        policy.call(Flaky(clock, OSError("x")))
    assert budget.balance == 10


def test_each_retry_has_a_budget_of_its_own_unless_given(clock: Clock) -> None:
    """When everything fails, a hundred and a fifth of the calls are tried again."""
    policy = steady(clock, 0, max_attempts=2)
    calls = 0
    for _ in range(1000):
        flaky = Flaky(clock, OSError("x"))
        with pytest.raises(OSError, match="x"):
            policy.call(flaky)
        calls += flaky.calls
    assert calls == 1000 + 10 * 10 + 1000 // 5
    assert isinstance(policy.budget, RetryBudget)
    assert policy.budget is not Retry().budget


def test_without_a_budget_there_is_no_limit(clock: Clock) -> None:
    policy = steady(clock, 0, max_attempts=2, budget=None)
    flaky = Flaky(clock, OSError("x"))
    for _ in range(1000):
        with pytest.raises(OSError, match="x"):
            policy.call(flaky)
    assert flaky.calls == 2000


# -- hints ------------------------------------------------------------------------------------


class Busy(TransientError):
    """What a server raises that says when to come again."""

    def __init__(self, retry_after: Any) -> None:
        super().__init__("busy")
        self.retry_after = retry_after


@pytest.mark.parametrize("hint", [7, 7.0, timedelta(seconds=7)])
def test_a_server_says_when(clock: Clock, through: Through, hint: Any) -> None:
    flaky = Flaky(clock, Busy(hint), OSError("x"), "ok")
    assert through(steady(clock), flaky) == "ok"
    assert flaky.waits == [7.0, 1.0], "a hint is for one wait"


def test_a_hint_is_bounded(clock: Clock) -> None:
    flaky = Flaky(clock, Busy(1e6), "ok")
    assert steady(clock).call(flaky) == "ok"
    assert flaky.waits == [300.0]
    flaky = Flaky(clock, Busy(1e6), "ok")
    backoff = Backoff.constant(1, max_server_delay=20)
    assert Retry(backoff=backoff, clock=clock).call(flaky) == "ok"
    assert flaky.waits == [20.0]


def test_a_hint_counts_against_the_limit(clock: Clock) -> None:
    flaky = Flaky(clock, Busy(10), "ok")
    with pytest.raises(Busy):
        steady(clock, max_elapsed=10).call(flaky)
    assert (flaky.calls, clock.monotonic()) == (1, 0.0)


def test_a_function_finds_the_hint(clock: Clock) -> None:
    flaky = Flaky(clock, OSError("in 4 s"), "ok")
    policy = steady(clock, hint=lambda error: float(str(error).split()[1]))
    assert policy.call(flaky) == "ok"
    assert flaky.waits == [4.0]


@pytest.mark.parametrize(
    "nonsense",
    [None, "soon", "7", True, -1, float("nan"), float("inf"), 10**400, object(), [7]],
    ids=lambda value: repr(value)[:12],
)
def test_what_is_no_time_is_no_hint(clock: Clock, nonsense: Any) -> None:
    flaky = Flaky(clock, Busy(nonsense), "ok")
    assert steady(clock).call(flaky) == "ok"
    assert flaky.waits == [1.0]


def test_a_hint_that_cannot_be_read_does_not_hide_the_error(clock: Clock) -> None:
    class Response(OSError):
        @property
        def retry_after(self) -> float:
            headers: dict[str, str] = {}
            return float(headers["Retry-After"])

    flaky = Flaky(clock, Response("503"), "ok")
    assert steady(clock).call(flaky) == "ok"
    assert flaky.waits == [1.0]


def test_a_limiters_rejection_says_when(clock: Clock) -> None:
    flaky = Flaky(clock, RateLimited("no permit", retry_after="2.5"), "ok")
    assert steady(clock).call(flaky) == "ok"
    assert flaky.waits == [2.5]


# -- what is worth it -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "worth_it"),
    [
        (TransientError("x"), True),
        (DependencyError("x"), True),
        (ConnectionRefusedError("x"), True),
        (socket.gaierror("x"), True),
        (OSError("x"), True),
        (TimeoutError("x"), True),
        (asyncio.TimeoutError("x"), True),
        (TimeoutExceeded("x"), True),
        (BulkheadFull("x"), True),
        (RateLimited("x"), True),
        (RuntimeError("x"), True),
        (PermanentError("x"), False),
        (ValueError("x"), False),
        (TypeError("x"), False),
        (KeyError("x"), False),
        (ZeroDivisionError("x"), False),
        (ConfigurationError("x"), False),
        (InternalError("x"), False),
        (AttributeError("x"), False),
        (AssertionError("x"), False),
        (NameError("x"), False),
        (CircuitOpen("x"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_category_decides_unless_told_otherwise(
    clock: Clock, error: Exception, worth_it: bool
) -> None:
    flaky = Flaky(clock, error)
    with pytest.raises(type(error)) as caught:
        steady(clock, max_attempts=2).call(flaky)
    assert caught.value is error
    assert flaky.calls == (2 if worth_it else 1)


def test_an_exception_may_say_its_category(clock: Clock) -> None:
    class Stale(ValueError):
        category = "transient"

    flaky = Flaky(clock, Stale("x"), "ok")
    assert steady(clock).call(flaky) == "ok"


@pytest.mark.parametrize(
    "on",
    [
        KeyError,
        (KeyError, IndexError),
        [IndexError, KeyError],
        {KeyError},
        lambda error: error.args == ("k",),
    ],
)
def test_it_can_be_told_what_is_worth_it(clock: Clock, through: Through, on: Any) -> None:
    flaky = Flaky(clock, KeyError("k"), OSError("x"), "not asked")
    with pytest.raises(OSError, match="x"):
        through(steady(clock, on=on), flaky)
    assert flaky.calls == 2


def test_nothing_is_worth_it(clock: Clock) -> None:
    flaky = Flaky(clock, OSError("x"))
    with pytest.raises(OSError, match="x"):
        steady(clock, on=()).call(flaky)
    assert flaky.calls == 1


def test_a_function_that_fails_itself_does_not_hide_the_error(
    clock: Clock, through: Through
) -> None:
    error = OSError("down")
    with pytest.raises(AttributeError) as caught:
        through(steady(clock, on=lambda error: error.no_such_thing), Flaky(clock, error))
    assert caught.value.__context__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
def test_the_end_of_the_process_is_not_tried_again(clock: Clock, error: BaseException) -> None:
    flaky = Flaky(clock, OSError("x"), error)
    with pytest.raises(type(error)) as caught:
        steady(clock).call(flaky)
    assert caught.value is error
    assert flaky.calls == 2
    assert not hasattr(error, "__retry__")


def test_a_result_can_be_worth_another_attempt(clock: Clock, through: Through) -> None:
    flaky = Flaky(clock, None, OSError("x"), None, "ready")
    policy = steady(clock, max_attempts=5, on_result=lambda result: result is None)
    assert through(policy, flaky) == "ready"
    assert flaky.calls == 4


def test_the_last_result_is_returned_when_none_was_good(clock: Clock, through: Through) -> None:
    flaky = Flaky(clock, 1, 2, 3, 4)
    assert through(steady(clock, max_attempts=3, on_result=lambda result: True), flaky) == 3


def test_after_an_error_a_bad_result_is_the_outcome(clock: Clock) -> None:
    flaky = Flaky(clock, OSError("x"), "bad")
    assert steady(clock, max_attempts=2, on_result=lambda result: True).call(flaky) == "bad"


def test_a_breakers_rejection_is_not_tried_again(clock: Clock, through: Through) -> None:
    flaky = Flaky(clock, OSError("x"))
    breaker = CircuitBreaker(threshold=2, reset_timeout=30, clock=clock)
    pipeline = Pipeline(steady(clock, max_attempts=10), breaker)
    with pytest.raises(CircuitOpen):
        through(pipeline, flaky)  # type: ignore[arg-type]
    assert flaky.calls == 2


def test_a_breakers_rejection_is_tried_again_when_it_may_pass(
    clock: Clock, through: Through
) -> None:
    flaky = Flaky(clock, OSError("x"), "ok")
    breaker = CircuitBreaker(threshold=1, reset_timeout=30, clock=clock)
    policy = steady(clock, max_attempts=10, retry_circuit_open=True)
    assert through(Pipeline(policy, breaker), flaky) == "ok"  # type: ignore[arg-type]
    assert (flaky.calls, clock.monotonic()) == (2, pytest.approx(31 - 1))
    assert breaker.state == "closed"


# -- what the caller is told ------------------------------------------------------------------


def test_the_last_error_is_raised_as_it_is(clock: Clock, through: Through) -> None:
    errors = [OSError("first"), OSError("second"), OSError("third")]
    with pytest.raises(OSError, match="third") as caught:
        through(steady(clock), Flaky(clock, *errors))
    assert caught.value is errors[-1]
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_the_last_error_has_a_note_and_the_numbers(clock: Clock, through: Through) -> None:
    with pytest.raises(OSError, match="x") as caught:
        through(steady(clock), Flaky(clock, OSError("a"), OSError("b"), OSError("x")))
    (note,) = caught.value.__notes__  # type: ignore[attr-defined]
    for part in ("it", "3 attempts", "2 s", "attempts"):
        assert part in note
    assert caught.value.__retry__ == {  # type: ignore[attr-defined]
        "attempts": 3,
        "waited": 2.0,
        "reason": "attempts",
    }


def test_a_note_joins_those_that_are_there(clock: Clock) -> None:
    error = OSError("x")
    error.__notes__ = ["from the server"]  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="x"):
        steady(clock).call(Flaky(clock, error))
    assert error.__notes__[0] == "from the server"  # type: ignore[attr-defined]
    assert len(error.__notes__) == 2  # type: ignore[attr-defined]


def test_an_error_that_was_not_worth_it_says_how_many_there_were_before(clock: Clock) -> None:
    with pytest.raises(ValueError, match="bad") as caught:
        steady(clock).call(Flaky(clock, OSError("x"), ValueError("bad")))
    assert caught.value.__retry__ == {  # type: ignore[attr-defined]
        "attempts": 2,
        "waited": 1.0,
        "reason": "not_retryable",
    }


def test_notes_go_by_the_functions_name_unless_there_is_one(clock: Clock) -> None:
    @Retry(initial_delay=0, clock=clock)
    def price() -> None:
        raise OSError("x")

    with pytest.raises(OSError, match="x") as caught:
        price()
    assert "price" in caught.value.__notes__[0]  # type: ignore[attr-defined]


class Slotted(OSError):
    __slots__ = ("code",)


class Frozen(OSError):
    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} cannot be set")


class Strict(OSError):
    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError(f"{name} cannot be set")


class OddNotes(OSError):
    __notes__ = None


class Unprintable(OSError):
    def __str__(self) -> str:
        raise RuntimeError("cannot be said")

    __repr__ = __str__


class Hollow(OSError):
    def __str__(self) -> Any:
        return None


class Secretive(OSError):
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("ask somebody else")


@pytest.mark.parametrize(
    "kind", [Slotted, Frozen, Strict, OddNotes, Unprintable, Hollow, Secretive]
)
@pytest.mark.usefixtures("decisions")  # told, errors are put into words
def test_peculiar_errors_are_raised_as_they_are(
    clock: Clock, through: Through, kind: type[OSError]
) -> None:
    error = kind("x")
    flaky = Flaky(clock, error)
    with pytest.raises(kind) as caught:
        through(steady(clock), flaky)
    assert caught.value is error
    assert flaky.calls == 3


def test_an_error_that_is_raised_again_and_again_keeps_one_traceback(clock: Clock) -> None:
    """The frames of the function, and not those of all attempts."""
    error = OSError("x")
    with pytest.raises(OSError, match="x"):
        steady(clock, 0, max_attempts=50, budget=None).call(Flaky(clock, error))
    frames, traceback = 0, error.__traceback__
    while traceback is not None:
        frames, traceback = frames + 1, traceback.tb_next
    assert frames < 120


@pytest.mark.parametrize("asynchronous", [False, True])
def test_nothing_keeps_what_a_failed_call_held(clock: Clock, asynchronous: bool) -> None:
    class Resource:
        pass

    seen: list[weakref.ref[Resource]] = []

    def fail() -> None:
        resource = Resource()
        seen.append(weakref.ref(resource))
        raise OSError("x")

    async def fail_async() -> None:
        await asyncio.sleep(0)
        fail()

    async def main() -> None:
        with contextlib.suppress(OSError):
            await steady(clock, 0, max_attempts=3)(fail_async)()
        assert [reference() for reference in seen] == [None] * 3

    gc.disable()
    try:
        if asynchronous:
            testing.run(main())
        else:
            with contextlib.suppress(OSError):
                steady(clock, 0, max_attempts=3).call(fail)
            assert [reference() for reference in seen] == [None] * 3
    finally:
        gc.enable()


def test_nothing_keeps_the_errors_of_earlier_attempts(clock: Clock) -> None:
    seen: list[weakref.ref[BaseException]] = []

    class Watched(TransientError):
        def __init__(self) -> None:
            super().__init__("x")
            seen.append(weakref.ref(self))

    def fail() -> str:
        if len(seen) == 2:
            return "ok"
        raise Watched

    gc.disable()
    try:
        assert steady(clock).call(fail) == "ok"
        assert [reference() for reference in seen] == [None] * 2
    finally:
        gc.enable()


# -- cancellation and interruption ------------------------------------------------------------


def test_a_cancelled_wait_ends_at_once_and_is_not_tried_again() -> None:
    async def main() -> None:
        calls = 0

        async def fail() -> None:
            nonlocal calls
            calls += 1
            raise OSError("x")

        loop = asyncio.get_running_loop()
        retrying = Retry(max_attempts=5, initial_delay=1000, jitter="none", max_delay=1000)
        task = asyncio.ensure_future(retrying.call(fail))
        await asyncio.sleep(10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (calls, loop.time()) == (1, pytest.approx(10))

    testing.run(main())


def test_a_cancelled_attempt_is_not_tried_again() -> None:
    async def main() -> None:
        calls = 0

        async def slow() -> None:
            nonlocal calls
            calls += 1
            await asyncio.sleep(3600)

        task = asyncio.ensure_future(Retry(max_attempts=5, on=lambda error: True).call(slow))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert calls == 1

    testing.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_control_c_ends_a_wait() -> None:
    waits = threading.Event()
    end = listen(lambda decision: waits.set() if decision.kind == "retry.scheduled" else None)

    def interrupt() -> None:
        if waits.wait(GUARD):
            os.kill(os.getpid(), signal.SIGINT)

    calls = []

    def fail() -> None:
        calls.append(1)
        raise OSError("x")

    policy = Retry(max_attempts=2, initial_delay=GUARD, jitter="none", clock=Clock.real())
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            policy.call(fail)
    finally:
        thread.join()
        end()
    assert len(calls) == 1, "the wait came to its end"


def test_a_wait_of_nothing_lets_others_run() -> None:
    """Else nobody could even cancel it."""

    async def main() -> int:
        calls = 0

        async def fail() -> None:
            nonlocal calls
            calls += 1
            raise OSError("x")

        policy = Retry(max_attempts=1000, initial_delay=0, jitter="none", budget=None)
        task = asyncio.ensure_future(policy.call(fail))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        task.cancelled() or task.exception()
        return calls

    assert testing.run(main()) < 10


# -- many at once -----------------------------------------------------------------------------


def test_one_retry_is_shared_by_many_tasks(clock: Clock) -> None:
    """Each call has its own attempts and waits."""

    async def main() -> None:
        policy = steady(clock, max_attempts=4, budget=None)
        loop = asyncio.get_running_loop()

        async def call(number: int) -> None:
            failures = number % 4
            begun, calls = loop.time(), 0

            async def fail() -> int:
                nonlocal calls
                calls += 1
                await asyncio.sleep(0.1)
                if calls <= failures:
                    raise OSError(str(number))
                return number

            assert await policy.call(fail) == number
            assert calls == failures + 1
            assert loop.time() - begun == pytest.approx(0.1 + failures * 1.1)

        await asyncio.gather(*(call(number) for number in range(200)))
        assert loop.time() == pytest.approx(0.1 + 3 * 1.1)

    testing.run(main(), clock=clock)


def test_one_retry_is_shared_by_many_threads() -> None:
    policy = Retry(max_attempts=3, initial_delay=0, budget=None, clock=Clock.real())

    def work(number: int) -> int:
        calls = 0

        @policy
        def fail() -> int:
            nonlocal calls
            calls += 1
            if calls <= number % 3:
                raise OSError(str(number))
            return calls

        return fail()

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(work, range(600))) == [number % 3 + 1 for number in range(600)]


# -- ways to write it -------------------------------------------------------------------------


def test_the_decorator_comes_in_three_forms(clock: Clock) -> None:
    @retry
    def bare() -> str:
        return "bare"

    @retry()
    def called() -> str:
        return "called"

    @retry("exchange", max_attempts=2, clock=clock)
    def named() -> str:
        return "named"

    assert (bare(), called(), named()) == ("bare", "called", "named")
    assert isinstance(retry("exchange"), Retry)
    assert retry("exchange").name == "exchange"


@pytest.mark.parametrize("wrong", [ConnectionError, (ConnectionError, OSError), 3])
def test_the_decorator_refuses_what_belongs_to_an_option(wrong: Any) -> None:
    """``@retry(ConnectionError)`` would put an exception object in the place of the function."""
    with pytest.raises(TypeError):
        retry(wrong)


def test_a_function_that_turns_out_async_later_is_refused_as_well(clock: Clock) -> None:
    async def later() -> str:
        return "never run"

    attempts = 0

    @steady(clock)
    def changeable() -> Any:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise OSError("x")
        return later()

    with pytest.raises(TypeError, match="coroutine"):
        changeable()


def test_it_says_what_it_is() -> None:
    assert "exchange" in repr(Retry("exchange", max_attempts=7))
    assert "7" in repr(Retry("exchange", max_attempts=7))


def test_a_fallback_outside_sees_the_last_error(clock: Clock) -> None:
    seen: list[Exception] = []

    def instead(error: Exception) -> str:
        seen.append(error)
        return "instead"

    error = OSError("x")
    pipeline = Pipeline(Fallback(instead), steady(clock))
    assert pipeline.call(Flaky(clock, error)) == "instead"
    assert seen == [error]
    assert error.__retry__["attempts"] == 3  # type: ignore[attr-defined]


def test_what_is_no_name_was_meant_for_something_else() -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean `Retry\(max_attempts=5\)`\?"):
        Retry(5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"did you mean `@Retry\(\)`\?"):
        Retry(print)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"did you mean `CircuitBreaker\(threshold=5\)`"):
        CircuitBreaker(5)  # type: ignore[arg-type]
