"""Blocks of code that are tried again, by iteration."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import CircuitOpen, testing
from tiebeam._core import Clock
from tiebeam.resilience import (
    Attempt,
    Backoff,
    CircuitBreaker,
    Decision,
    Retry,
    RetryBudget,
    inactive,
    listen,
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


def steady(clock: Clock, delay: float = 1.0, **options: Any) -> Retry:
    """Waits always as long."""
    return Retry("it", backoff=Backoff.constant(delay, jitter="none"), clock=clock, **options)


class Block:
    """A block that does what it is told, in turn, in a sync or an async loop."""

    def __init__(self, asynchronous: bool, clock: Clock) -> None:
        self.asynchronous = asynchronous
        self.clock = clock
        self.numbers: list[int] = []
        self.at: list[float] = []

    def step(self, attempt: Attempt, what: tuple[Any, ...]) -> Any:
        self.numbers.append(attempt.number)
        self.at.append(self.clock.monotonic())
        one = what[min(len(self.at), len(what)) - 1]
        if isinstance(one, BaseException):
            raise one
        return one

    def run(self, policy: Retry, *what: Any) -> Any:
        if self.asynchronous:
            return testing.run(self._run_async(policy, what), clock=self.clock)
        result = "no attempt"
        for attempt in policy:
            with attempt:
                result = self.step(attempt, what)
        return result

    async def _run_async(self, policy: Retry, what: tuple[Any, ...]) -> Any:
        result = "no attempt"
        async for attempt in policy:
            with attempt:
                await asyncio.sleep(0)
                result = self.step(attempt, what)
        return result


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def block(request: pytest.FixtureRequest, clock: Clock) -> Block:
    return Block(request.param, clock)


def test_a_block_that_succeeds_runs_once(block: Block, clock: Clock) -> None:
    assert block.run(steady(clock), "ok") == "ok"
    assert (block.numbers, clock.monotonic()) == ([1], 0.0)


def test_a_block_is_tried_again_after_each_wait(block: Block, clock: Clock) -> None:
    assert block.run(steady(clock), OSError("x"), OSError("y"), "ok") == "ok"
    assert (block.numbers, block.at) == ([1, 2, 3], [0.0, 1.0, 2.0])


def test_the_last_error_is_raised_as_it_is(block: Block, clock: Clock) -> None:
    error = OSError("last")
    with pytest.raises(OSError, match="last") as caught:
        block.run(steady(clock), OSError("x"), OSError("y"), error)
    assert caught.value is error
    assert error.__context__ is error.__cause__ is None
    assert error.__retry__ == {  # type: ignore[attr-defined]
        "attempts": 3,
        "waited": 2.0,
        "reason": "attempts",
    }
    assert len(error.__notes__) == 1  # type: ignore[attr-defined]


def test_what_is_not_worth_it_is_not_tried_again(block: Block, clock: Clock) -> None:
    with pytest.raises(ValueError, match="bad"):
        block.run(steady(clock), ValueError("bad"))
    assert block.numbers == [1]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(2), GeneratorExit()])
def test_the_end_of_the_process_is_not_tried_again(clock: Clock, error: BaseException) -> None:
    block = Block(False, clock)
    with pytest.raises(type(error)) as caught:
        block.run(steady(clock), OSError("x"), error)
    assert caught.value is error
    assert block.numbers == [1, 2]


def test_a_block_may_be_left_and_gone_on_with(clock: Clock) -> None:
    def returns() -> str:
        for attempt in steady(clock):
            with attempt:
                if attempt.number == 1:
                    raise OSError("x")
                return "returned"
        return "fell through"

    assert returns() == "returned"
    seen = []
    for attempt in steady(clock):
        with attempt:
            seen.append(attempt.number)
            if attempt.number == 2:
                break
            raise OSError("x")
    assert seen == [1, 2]
    for attempt in steady(clock):
        with attempt:
            seen.append(attempt.number)
            continue
    assert seen == [1, 2, 1], "what is gone on from has succeeded"


def test_an_async_block_may_be_left() -> None:
    async def returns() -> str:
        async for attempt in Retry(initial_delay=1):
            with attempt:
                if attempt.number == 1:
                    raise OSError("x")
                return "returned"
        return "fell through"

    assert testing.run(returns()) == "returned"


def test_the_number_of_an_attempt_stays_what_it_was(clock: Clock) -> None:
    attempts = []
    for attempt in steady(clock):
        attempts.append(attempt)
        with attempt:
            if len(attempts) < 3:
                raise OSError("x")
    assert [attempt.number for attempt in attempts] == [1, 2, 3]


def test_loops_may_be_nested(clock: Clock) -> None:
    seen = []

    def loops() -> None:
        for outer in steady(clock, max_attempts=2):
            with outer:
                for inner in steady(clock, max_attempts=2):
                    with inner:
                        seen.append((outer.number, inner.number))
                        raise OSError("inner")

    with pytest.raises(OSError, match="inner"):
        loops()
    assert seen == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_one_retry_may_be_looped_over_at_the_same_time() -> None:
    async def main() -> None:
        policy = Retry(max_attempts=3, initial_delay=1, multiplier=1, jitter="none", budget=None)
        loop = asyncio.get_running_loop()

        async def work(failures: int) -> float:
            async for attempt in policy:
                with attempt:
                    await asyncio.sleep(0)
                    if attempt.number <= failures:
                        raise OSError("x")
            return loop.time()

        ends = await asyncio.gather(*(work(number % 3) for number in range(60)))
        assert ends == [pytest.approx(number % 3) for number in range(60)]

    testing.run(main())


def test_limits_hold(block: Block, clock: Clock) -> None:
    with pytest.raises(OSError, match="x") as caught:
        block.run(steady(clock, max_attempts=None, max_elapsed=3), OSError("x"))
    assert block.at == [0.0, 1.0, 2.0]
    assert caught.value.__retry__["reason"] == "elapsed"  # type: ignore[attr-defined]


def test_an_empty_budget_ends_it(block: Block, clock: Clock) -> None:
    budget = RetryBudget.token(ratio=0, min_per_second=1, ttl=1, clock=clock)
    with pytest.raises(OSError, match="x") as caught:
        block.run(steady(clock, 0, max_attempts=9, budget=budget), OSError("x"))
    assert block.numbers == [1, 2]
    assert caught.value.__retry__["reason"] == "budget"  # type: ignore[attr-defined]


def test_a_hint_is_followed(block: Block, clock: Clock) -> None:
    error = OSError("busy")
    error.retry_after = 5  # type: ignore[attr-defined]
    block.run(steady(clock), error, "ok")
    assert block.at == [0.0, 5.0]


def test_a_breaker_may_stand_inside(clock: Clock) -> None:
    breaker = CircuitBreaker(threshold=2, clock=clock)
    calls = []

    def loop() -> None:
        for attempt in steady(clock, max_attempts=10):
            with attempt, breaker:
                calls.append(1)
                raise OSError("x")

    with pytest.raises(CircuitOpen):
        loop()
    assert len(calls) == 2


def test_what_happens_is_told(block: Block, clock: Clock, decisions: list[Decision]) -> None:
    block.run(steady(clock), OSError("x"), "ok")
    assert [(d.kind, d.name) for d in decisions] == [
        ("retry.scheduled", "it"),
        ("retry.recovered", "it"),
    ]
    assert decisions[1].facts == {"attempts": 2, "waited": 1.0}


def test_switched_off_a_block_runs_once(block: Block, clock: Clock) -> None:
    error = OSError("x")
    with inactive(), pytest.raises(OSError, match="x") as caught:
        block.run(steady(clock), error)
    assert caught.value is error
    assert block.numbers == [1]
    assert not hasattr(error, "__retry__")


def test_an_attempt_that_is_not_entered_is_the_last(clock: Clock) -> None:
    assert [attempt.number for attempt in steady(clock)] == [1]


def test_a_cancelled_wait_ends_at_once() -> None:
    async def main() -> None:
        attempts = 0

        async def work() -> None:
            nonlocal attempts
            async for attempt in Retry(initial_delay=1000, max_delay=1000, jitter="none"):
                with attempt:
                    attempts += 1
                    raise OSError("x")

        task = asyncio.ensure_future(work())
        await asyncio.sleep(10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (attempts, asyncio.get_running_loop().time()) == (1, pytest.approx(10))

    testing.run(main())


def test_a_cancelled_block_is_not_tried_again() -> None:
    async def main() -> None:
        attempts = 0

        async def work() -> None:
            nonlocal attempts
            async for attempt in Retry(on=lambda error: True):
                with attempt:
                    attempts += 1
                    await asyncio.sleep(3600)

        task = asyncio.ensure_future(work())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert attempts == 1

    testing.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_control_c_ends_a_wait() -> None:
    waits = threading.Event()
    end = listen(lambda decision: waits.set() if decision.kind == "retry.scheduled" else None)

    def interrupt() -> None:
        if waits.wait(GUARD):
            os.kill(os.getpid(), signal.SIGINT)

    attempts = []

    def loop() -> None:
        for attempt in Retry(initial_delay=GUARD, jitter="none", clock=Clock.real()):
            with attempt:
                attempts.append(attempt)
                raise OSError("x")

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop()
    finally:
        thread.join()
        end()
    assert len(attempts) == 1, "the wait came to its end"


def test_an_interrupted_block_counts_no_longer_as_under_way(clock: Clock) -> None:
    """Its place in the budget is free before anybody has let go of the error."""
    budget = RetryBudget.concurrency(ratio=1, min_concurrency=0, clock=clock)

    def loop() -> None:
        for attempt in steady(clock, budget=budget):
            with attempt:
                assert budget.balance == 1
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        loop()
    assert caught.value.__traceback__ is not None
    assert budget.balance == 0


def test_nothing_keeps_what_a_failed_block_held(block: Block, clock: Clock) -> None:
    seen: list[weakref.ref[BaseException]] = []

    class Watched(OSError):
        def __init__(self) -> None:
            super().__init__("x")
            seen.append(weakref.ref(self))

    def run() -> None:
        try:
            for attempt in steady(clock):
                with attempt:
                    raise Watched
        except Watched:
            pass

    async def run_async() -> None:
        try:
            async for attempt in steady(clock):
                with attempt:
                    raise Watched
        except Watched:
            pass
        assert [reference() for reference in seen] == [None] * 3

    gc.collect()
    gc.disable()
    try:
        if block.asynchronous:
            testing.run(run_async(), clock=clock)
        else:
            run()
        assert [reference() for reference in seen] == [None] * 3
    finally:
        gc.enable()
