"""Hedges: when one more attempt begins, which one wins, and what becomes of the others."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import weakref
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from tiebeam import CircuitOpen, ConfigurationError, TimeoutExceeded, testing
from tiebeam.resilience import (
    CircuitBreaker,
    Decision,
    Hedge,
    Pipeline,
    Retry,
    RetryBudget,
    Timeout,
    listen,
)


@pytest.fixture
def decisions() -> Iterator[list[Decision]]:
    seen: list[Decision] = []
    end = listen(seen.append)
    yield seen
    end()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged about tasks whose errors nobody saw."""
    yield
    gc.collect()
    assert not [record.message for record in caplog.records if record.name == "asyncio"]


def now() -> float:
    return round(asyncio.get_running_loop().time(), 9)


class Server:
    """Answers each attempt after a time of its own: with a result, or an error to raise."""

    def __init__(self, *answers: tuple[float, Any]) -> None:
        self.answers = answers
        self.began: list[float] = []
        self.ended: dict[int, str] = {}

    async def __call__(self) -> Any:
        number = len(self.began)
        self.began.append(now())
        after, what = self.answers[min(number, len(self.answers) - 1)]
        try:
            await asyncio.sleep(after)
        except asyncio.CancelledError:
            self.ended[number] = "cancelled"
            raise
        self.ended[number] = "answered"
        if isinstance(what, BaseException):
            raise what
        return what


async def settle() -> None:
    """Lets those that were cancelled end."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_what_answers_in_time_is_asked_once(decisions: list[Decision]) -> None:
    async def main() -> None:
        server = Server((0.9, "first"))
        assert await Hedge(1).call(server) == "first"
        assert (server.began, now()) == ([0], 0.9)
        await asyncio.sleep(10)
        assert server.began == [0]

    testing.run(main())
    assert decisions == []


def test_the_first_answer_wins_and_the_other_attempt_is_cancelled(
    decisions: list[Decision],
) -> None:
    async def main() -> None:
        server = Server((100, "first"), (1, "second"))
        assert await Hedge(2, name="exchange").call(server) == "second"
        assert (server.began, now()) == ([0, 2], 3)
        await settle()
        assert server.ended == {0: "cancelled", 1: "answered"}

    testing.run(main())
    assert [(d.kind, d.name, d.facts) for d in decisions] == [
        ("hedge.started", "exchange", {"attempt": 2})
    ]


def test_the_first_attempt_may_still_win() -> None:
    async def main() -> None:
        server = Server((3, "first"), (100, "second"))
        assert await Hedge(2).call(server) == "first"
        assert now() == 3
        await settle()
        assert server.ended == {0: "answered", 1: "cancelled"}

    testing.run(main())


def test_so_many_attempts_begin_one_delay_after_the_other() -> None:
    async def main() -> None:
        server = Server((100, "late"))
        assert await Hedge(timedelta(seconds=2), max_hedges=3).call(server) == "late"
        assert (server.began, now()) == ([0, 2, 4, 6], 100)

    testing.run(main())


def test_with_no_delay_all_begin_at_once() -> None:
    async def main() -> None:
        server = Server((3, "slow"), (1, "quick"), (2, "middle"))
        assert await Hedge(0, max_hedges=2).call(server) == "quick"
        assert (server.began, now()) == ([0, 0, 0], 1)
        await settle()
        assert server.ended == {0: "cancelled", 1: "answered", 2: "cancelled"}

    testing.run(main())


def test_a_failure_lets_the_next_attempt_begin_at_once() -> None:
    async def main() -> None:
        server = Server((1, OSError("x")), (1, OSError("y")), (1, "third"))
        assert await Hedge(10, max_hedges=2).call(server) == "third"
        assert (server.began, now()) == ([0, 1, 2], 3)

    testing.run(main())


def test_below_zero_only_a_failure_begins_the_next() -> None:
    async def main() -> None:
        server = Server((100, OSError("x")), (1, "second"))
        assert await Hedge(-1).call(server) == "second"
        assert server.began == [0, 100]

    testing.run(main())


def test_a_failure_does_not_end_the_attempts_under_way() -> None:
    async def main() -> None:
        server = Server((5, "first"), (1, OSError("x")))
        assert await Hedge(2).call(server) == "first"
        assert now() == 5

    testing.run(main())


def test_when_all_have_failed_the_first_error_is_raised() -> None:
    async def main() -> None:
        first, second = OSError("first"), KeyError("second")
        server = Server((3, first), (0.5, second))
        with pytest.raises(OSError, match="first") as caught:
            await Hedge(1).call(server)
        assert caught.value is first
        assert now() == 3
        assert first.__context__ is first.__cause__ is None

    testing.run(main())


@pytest.mark.parametrize("delay", [0, 1, -1])
def test_a_cancelled_call_cancels_all_attempts(delay: float) -> None:
    async def main() -> None:
        server = Server((100, "x"))
        task = asyncio.ensure_future(Hedge(delay, max_hedges=2).call(server))
        await asyncio.sleep(1.5)
        task.cancel("by the user")
        with pytest.raises(asyncio.CancelledError):
            await task
        await settle()
        assert set(server.ended.values()) == {"cancelled"}
        assert len(server.ended) == len(server.began)
        assert len(asyncio.all_tasks()) == 1

    testing.run(main())


def test_a_cancelled_call_ends_when_its_attempts_have() -> None:
    """As it would without the hedge: what cleans up has done so when the caller goes on."""

    async def main() -> None:
        cleaned_up: list[float] = []

        async def slow() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(5)
                cleaned_up.append(now())

        task = asyncio.ensure_future(Hedge(100).call(slow))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cleaned_up == [6]

    testing.run(main())


def test_the_errors_of_losers_are_not_missed() -> None:
    async def main() -> None:
        async def loser() -> None:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                raise OSError("while it was cancelled") from None

        calls = 0

        async def work() -> str:
            nonlocal calls
            calls += 1
            if calls == 1:
                await loser()
            return "winner"

        assert await Hedge(1).call(work) == "winner"
        await settle()

    testing.run(main())


def test_losers_that_take_their_time_do_not_hold_up_the_winner() -> None:
    async def main() -> None:
        calls, gone = 0, asyncio.Event()

        async def work() -> str:
            nonlocal calls
            calls += 1
            if calls == 2:
                return "winner"
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(50)
                gone.set()
            return "never"

        assert await Hedge(1).call(work) == "winner"
        assert now() == 1
        gc.collect()  # the loop itself keeps its tasks only weakly
        await gone.wait()
        assert now() == 51

    testing.run(main())


def test_an_attempt_that_is_cancelled_by_itself_has_failed() -> None:
    async def main() -> None:
        server = Server((1, asyncio.CancelledError()), (1, "second"))
        assert await Hedge(10).call(server) == "second"

    testing.run(main())


def test_nothing_is_left_over() -> None:
    async def main() -> None:
        for delay in (-1, 0, 1):
            await Hedge(delay, max_hedges=2).call(Server((0.5, "x")))
            with pytest.raises(OSError, match="x"):
                await Hedge(delay, max_hedges=2).call(Server((0.5, OSError("x"))))
        await settle()
        assert len(asyncio.all_tasks()) == 1

    testing.run(main())


# -- the budget -------------------------------------------------------------------------------


def test_without_budget_left_no_further_attempt_begins() -> None:
    async def main() -> None:
        budget = RetryBudget.token(ratio=0, min_per_second=1, ttl=1)
        server = Server((100, "x"))
        await Hedge(0.1, max_hedges=5, budget=budget).call(server)
        assert server.began == [0, 0.1]

    testing.run(main())


def test_without_budget_the_first_attempt_decides() -> None:
    async def main() -> None:
        budget = RetryBudget.token(ratio=0, min_per_second=0)
        server = Server((1, OSError("x")), (1, "second"))
        with pytest.raises(OSError, match="x"):
            await Hedge(10, budget=budget).call(server)
        assert server.began == [0]

    testing.run(main())


def test_attempts_that_fail_and_succeed_count_for_the_budget() -> None:
    """As those of a retry do: a throttle lets nobody hedge who mostly fails."""

    async def main() -> None:
        budget = RetryBudget.throttle(max_tokens=4, token_ratio=0.5)
        hedge = Hedge(-1, budget=budget)
        with pytest.raises(OSError, match="x"):
            await hedge.call(Server((1, OSError("x"))))
        assert budget.balance == 2
        assert await hedge.call(Server((1, "ok"))) == "ok"
        assert budget.balance == 2.5

    testing.run(main())


def test_a_call_counts_once_for_a_budget_that_it_shares_with_a_retry() -> None:
    async def main() -> None:
        budget = RetryBudget.token(ratio=1, min_per_second=0)
        pipeline = Pipeline(Retry(budget=budget), Hedge(10, budget=budget))
        assert await pipeline.call(Server((1, "ok"))) == "ok"
        assert budget.balance == 1

    testing.run(main())


def test_a_call_that_is_over_is_no_longer_under_way_for_the_budget() -> None:
    async def main() -> None:
        budget = RetryBudget.concurrency(ratio=1, min_concurrency=0)
        hedge = Hedge(1, budget=budget)
        await hedge.call(Server((3, "x")))
        with pytest.raises(OSError, match="x"):
            await hedge.call(Server((3, OSError("x"))))
        task = asyncio.ensure_future(hedge.call(Server((3, "x"))))
        await asyncio.sleep(0.5)
        assert budget.balance == 1
        task.cancel()
        await asyncio.wait([task])
        assert budget.balance == 0

    testing.run(main())


# -- together with others ---------------------------------------------------------------------


def test_a_breaker_inside_sees_each_attempt() -> None:
    async def main() -> None:
        breaker = CircuitBreaker(threshold=2)
        pipeline = Pipeline(Hedge(-1, max_hedges=5), breaker)
        server = Server((1, OSError("x")))
        with pytest.raises(OSError, match="x"):
            await pipeline.call(server)
        assert len(server.began) == 2
        with pytest.raises(CircuitOpen):
            await pipeline.call(server)

    testing.run(main())


def test_a_loser_says_nothing_to_a_breaker_inside() -> None:
    async def main() -> None:
        breaker = CircuitBreaker(threshold=1)
        server = Server((100, "first"), (1, "second"))
        assert await Pipeline(Hedge(1), breaker).call(server) == "second"
        await settle()
        figures = breaker.metrics()
        assert (figures["state"], figures["calls"], figures["abandoned"]) == ("closed", 1, 1)

    testing.run(main())


def test_a_timeout_outside_makes_all_attempts_failures() -> None:
    async def main() -> None:
        breaker = CircuitBreaker(threshold=1)
        with pytest.raises(TimeoutExceeded):
            await Pipeline(Timeout(5), Hedge(1), breaker).call(Server((100, "x")))
        await settle()
        assert breaker.state == "open"

    testing.run(main())


def test_a_timeout_inside_is_one_for_each_attempt() -> None:
    async def main() -> None:
        server = Server((100, "first"), (1, "second"))
        assert await Pipeline(Hedge(10), Timeout(2)).call(server) == "second"
        assert server.began == [0, 2]

    testing.run(main())


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_the_caller_sees_the_context_of_the_winner() -> None:
    async def main() -> None:
        calls = 0

        async def work() -> None:
            nonlocal calls
            calls += 1
            number = calls
            assert variable.get() == "caller"
            variable.set(f"attempt {number}")
            await asyncio.sleep(100 if number == 1 else 1)

        variable.set("caller")
        await Hedge(1).call(work)
        assert variable.get() == "attempt 2"

    testing.run(main())


def test_nothing_keeps_what_failed_attempts_held() -> None:
    class Resource:
        pass

    seen: list[weakref.ref[Resource]] = []

    async def fail() -> None:
        resource = Resource()
        seen.append(weakref.ref(resource))
        await asyncio.sleep(1)
        raise OSError("x")

    async def main() -> None:
        with contextlib.suppress(OSError):
            await Hedge(0.5).call(fail)
        await settle()
        assert [reference() for reference in seen] == [None] * 2

    gc.collect()
    gc.disable()
    try:
        testing.run(main())
    finally:
        gc.enable()


# -- what is refused --------------------------------------------------------------------------


def test_a_sync_function_is_refused() -> None:
    with pytest.raises(TypeError, match="async"):
        Hedge(1)(lambda: 1)
    with pytest.raises(TypeError, match="async"):
        Hedge(1).call(lambda: 1)


@pytest.mark.parametrize(
    "options",
    [
        {"delay": "soon"},
        {"delay": float("nan")},
        {"delay": None},
        {"delay": 1, "max_hedges": 0},
        {"delay": 1, "max_hedges": -1},
        {"delay": 1, "max_hedges": 1.5},
        {"delay": 1, "max_hedges": "two"},
        {"delay": 1, "budget": 5},
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        Hedge(**options)
    assert any(word in str(caught.value) for word in ("delay", "max_hedges", "budget"))


def test_it_says_what_it_is() -> None:
    assert "exchange" in repr(Hedge(0.5, name="exchange", max_hedges=2))
    assert "0.5 s" in repr(Hedge(0.5))
    with pytest.raises(ConfigurationError, match="max_hedges"):
        Hedge(0.5, max_hedges=0)
