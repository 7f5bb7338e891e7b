"""What the stages decide is told to whoever listens, and counted; nobody who listens disturbs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tiebeam import CircuitOpen, TimeoutExceeded, testing
from tiebeam._core import Clock
from tiebeam.exceptions import BulkheadFull, RateLimited
from tiebeam.resilience import (
    Bulkhead,
    CircuitBreaker,
    Decision,
    Fallback,
    Hedge,
    RateLimiter,
    Retry,
    RetryBudget,
    Stage,
    Timeout,
    counts,
    listen,
)


@pytest.fixture
def clock() -> Clock:
    return Clock.simulated()


@pytest.fixture
def told() -> Iterator[list[Decision]]:
    seen: list[Decision] = []
    end = listen(seen.append)
    yield seen
    end()


def fail(error: Exception | None = None) -> None:
    raise error or OSError("x")


def plain(decisions: list[Decision]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(decision.kind, decision.name, decision.facts) for decision in decisions]


# -- every kind, with its facts ---------------------------------------------------------------


def test_of_a_retry(clock: Clock, told: list[Decision]) -> None:
    outcomes = iter([OSError("x"), OSError("y"), None])
    policy = Retry("it", initial_delay=1, jitter="none", clock=clock)

    def work() -> None:
        error = next(outcomes)
        if error is not None:
            raise error

    policy.call(work)
    assert plain(told) == [
        ("retry.scheduled", "it", {"attempt": 2, "wait": 1.0, "error": "OSError: x"}),
        ("retry.scheduled", "it", {"attempt": 3, "wait": 2.0, "error": "OSError: y"}),
        ("retry.recovered", "it", {"attempts": 3, "waited": 3.0}),
    ]
    told.clear()
    with pytest.raises(OSError, match="x"):
        Retry("it", max_attempts=2, initial_delay=1, jitter="none", clock=clock).call(fail)
    assert plain(told)[1:] == [
        (
            "retry.gave_up",
            "it",
            {"attempts": 2, "waited": 1.0, "reason": "attempts", "error": "OSError: x"},
        )
    ]


def test_of_a_retry_that_was_not_worth_it(clock: Clock, told: list[Decision]) -> None:
    with pytest.raises(KeyError):
        Retry(clock=clock).call(fail, KeyError("x"))
    assert told == []


def test_of_a_retry_after_a_result(clock: Clock, told: list[Decision]) -> None:
    policy = Retry("it", max_attempts=2, initial_delay=0, on_result=lambda _: True, clock=clock)
    policy.call(lambda: 1)
    scheduled, gave_up = told
    assert scheduled.facts["error"]
    assert (gave_up.kind, gave_up.facts["error"]) == ("retry.gave_up", None)


def test_of_a_retry_without_budget(clock: Clock, told: list[Decision]) -> None:
    budget = RetryBudget.token(ratio=0, min_per_second=0, clock=clock)
    with pytest.raises(OSError, match="x"):
        Retry("it", budget=budget, clock=clock).call(fail)
    assert plain(told) == [
        ("retry.suppressed", "it", {"attempt": 1, "reason": "budget"}),
        (
            "retry.gave_up",
            "it",
            {"attempts": 1, "waited": 0.0, "reason": "budget", "error": "OSError: x"},
        ),
    ]


def test_of_a_breaker(clock: Clock, told: list[Decision]) -> None:
    breaker = CircuitBreaker("it", threshold=1, reset_timeout=30, clock=clock)
    with pytest.raises(OSError, match="x"):
        breaker.call(fail)
    with pytest.raises(CircuitOpen):
        breaker.call(fail)
    clock.wait(30)
    breaker.call(lambda: 1)
    at = 1_700_000_000.0
    assert plain(told) == [
        (
            "circuit_breaker.open",
            "it",
            {"from": "closed", "to": "open", "generation": 1, "at": at},
        ),
        ("circuit_breaker.rejected", "it", {"state": "open", "retry_after": 30.0}),
        (
            "circuit_breaker.half_open",
            "it",
            {"from": "open", "to": "half_open", "generation": 2, "at": at + 30},
        ),
        (
            "circuit_breaker.closed",
            "it",
            {"from": "half_open", "to": "closed", "generation": 3, "at": at + 30},
        ),
    ]


@pytest.mark.parametrize("state", ["open", "forced_open", "disabled", "metrics_only"])
def test_of_a_breaker_that_is_forced(told: list[Decision], state: str) -> None:
    breaker = CircuitBreaker("it")
    breaker.force(state)
    breaker.force(state)
    breaker.reset()
    assert [decision.kind for decision in told] == [
        f"circuit_breaker.{state}",
        "circuit_breaker.closed",
    ]


def test_of_a_breaker_by_shares(clock: Clock, told: list[Decision]) -> None:
    options: dict[str, Any] = {"failure_rate": 50, "minimum_calls": 2, "clock": clock}
    breaker = CircuitBreaker("it", **options)
    breaker.call(lambda: 1)
    with pytest.raises(OSError, match="x"):
        breaker.call(fail)
    assert plain(told)[0] == ("circuit_breaker.failure_rate_exceeded", "it", {"rate": 50.0})
    assert told[1].kind == "circuit_breaker.open"
    told.clear()
    slow = CircuitBreaker("slow", slow_rate=50, slow_call=1, minimum_calls=1, clock=clock)
    slow.call(clock.wait, 2)
    assert plain(told)[0] == ("circuit_breaker.slow_rate_exceeded", "slow", {"rate": 100.0})
    assert told[1].kind == "circuit_breaker.open"


@pytest.mark.parametrize("form", ["call", "block", "sync"])
def test_of_a_timeout(told: list[Decision], form: str) -> None:
    gate = threading.Event()

    async def wait() -> None:
        limit = Timeout(2, "it")
        if form == "call":
            await limit.call(asyncio.sleep, 3600)
        else:
            async with limit:
                await asyncio.sleep(3600)

    async def main() -> None:
        with pytest.raises(TimeoutExceeded):
            await wait()

    if form == "sync":
        try:
            with pytest.raises(TimeoutExceeded):
                Timeout(0.01, "it", clock=Clock.real()).call(gate.wait)
        finally:
            gate.set()
    else:
        testing.run(main())
    limit = 0.01 if form == "sync" else 2.0
    assert plain(told) == [("timeout.exceeded", "it", {"limit": limit})]


def test_of_a_bulkhead(told: list[Decision]) -> None:
    async def main() -> None:
        impatient = Bulkhead(1, max_waiting=1, max_wait=2, name="impatient")
        async with impatient:
            with pytest.raises(BulkheadFull):
                await impatient.call(asyncio.sleep, 0)

    full = Bulkhead(1, name="full")
    with full, pytest.raises(BulkheadFull):
        full.call(fail)
    testing.run(main())
    assert plain(told) == [
        ("bulkhead.rejected", "full", {"reason": "full"}),
        ("bulkhead.rejected", "impatient", {"reason": "max_wait"}),
    ]


def test_of_a_limiter(clock: Clock, told: list[Decision]) -> None:
    limiter = RateLimiter(1, period=10, max_wait=10, name="it", clock=clock)
    limiter.acquire()
    limiter.call(lambda: 1)
    limiter.acquire()
    with pytest.raises(RateLimited):
        limiter.call(fail)
    assert plain(told) == [
        ("rate_limiter.delayed", "it", {"wait": 10.0}),
        ("rate_limiter.rejected", "it", {"retry_after": 20.0}),
    ]


def test_of_a_fallback(told: list[Decision]) -> None:
    Fallback(value=1, name="it").call(fail)
    Fallback(value=1, name="it", on=OSError).call(fail)
    with pytest.raises(OSError, match="x"):
        Fallback(value=1, name="it", on=KeyError).call(fail)
    assert plain(told) == [("fallback.used", "it", {"error": "OSError: x"})] * 2


def test_of_a_hedge(told: list[Decision]) -> None:
    async def main() -> None:
        await Hedge(1, max_hedges=2, name="it").call(asyncio.sleep, 10)

    testing.run(main())
    assert plain(told) == [
        ("hedge.started", "it", {"attempt": 2}),
        ("hedge.started", "it", {"attempt": 3}),
    ]


def test_an_error_is_told_by_its_class_and_words(told: list[Decision]) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    for error in (OSError(2, "none"), KeyError(), Broken()):
        Fallback(value=1, name="it").call(fail, error)
    said = [decision.facts["error"] for decision in told]
    assert said[:2] == ["FileNotFoundError: [Errno 2] none", "KeyError"]
    assert said[2].startswith("Broken: ")


# -- who listens ------------------------------------------------------------------------------


def test_decisions_are_told_where_they_are_made(told: list[Decision]) -> None:
    threads: list[int] = []
    end = listen(lambda _: threads.append(threading.get_ident()))
    try:
        Fallback(value=1).call(fail)
        thread = threading.Thread(target=lambda: Fallback(value=1).call(fail))
        thread.start()
        thread.join()
    finally:
        end()
    assert threads[0] == threading.get_ident()
    assert threads[1] != threading.get_ident()


def test_whoever_has_ended_hears_no_more() -> None:
    seen: list[Decision] = []
    end = listen(seen.append)
    Fallback(value=1).call(fail)
    end()
    Fallback(value=1).call(fail)
    assert len(seen) == 1
    end()


def test_one_may_listen_twice_and_end_each_by_itself() -> None:
    seen: list[Decision] = []
    hear = seen.append
    first, second = listen(hear), listen(hear)
    try:
        Fallback(value=1).call(fail)
        assert len(seen) == 2
        first()
        first()  # again: it has ended already
        Fallback(value=1).call(fail)
        assert len(seen) == 3
    finally:
        second()
    Fallback(value=1).call(fail)
    assert len(seen) == 3


def test_a_listener_may_end_itself() -> None:
    seen: list[Decision] = []

    def once(decision: Decision) -> None:
        seen.append(decision)
        end()

    end = listen(once)
    Fallback(value=1).call(fail)
    Fallback(value=1).call(fail)
    assert len(seen) == 1


def test_a_listener_may_use_stages_itself(told: list[Decision]) -> None:
    depth = 0

    def answer(decision: Decision) -> None:
        nonlocal depth
        depth += 1
        if depth < 3:
            Fallback(value=1, name=f"level {depth}").call(fail)
        depth -= 1

    end = listen(answer)
    try:
        Fallback(value=1, name="level 0").call(fail)
    finally:
        end()
    assert [decision.name for decision in told] == ["level 0", "level 1", "level 2"]


STAGES: list[tuple[str, Callable[[Clock], Any]]] = [
    ("retry.scheduled", lambda clock: Retry(clock=clock).call(fail)),
    ("circuit_breaker.open", lambda clock: CircuitBreaker(threshold=1, clock=clock).call(fail)),
    ("fallback.used", lambda clock: Fallback(lambda error: fail(error)).call(fail)),
]


@pytest.mark.parametrize(("kind", "work"), STAGES, ids=[kind for kind, _ in STAGES])
def test_a_listener_that_fails_disturbs_nothing(
    clock: Clock, unraisable: list[BaseException], kind: str, work: Callable[[Clock], Any]
) -> None:
    error, heard = KeyError("in the listener"), []

    def broken(decision: Decision) -> None:
        if decision.kind == kind:
            raise error

    ends = [listen(broken), listen(lambda decision: heard.append(decision.kind))]
    try:
        with pytest.raises(OSError, match="x") as caught:
            work(clock)
    finally:
        for end in ends:
            end()
    assert kind in heard
    assert set(map(id, unraisable)) == {id(error)}
    assert caught.value.__context__ is None or kind == "fallback.used"


def test_a_listener_that_fails_leaves_a_breaker_as_it_is(
    unraisable: list[BaseException],
) -> None:
    def broken(decision: Decision) -> None:
        raise KeyError("in the listener")

    breaker = CircuitBreaker(threshold=1)
    end = listen(broken)
    try:
        with pytest.raises(OSError, match="x"):
            breaker.call(fail)
        with pytest.raises(CircuitOpen):
            breaker.call(fail)
        breaker.reset()
        assert breaker.call(lambda: "ok") == "ok"
    finally:
        end()
    assert [type(error) for error in unraisable] == [KeyError] * 3


def test_a_listener_that_fails_leaves_a_timeout_as_it_is(
    unraisable: list[BaseException],
) -> None:
    def broken(decision: Decision) -> None:
        raise KeyError("in the listener")

    async def main() -> None:
        with pytest.raises(TimeoutExceeded):
            await Timeout(1).call(asyncio.sleep, 10)
        with pytest.raises(TimeoutExceeded):
            async with Timeout(1):
                await asyncio.sleep(10)

    end = listen(broken)
    try:
        testing.run(main())
    finally:
        end()
    assert [type(error) for error in unraisable] == [KeyError] * 2


# -- counting ---------------------------------------------------------------------------------


def test_decisions_are_counted_whether_anybody_listens_or_not() -> None:
    name = "counted in this test only"
    assert ("fallback.used", name) not in counts()
    for _ in range(3):
        Fallback(value=1, name=name).call(fail)
    assert counts()["fallback.used", name] == 3
    copy = counts()
    copy.clear()
    assert counts()["fallback.used", name] == 3


def test_no_count_is_lost_between_threads() -> None:
    name = "counted by threads in this test only"

    def work() -> None:
        for _ in range(200):
            Fallback(value=1, name=name).call(fail)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts()["fallback.used", name] == 1600


class Caller:
    """A callable object."""

    def __call__(self) -> None:
        raise OSError("x")


def named_work(number: int = 0) -> None:
    raise OSError("x")


@pytest.mark.parametrize(
    "make",
    [
        lambda: named_work,
        lambda: functools.partial(named_work, 1),
        lambda: functools.partial(functools.partial(named_work, 1)),
    ],
    ids=["function", "partial", "partial of partial"],
)
@pytest.mark.parametrize(
    "stage",
    [Fallback(value=1), Retry(max_attempts=2, initial_delay=0, budget=None)],
    ids=["fallback", "retry"],
)
def test_what_wraps_a_function_goes_by_its_name(
    told: list[Decision], stage: Stage, make: Callable[[], Callable[[], None]]
) -> None:
    """And not by one of its own, with an address: there would be a new count for each object."""
    for _ in range(3):
        with contextlib.suppress(OSError):
            stage.call(make())
    assert {decision.name for decision in told} == {"named_work"}


def test_a_callable_object_goes_by_its_class(told: list[Decision]) -> None:
    for _ in range(3):
        Fallback(value=1).call(Caller())
    assert {decision.name for decision in told} == {"Caller"}
