"""The circuit breaker: what opens it, what it tells whom it turns away, and what says nothing."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import tiebeam
from conftest import GUARD
from tiebeam import CircuitOpen, LifecycleError, TimeoutExceeded, testing
from tiebeam._core import Clock
from tiebeam.exceptions import BulkheadFull, RateLimited
from tiebeam.resilience import Bulkhead, CircuitBreaker, RateLimiter, Timeout, listen

STATES = ["closed", "open", "half_open", "forced_open", "disabled", "metrics_only"]


class Dependency:
    """Something to call that does as it is told: by a word, or by an error to raise."""

    def __init__(self) -> None:
        self.calls = 0

    def ask(self, what: Any = "ok") -> Any:
        self.calls += 1
        if isinstance(what, BaseException):
            raise what
        return what


@pytest.fixture
def clock() -> Clock:
    return Clock.simulated()


@pytest.fixture
def dependency() -> Dependency:
    return Dependency()


@pytest.fixture(params=["sync", "async", "block", "async block"])
def ask(request: pytest.FixtureRequest, dependency: Dependency) -> Callable[..., Any]:
    """Calls the dependency through a breaker, in each of the ways there are."""

    def sync(breaker: CircuitBreaker, what: Any = "ok") -> Any:
        return breaker.call(dependency.ask, what)

    def asynchronous(breaker: CircuitBreaker, what: Any = "ok") -> Any:
        async def call() -> Any:
            await asyncio.sleep(0)
            return dependency.ask(what)

        return asyncio.run(breaker(call)())

    def block(breaker: CircuitBreaker, what: Any = "ok") -> Any:
        with breaker:
            return dependency.ask(what)

    def async_block(breaker: CircuitBreaker, what: Any = "ok") -> Any:
        async def call() -> Any:
            async with breaker:
                await asyncio.sleep(0)
                return dependency.ask(what)

        return asyncio.run(call())

    ways = {"sync": sync, "async": asynchronous, "block": block, "async block": async_block}
    return ways[request.param]


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(OSError, match="down"):
            breaker.call(Dependency().ask, OSError("down"))


def succeed(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.call(Dependency().ask) == "ok"


# -- what opens it ----------------------------------------------------------------------------


def test_five_failures_in_a_row_open_it(ask: Callable[..., Any], dependency: Dependency) -> None:
    breaker = CircuitBreaker("exchange")
    for _ in range(5):
        assert breaker.state == "closed"
        with pytest.raises(OSError, match="down"):
            ask(breaker, OSError("down"))
    assert breaker.state == "open"
    with pytest.raises(CircuitOpen):
        ask(breaker)
    assert dependency.calls == 5, "a rejected call reached the dependency"


def test_a_success_ends_the_row() -> None:
    breaker = CircuitBreaker(threshold=3)
    fail(breaker, 2)
    succeed(breaker)
    fail(breaker, 2)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


def test_the_call_that_opens_it_raises_its_own_error(ask: Callable[..., Any]) -> None:
    breaker, error = CircuitBreaker(threshold=1), OSError("down")
    with pytest.raises(OSError, match="down") as caught:
        ask(breaker, error)
    assert caught.value is error
    assert breaker.state == "open"


def test_failures_among_the_last_calls_open_it() -> None:
    breaker = CircuitBreaker(threshold=3, of=5)
    fail(breaker, 2)
    succeed(breaker, 3)  # the window is full: two of five
    fail(breaker)  # the oldest failure has left it: still two
    assert (breaker.state, breaker.metrics()["failed"]) == ("closed", 2)
    succeed(breaker)
    fail(breaker)
    assert (breaker.state, breaker.metrics()["failed"]) == ("closed", 2)
    fail(breaker)
    assert breaker.state == "open"


def test_the_window_of_the_last_calls_need_not_be_full() -> None:
    breaker = CircuitBreaker(threshold=2, of=100)
    fail(breaker, 2)
    assert breaker.state == "open"


def test_a_share_of_failures_opens_it_once_there_are_enough_calls() -> None:
    breaker = CircuitBreaker(failure_rate=50, minimum_calls=4, window_calls=10)
    fail(breaker, 3)
    assert breaker.metrics()["failure_rate"] is None, "three calls are no share"
    assert breaker.state == "closed"
    succeed(breaker)  # three of four
    assert (breaker.state, breaker.metrics()["failure_rate"]) == ("open", 75.0)


def test_a_share_that_is_just_reached_opens_it() -> None:
    breaker = CircuitBreaker(failure_rate=50, minimum_calls=2, window_calls=4)
    succeed(breaker, 3)
    fail(breaker)
    assert breaker.state == "closed"  # a quarter
    fail(breaker)  # two of the last four
    assert breaker.state == "open"


def test_more_minimum_calls_than_the_window_holds_mean_the_window() -> None:
    breaker = CircuitBreaker(failure_rate=100, minimum_calls=1000, window_calls=3)
    fail(breaker, 3)
    assert breaker.state == "open"


def test_a_window_of_time_forgets(clock: Clock) -> None:
    def make() -> CircuitBreaker:
        return CircuitBreaker(failure_rate=50, minimum_calls=2, window_time=60, clock=clock)

    forgetful, mindful = make(), make()
    fail(forgetful)
    fail(mindful)
    clock.wait(59)
    fail(mindful)
    assert mindful.state == "open"
    clock.wait(2)
    fail(forgetful)
    assert (forgetful.state, forgetful.metrics()["calls"]) == ("closed", 1)


def test_slow_calls_open_it(clock: Clock) -> None:
    breaker = CircuitBreaker(slow_rate=50, slow_call=1.0, minimum_calls=2, clock=clock)
    breaker.call(clock.wait, 1.0)  # just as long as is allowed
    assert breaker.metrics()["slow"] == 0
    breaker.call(clock.wait, 1.001)
    assert breaker.state == "open"
    assert breaker.metrics()["slow_rate"] == 50.0
    assert breaker.metrics()["failed"] == 0


def test_slow_coroutines_open_it() -> None:
    async def main() -> str:
        breaker = CircuitBreaker(slow_rate=100, slow_call=1.0, minimum_calls=2)
        slow = breaker(asyncio.sleep)
        await asyncio.gather(slow(2), slow(3))
        return breaker.state

    assert testing.run(main()) == "open"


def test_a_failed_call_can_be_slow_as_well(clock: Clock) -> None:
    breaker = CircuitBreaker(failure_rate=100, slow_call=1, minimum_calls=9, clock=clock)

    def slow() -> None:
        clock.wait(2)
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        breaker.call(slow)
    figures = breaker.metrics()
    assert (figures["calls"], figures["failed"], figures["slow"]) == (1, 1, 1)


# -- what says nothing, and what counts -------------------------------------------------------


def test_ignored_errors_neither_fail_nor_succeed(ask: Callable[..., Any]) -> None:
    breaker = CircuitBreaker(threshold=2, ignore=(KeyError, ValueError))
    with pytest.raises(OSError, match="down"):
        ask(breaker, OSError("down"))
    for error in (KeyError("x"), ValueError("y")):
        with pytest.raises(type(error)):
            ask(breaker, error)
    figures = breaker.metrics()
    assert (figures["calls"], figures["failed"]) == (1, 1)
    assert figures["consecutive_failures"] == 1, "an ignored error ended the row"
    with pytest.raises(OSError, match="down"):
        ask(breaker, OSError("down"))
    assert breaker.state == "open"


@pytest.mark.parametrize(
    "ignore",
    [
        KeyError,
        [KeyError],
        {KeyError},
        LookupError,
        lambda error: isinstance(error, KeyError),
    ],
)
def test_ignored_errors_are_given_as_classes_or_a_function(ignore: Any) -> None:
    breaker = CircuitBreaker(threshold=1, ignore=ignore)
    with pytest.raises(KeyError):
        breaker.call(Dependency().ask, KeyError("x"))
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


@pytest.mark.parametrize("count", [ConnectionError, lambda e: isinstance(e, ConnectionError)])
def test_errors_that_are_not_counted_are_successes(count: Any) -> None:
    breaker = CircuitBreaker(threshold=2, count=count)
    down, wrong = ConnectionError("down"), ValueError("wrong")
    for error in (down, wrong, down):
        with pytest.raises(type(error)):
            breaker.call(Dependency().ask, error)
    assert (breaker.state, breaker.metrics()["calls"]) == ("closed", 3)
    with pytest.raises(ConnectionError):
        breaker.call(Dependency().ask, down)
    assert breaker.state == "open"


def test_ignored_goes_before_counted() -> None:
    breaker = CircuitBreaker(threshold=1, count=OSError, ignore=ConnectionError)
    with pytest.raises(ConnectionError):
        breaker.call(Dependency().ask, ConnectionError("x"))
    assert (breaker.state, breaker.metrics()["calls"]) == ("closed", 0)


@pytest.mark.parametrize("ask", ["sync", "async"], indirect=True)
def test_a_result_can_be_a_failure_and_is_returned_all_the_same(
    ask: Callable[..., Any],
) -> None:
    breaker = CircuitBreaker(threshold=2, failed_if=lambda result: result == 503)
    assert ask(breaker, 503) == 503
    assert ask(breaker, 200) == 200
    assert ask(breaker, 503) == 503
    assert breaker.state == "closed"
    assert ask(breaker, 503) == 503
    with pytest.raises(CircuitOpen) as caught:
        ask(breaker)
    assert caught.value.last_error


@pytest.mark.parametrize("rejection", [RateLimited("no permit"), BulkheadFull("no place")])
def test_rejections_further_inside_say_nothing(rejection: Exception) -> None:
    """The dependency was not asked."""
    breaker = CircuitBreaker(threshold=1)
    with pytest.raises(type(rejection)):
        breaker.call(Dependency().ask, rejection)
    assert (breaker.state, breaker.metrics()["calls"]) == ("closed", 0)


def test_what_is_told_to_count_counts() -> None:
    """A server's own 429, as the class that says so."""
    breaker = CircuitBreaker(threshold=1, count=RateLimited)
    with pytest.raises(RateLimited):
        breaker.call(Dependency().ask, RateLimited("429"))
    assert breaker.state == "open"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_the_end_of_the_process_says_nothing(error: BaseException) -> None:
    breaker = CircuitBreaker(threshold=1)
    with pytest.raises(type(error)) as caught:
        breaker.call(Dependency().ask, error)
    assert caught.value is error
    figures = breaker.metrics()
    assert (breaker.state, figures["calls"], figures["abandoned"]) == ("closed", 0, 1)


def test_a_cancelled_call_says_nothing() -> None:
    async def main() -> dict[str, Any]:
        breaker = CircuitBreaker(threshold=1)
        task = asyncio.ensure_future(breaker.call(asyncio.sleep, 3600))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return breaker.metrics()

    figures = testing.run(main())
    assert (figures["state"], figures["calls"], figures["abandoned"]) == ("closed", 0, 1)


def test_a_callers_own_time_limit_says_nothing() -> None:
    async def main() -> dict[str, Any]:
        breaker = CircuitBreaker(threshold=1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(breaker.call(asyncio.sleep, 3600), 1)
        return breaker.metrics()

    figures = testing.run(main())
    assert (figures["state"], figures["abandoned"]) == ("closed", 1)


@pytest.mark.parametrize("form", ["call", "block"])
def test_a_timeout_around_it_makes_the_call_a_failure(form: str) -> None:
    async def main() -> None:
        breaker, limit = CircuitBreaker(threshold=1), Timeout(5)

        async def through_blocks() -> None:
            async with limit, breaker:
                await asyncio.sleep(3600)

        through_calls = limit(breaker(asyncio.sleep))
        with pytest.raises(TimeoutExceeded):
            await (through_blocks() if form == "block" else through_calls(3600))
        assert breaker.state == "open"

    testing.run(main())


def test_a_timeout_around_counts_where_the_cancellation_was_passed_on_by_others() -> None:
    """Between the limit and the breaker stands code that has its calls cancelled in its own way."""

    async def main() -> None:
        breaker = CircuitBreaker(threshold=1)

        @Timeout(5)
        async def both() -> None:
            await asyncio.gather(breaker.call(asyncio.sleep, 3600), asyncio.sleep(3600))

        with pytest.raises(TimeoutExceeded):
            await both()
        assert breaker.state == "open"

    testing.run(main())


def test_a_timeout_inside_is_a_failure_as_any_other() -> None:
    async def main() -> None:
        breaker = CircuitBreaker(threshold=1)
        with pytest.raises(TimeoutExceeded):
            await breaker(Timeout(5)(asyncio.sleep))(3600)
        assert breaker.state == "open"

    testing.run(main())


@pytest.mark.parametrize("option", ["ignore", "count"])
def test_a_function_that_fails_itself_does_not_hide_the_error(option: str) -> None:
    def confused(error: BaseException) -> bool:
        return bool(error.no_such_thing)  # type: ignore[attr-defined]

    breaker = CircuitBreaker(**{option: confused})
    with pytest.raises(AttributeError) as caught:
        breaker.call(Dependency().ask, OSError("down"))
    assert isinstance(caught.value.__context__, OSError)


# -- rejections -------------------------------------------------------------------------------


def test_a_rejection_carries_what_is_known(clock: Clock, ask: Callable[..., Any]) -> None:
    breaker = CircuitBreaker("exchange", threshold=1, reset_timeout=30, clock=clock)
    clock.wait(100)
    opened = clock.unix_ms() / 1000
    with pytest.raises(OSError, match="no route"):
        ask(breaker, OSError("no route"))
    clock.wait(10)
    with pytest.raises(CircuitOpen) as caught:
        ask(breaker)
    error = caught.value
    assert (error.name, error.state, error.retry_after) == ("exchange", "open", 20.0)
    assert error.last_error == "OSError: no route"
    assert error.opened_at == pytest.approx(opened, abs=0.002)
    assert isinstance(error, ConnectionError)
    for part in ("exchange", "open", "20", "no route"):
        assert part in str(error)


def test_a_rejection_has_no_cause_and_survives_pickling() -> None:
    breaker = CircuitBreaker("exchange", threshold=1)
    fail(breaker)
    with pytest.raises(CircuitOpen) as caught:
        succeed(breaker)
    assert caught.value.__cause__ is caught.value.__context__ is None
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.name, copy.state, copy.last_error) == ("exchange", "open", "OSError: down")


def test_an_error_that_cannot_be_formatted_is_quoted_by_its_class() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    breaker = CircuitBreaker(threshold=1)
    with pytest.raises(Broken):
        breaker.call(Dependency().ask, Broken())
    with pytest.raises(CircuitOpen) as caught:
        succeed(breaker)
    assert str(caught.value.last_error).startswith("Broken")


# -- states -----------------------------------------------------------------------------------


def put_into(breaker: CircuitBreaker, state: str) -> CircuitBreaker:
    if state == "half_open":
        breaker.force("open")
    breaker.force(state)
    assert breaker.state == state
    return breaker


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("to", STATES)
def test_an_operator_may_do_what_makes_sense(state: str, to: str) -> None:
    breaker = put_into(CircuitBreaker("x"), state)
    allowed = {"closed": set(STATES) - {"half_open"}, "metrics_only": set(STATES) - {"open"}}
    allowed["metrics_only"] -= {"half_open"}
    if to in allowed.get(state, STATES):
        breaker.force(to)
        assert breaker.state == to
        return
    before = breaker.metrics()
    with pytest.raises(LifecycleError, match=f"{state}.*{to}"):
        breaker.force(to)
    before.pop("retry_after")
    after = breaker.metrics()
    assert {name: after[name] for name in before} == before


def test_a_state_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="half_open"):
        CircuitBreaker().force("ajar")


def test_only_open_lasts_a_while(clock: Clock) -> None:
    with pytest.raises(ValueError, match="`forced_open` lasts until it is changed"):
        CircuitBreaker().force("forced_open", wait=5)


def test_forced_open_stays_open(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    breaker.force("forced_open")
    clock.wait(1e6)
    with pytest.raises(CircuitOpen) as caught:
        succeed(breaker)
    assert (caught.value.state, caught.value.retry_after) == ("forced_open", None)
    assert breaker.retry_after is None
    breaker.force("closed")
    succeed(breaker)


def test_disabled_lets_pass_and_counts_nothing() -> None:
    breaker = CircuitBreaker(threshold=1)
    breaker.force("disabled")
    fail(breaker, 10)
    assert (breaker.state, breaker.metrics()["calls"]) == ("disabled", 0)


def test_metrics_only_counts_and_never_opens() -> None:
    breaker = CircuitBreaker("shadow", failure_rate=50, minimum_calls=2)
    breaker.force("metrics_only")
    told: list[str] = []
    end = listen(lambda decision: told.append(decision.kind))
    try:
        fail(breaker, 10)
    finally:
        end()
    figures = breaker.metrics()
    assert (figures["state"], figures["calls"], figures["failure_rate"]) == (
        "metrics_only",
        10,
        100.0,
    )
    assert told == ["circuit_breaker.failure_rate_exceeded"], "a breach is told once"


def test_it_can_be_opened_for_a_while(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    breaker.force("open", wait=5)
    assert breaker.retry_after == 5.0
    breaker.force("open", wait=60)  # longer, while it is open
    clock.wait(59)
    assert breaker.retry_after == 1.0
    with pytest.raises(CircuitOpen):
        succeed(breaker)
    clock.wait(1)
    succeed(breaker)
    assert breaker.state == "closed"


def test_reset_closes_and_forgets() -> None:
    breaker = CircuitBreaker(threshold=2)
    fail(breaker, 1)
    breaker.reset()
    fail(breaker, 1)
    assert breaker.state == "closed"
    fail(breaker, 1)
    breaker.reset()
    assert (breaker.state, breaker.metrics()["failed"]) == ("closed", 0)
    breaker.force("open")
    with pytest.raises(CircuitOpen) as caught:
        succeed(breaker)
    assert caught.value.last_error is None


def test_it_stays_open_longer_each_time_until_it_was_closed(clock: Clock) -> None:
    breaker = CircuitBreaker(threshold=1, reset_timeout=1, reset_factor=2, reset_max=5, clock=clock)
    waits = []
    for _ in range(5):
        fail(breaker)
        waits.append(breaker.retry_after)
        assert breaker.retry_after is not None
        clock.wait(breaker.retry_after)
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]
    succeed(breaker)
    fail(breaker)
    assert breaker.retry_after == 1.0


def test_jitter_varies_the_open_time_by_a_tenth(clock: Clock) -> None:
    def wait(seed: int) -> float | None:
        breaker = CircuitBreaker(
            threshold=1, reset_timeout=100, reset_jitter=True, seed=seed, clock=clock
        )
        fail(breaker)
        return breaker.retry_after

    waits = [wait(seed) for seed in range(50)]
    assert all(wait is not None and 90 <= wait <= 110 for wait in waits)
    assert len(set(waits)) > 40
    assert [wait(seed) for seed in range(50)] == waits


def test_what_was_begun_in_an_earlier_state_decides_nothing() -> None:
    breaker = CircuitBreaker(threshold=1)

    def overtaken(what: str) -> None:
        breaker.reset()
        if what == "fails":
            raise OSError("down")

    with pytest.raises(OSError, match="down"):
        breaker.call(overtaken, "fails")
    assert (breaker.state, breaker.metrics()["late"]) == ("closed", 1)
    breaker.call(overtaken, "succeeds")
    figures = breaker.metrics()
    assert (figures["late"], figures["calls"], figures["failed"]) == (2, 0, 0)


def test_a_call_that_outlasts_the_opening_of_the_breaker_is_late() -> None:
    async def main() -> None:
        breaker = CircuitBreaker(threshold=1, reset_timeout=1)
        old = asyncio.ensure_future(breaker.call(asyncio.sleep, 10))
        await asyncio.sleep(0)
        fail(breaker)
        await asyncio.sleep(2)
        succeed(breaker)  # the probe
        fail(breaker)
        assert breaker.state == "open"
        await old  # a success of the first time it was closed
        assert (breaker.state, breaker.metrics()["late"]) == ("open", 1)

    testing.run(main())


# -- many at once -----------------------------------------------------------------------------


def test_four_calls_run_side_by_side_in_coroutines() -> None:
    async def main() -> float:
        breaker = CircuitBreaker("exchange")
        slow = breaker(asyncio.sleep)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await asyncio.gather(*(slow(0.3) for _ in range(4)))
        return loop.time() - begun

    assert testing.run(main()) == pytest.approx(0.3, abs=1e-9)


def test_four_calls_run_side_by_side_in_threads() -> None:
    all_inside = threading.Barrier(4, timeout=GUARD)
    guarded = CircuitBreaker("exchange")(lambda: all_inside.wait())
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(guarded) for _ in range(4)]
        assert sorted(call.result(GUARD) for call in calls) == [0, 1, 2, 3]


def test_no_outcome_is_lost_between_threads() -> None:
    breaker = CircuitBreaker(failure_rate=100, minimum_calls=100_000, window_calls=100_000)

    def work(thread: int) -> None:
        for number in range(500):
            if (thread + number) % 2:
                fail(breaker)
            else:
                succeed(breaker)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    figures = breaker.metrics()
    assert (figures["calls"], figures["failed"], figures["late"]) == (4000, 2000, 0)


def test_a_call_may_use_its_own_breaker() -> None:
    breaker = CircuitBreaker(threshold=1)

    def outer() -> str:
        assert breaker.call(Dependency().ask, "inner") == "inner"
        assert breaker.metrics()["calls"] == 1
        return breaker.state

    assert breaker.call(outer) == "closed"


def test_a_listener_may_use_the_breaker() -> None:
    breaker = CircuitBreaker("guarded", threshold=1)
    seen: list[tuple[str, str]] = []

    def on_decision(decision: Any) -> None:
        seen.append((decision.kind, breaker.state))
        if decision.kind == "circuit_breaker.open":
            breaker.force("forced_open")

    end = listen(on_decision)
    try:
        fail(breaker)
    finally:
        end()
    assert seen == [
        ("circuit_breaker.open", "open"),
        ("circuit_breaker.forced_open", "forced_open"),
    ]


# -- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0},
        {"threshold": -1},
        {"threshold": 2.5},
        {"threshold": 3, "of": 2},
        {"threshold": 3, "failure_rate": 50},
        {"failure_rate": 0},
        {"failure_rate": 101},
        {"failure_rate": float("nan")},
        {"slow_rate": 0},
        {"window_calls": 0},
        {"window_calls": 10, "window_time": 10},
        {"window_time": 0},
        {"minimum_calls": 0},
        {"reset_timeout": 0},
        {"reset_timeout": -1},
        {"reset_factor": 0.5},
        {"reset_timeout": 10, "reset_max": 5},
        {"probes": 0},
        {"successes": 0},
        {"successes_of": 3},
        {"successes": 3, "successes_of": 2},
        {"probe_timeout": 0},
        {"on_probe_timeout": "ajar"},
        {"ignore": "OSError"},
        {"ignore": [int]},
        {"count": 5},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        CircuitBreaker(**options)
    assert str(caught.value)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"reset_timeout": 0}, "reset_timeout"),
        ({"probes": 0}, "probes"),
        ({"probe_timeout": 0}, "probe_timeout"),
        ({"failure_rate": 0}, "failure_rate"),
        ({"threshold": 3, "of": 2}, "of"),
    ],
)
def test_a_refusal_names_the_option_as_it_was_given(options: dict[str, Any], field: str) -> None:
    with pytest.raises(tiebeam.ConfigurationError) as caught:
        CircuitBreaker(**options)
    said = f"{caught.value} {caught.value.context.get('field')}"
    assert field in said.replace("`", " ").split()


def test_rejections_of_all_stages_are_at_hand_at_the_top() -> None:
    assert tiebeam.CircuitOpen is CircuitOpen
    assert tiebeam.BulkheadFull is BulkheadFull  # type: ignore[attr-defined]
    assert tiebeam.RateLimited is RateLimited  # type: ignore[attr-defined]


def test_the_inner_stages_of_a_stack_keep_the_breaker_closed() -> None:
    """A full bulkhead and a spent limiter behind the breaker do not open it."""
    breaker = CircuitBreaker(threshold=1)
    limiter, bulkhead = RateLimiter(1, period=3600), Bulkhead(1)
    limited = breaker(limiter(Dependency().ask))
    assert limited() == "ok"
    with pytest.raises(RateLimited):
        limited()
    with bulkhead, pytest.raises(BulkheadFull):
        breaker(bulkhead(Dependency().ask))()
    assert breaker.state == "closed"
