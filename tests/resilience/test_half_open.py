"""Half-open: exactly so many probes at a time, whatever becomes of them, and how they decide."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import CircuitOpen, TimeoutExceeded, testing
from tiebeam._core import Clock
from tiebeam.exceptions import BulkheadFull
from tiebeam.resilience import Bulkhead, CircuitBreaker, Timeout


@pytest.fixture
def clock() -> Clock:
    return Clock.simulated()


def due(clock: Clock, **options: Any) -> CircuitBreaker:
    """A breaker whose open period is just over: the next call is a probe."""
    options = {"reset_timeout": 30, "threshold": 1, **options}
    if "failure_rate" in options:
        del options["threshold"]
    breaker = CircuitBreaker("exchange", clock=clock, **options)
    breaker.force("open")
    clock.wait(options["reset_timeout"])
    return breaker


def answer(what: Any = "ok") -> Any:
    if isinstance(what, BaseException):
        raise what
    return what


class Probe:
    """A call that is under way until it is told how to end."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.task = asyncio.ensure_future(breaker.call(self.run))

    async def run(self) -> Any:
        return answer(await self.end)

    async def ends(self, what: Any = "ok") -> None:
        self.end.set_result(what)
        await asyncio.wait([self.task])
        self.task.cancelled() or self.task.exception()


async def under_way(breaker: CircuitBreaker, count: int) -> list[Probe]:
    """So many probes that were let through, and have not ended."""
    probes = [Probe(breaker) for _ in range(count)]
    await asyncio.sleep(0)
    assert breaker.metrics()["probes"] == count
    return probes


def is_full(breaker: CircuitBreaker) -> bool:
    """Whether one more call is turned away."""
    entered = False

    def enter() -> None:
        nonlocal entered
        entered = True
        raise KeyboardInterrupt  # says nothing, and gives its place back

    with contextlib.suppress(KeyboardInterrupt, CircuitOpen):
        breaker.call(enter)
    return not entered


# -- exactly so many --------------------------------------------------------------------------


@pytest.mark.parametrize("probes", [1, 3])
def test_of_a_thousand_coroutines_exactly_the_probes_pass(clock: Clock, probes: int) -> None:
    breaker = due(clock, probes=probes, successes=probes)

    async def main() -> Counter[str]:
        decided = 0
        all_decided = asyncio.Event()
        came_to: Counter[str] = Counter()

        async def probe() -> None:
            settle("passed")
            await all_decided.wait()  # no place becomes free before everybody has asked

        def settle(what: str) -> None:
            nonlocal decided
            came_to[what] += 1
            decided += 1
            if decided == 1000:
                all_decided.set()

        async def caller() -> None:
            await asyncio.sleep(0)
            try:
                await breaker.call(probe)
            except CircuitOpen as error:
                settle(f"rejected while {error.state}")

        await asyncio.gather(*(caller() for _ in range(1000)))
        return came_to

    came_to = testing.run(main())
    assert came_to == {"passed": probes, "rejected while half_open": 1000 - probes}
    assert breaker.state == "closed"


@pytest.mark.parametrize("probes", [1, 3])
def test_of_a_thousand_calls_in_threads_exactly_the_probes_pass(clock: Clock, probes: int) -> None:
    breaker = due(clock, probes=probes, successes=probes)
    start = threading.Barrier(16, timeout=GUARD)
    to_make: SimpleQueue[int] = SimpleQueue()
    for number in range(1000):
        to_make.put(number)
    rejected, gate = threading.Semaphore(0), threading.Event()

    def probe() -> None:
        assert gate.wait(GUARD), "the others were never decided"

    def calls() -> Counter[str]:
        came_to: Counter[str] = Counter()
        start.wait()
        while True:
            try:
                to_make.get_nowait()
            except Empty:
                return came_to
            try:
                breaker.call(probe)  # its thread stands still, and the others go on
                came_to["passed"] += 1
            except CircuitOpen as error:
                came_to[f"rejected while {error.state}"] += 1
                rejected.release()

    with ThreadPoolExecutor(16) as threads:
        results = [threads.submit(calls) for _ in range(16)]
        try:
            for _ in range(1000 - probes):
                assert rejected.acquire(timeout=GUARD)
        finally:
            gate.set()
        came_to = sum((result.result(GUARD) for result in results), Counter())
    assert came_to == {"passed": probes, "rejected while half_open": 1000 - probes}
    assert breaker.state == "closed"


def test_a_thousand_calls_in_threads_see_one_probe_fail(clock: Clock) -> None:
    """It opens again, for everybody."""
    breaker = due(clock)
    start = threading.Barrier(16, timeout=GUARD)
    calls = Counter[str]()
    lock = threading.Lock()

    def work(numbers: range) -> None:
        start.wait()
        for _ in numbers:
            with pytest.raises((OSError, CircuitOpen)) as caught:
                breaker.call(answer, OSError("still down"))
            with lock:
                calls[type(caught.value).__name__] += 1

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, [range(at, 1000, 16) for at in range(16)]))
    assert calls == {"OSError": 1, "CircuitOpen": 999}
    assert breaker.state == "open"


# -- how probes decide ------------------------------------------------------------------------


def test_nothing_passes_a_moment_before_its_time(clock: Clock) -> None:
    breaker = CircuitBreaker(threshold=1, reset_timeout=30, clock=clock)
    breaker.force("open")
    clock.step(clock.nanos() + 30 * 10**9 - 1)
    with pytest.raises(CircuitOpen):
        breaker.call(answer)
    clock.step(clock.nanos() + 1)
    assert breaker.retry_after == 0
    assert breaker.call(answer) == "ok"


def test_a_success_closes_it_and_a_failure_opens_it(clock: Clock) -> None:
    breaker = due(clock)
    assert breaker.call(answer) == "ok"
    assert breaker.state == "closed"
    breaker = due(clock)
    with pytest.raises(OSError, match="still down"):
        breaker.call(answer, OSError("still down"))
    assert (breaker.state, breaker.retry_after) == ("open", 30.0)


def test_closed_again_it_starts_counting_from_nothing(clock: Clock) -> None:
    breaker = due(clock, threshold=3)
    breaker.call(answer)
    for _ in range(2):
        with pytest.raises(OSError, match="x"):
            breaker.call(answer, OSError("x"))
    assert breaker.state == "closed"


def test_several_successes_in_a_row(clock: Clock) -> None:
    breaker = due(clock, successes=3)
    for _ in range(2):
        breaker.call(answer)
        assert breaker.state == "half_open"
    breaker.call(answer)
    assert breaker.state == "closed"

    breaker = due(clock, successes=3)
    breaker.call(answer)
    with pytest.raises(OSError, match="x"):
        breaker.call(answer, OSError("x"))
    assert breaker.state == "open"


def test_successes_among_so_many_probes(clock: Clock) -> None:
    def after(*what: Any) -> str:
        breaker = due(clock, successes=2, successes_of=3)
        for number, one in enumerate(what):
            assert number == 0 or breaker.state == "half_open"
            with contextlib.suppress(OSError):
                breaker.call(answer, one)
        return breaker.state

    bad = OSError("x")
    assert after("ok", "ok") == "closed"
    assert after(bad, "ok", "ok") == "closed"
    assert after("ok", bad, bad) == "open"
    assert after(bad, bad) == "open"


def test_shares_decide_over_as_many_probes_as_there_are(clock: Clock) -> None:
    def after(failures: int) -> str:
        breaker = due(clock, failure_rate=50, minimum_calls=100, probes=4)
        for number in range(4):
            assert number == 0 or breaker.state == "half_open"
            with contextlib.suppress(OSError):
                breaker.call(answer, OSError("x") if number < failures else "ok")
        return breaker.state

    assert [after(failures) for failures in range(5)] == ["closed", "closed", *["open"] * 3]


def test_slow_probes_open_it(clock: Clock) -> None:
    breaker = due(clock, failure_rate=50, slow_call=1, probes=1)
    breaker.call(clock.wait, 2)
    assert breaker.state == "open"


def test_the_first_failure_decides_and_the_other_probes_are_late(clock: Clock) -> None:
    breaker = due(clock, probes=3, successes=3)

    async def main() -> None:
        first, second, third = await under_way(breaker, 3)
        await first.ends(OSError("x"))
        assert breaker.state == "open"
        await second.ends("ok")
        await third.ends(OSError("y"))
        figures = breaker.metrics()
        assert (figures["state"], figures["late"], figures["trips"]) == ("open", 2, 2)
        with pytest.raises(CircuitOpen) as caught:
            breaker.call(answer)
        assert caught.value.last_error == "OSError: x", "a late failure is not quoted"

    testing.run(main(), clock=clock)


def test_a_probe_of_an_earlier_time_neither_decides_nor_frees_a_place(clock: Clock) -> None:
    breaker = due(clock, probes=2, successes=2)

    async def main() -> None:
        old, failing = await under_way(breaker, 2)
        await failing.ends(OSError("x"))
        await asyncio.sleep(30)
        new = await under_way(breaker, 2)
        assert is_full(breaker)
        await old.ends("ok")
        assert is_full(breaker), "a late outcome gave a place back that is another probe's"
        assert breaker.state == "half_open"
        for probe in new:
            await probe.ends("ok")
        assert breaker.state == "closed"

    testing.run(main(), clock=clock)


# -- places come back -------------------------------------------------------------------------


def test_a_cancelled_probe_gives_its_place_back(clock: Clock) -> None:
    breaker = due(clock)

    async def main() -> None:
        (probe,) = await under_way(breaker, 1)
        assert is_full(breaker)
        probe.task.cancel()
        await asyncio.wait([probe.task])
        assert probe.task.cancelled()
        assert (breaker.state, breaker.metrics()["probes"]) == ("half_open", 0)
        await (await under_way(breaker, 1))[0].ends("ok")
        assert breaker.state == "closed"

    testing.run(main(), clock=clock)


@pytest.mark.parametrize("way", ["closed", "collected", "never started"])
def test_a_coroutine_that_is_lost_gives_its_place_back(clock: Clock, way: str) -> None:
    breaker = due(clock)

    class Suspension:
        def __await__(self) -> Any:
            yield

    async def wait() -> None:
        await Suspension()

    coroutine = breaker(wait)()
    if way == "never started":
        coroutine.close()
        assert breaker.state == "open", "the call has not begun, and has asked for nothing"
    else:
        coroutine.send(None)
        assert is_full(breaker)
        if way == "closed":
            coroutine.close()
        del coroutine
        gc.collect()
    assert breaker.metrics()["probes"] == 0
    assert breaker.call(answer) == "ok"
    assert breaker.state == "closed"


def test_a_task_that_ends_with_its_loop_gives_its_place_back(clock: Clock) -> None:
    breaker = due(clock)

    async def main() -> None:
        await under_way(breaker, 1)  # and nobody waits for it

    testing.run(main(), clock=clock)
    assert (breaker.state, breaker.metrics()["probes"]) == ("half_open", 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), KeyError("ignored")])
def test_a_probe_that_says_nothing_gives_its_place_back(clock: Clock, error: BaseException) -> None:
    breaker = due(clock, ignore=KeyError)
    for _ in range(3):
        with pytest.raises(type(error)):
            breaker.call(answer, error)
        assert (breaker.state, breaker.metrics()["probes"]) == ("half_open", 0)
    breaker.call(answer)
    assert breaker.state == "closed"


def test_a_probe_that_did_not_get_to_the_dependency_gives_its_place_back(clock: Clock) -> None:
    breaker, bulkhead = due(clock), Bulkhead(1)
    with bulkhead, pytest.raises(BulkheadFull):
        breaker(bulkhead(answer))()
    assert (breaker.state, breaker.metrics()["probes"]) == ("half_open", 0)


@pytest.mark.parametrize("option", ["ignore", "count", "failed_if"])
def test_a_function_that_fails_itself_does_not_keep_a_place(clock: Clock, option: str) -> None:
    def confused(_: Any) -> bool:
        raise LookupError("confused")

    breaker = due(clock, **{option: confused})
    with pytest.raises(LookupError, match="confused"):
        breaker.call(answer, "ok" if option == "failed_if" else OSError("x"))
    assert breaker.metrics()["probes"] == 0


def test_a_timeout_around_a_probe_is_a_failure(clock: Clock) -> None:
    breaker = due(clock)

    async def main() -> None:
        with pytest.raises(TimeoutExceeded):
            await Timeout(5)(breaker(asyncio.sleep))(3600)

    testing.run(main(), clock=clock)
    assert breaker.state == "open"


def test_a_sync_probe_that_is_given_up_has_failed(clock: Clock) -> None:
    """It still uses the dependency, but nobody waits for it: what it comes to says nothing."""
    breaker = due(clock)
    gate, done = threading.Event(), threading.Event()

    def stuck() -> None:
        assert gate.wait(GUARD)

    def call() -> None:
        try:
            breaker.call(stuck)
        finally:
            done.set()

    real = Clock.real()
    try:
        with pytest.raises(TimeoutExceeded):
            Timeout(0.001, clock=real)(call)()
        assert breaker.state == "open"
    finally:
        gate.set()
    assert done.wait(GUARD)
    assert breaker.state == "open"


# -- the end of its patience ------------------------------------------------------------------


@pytest.mark.parametrize(("then", "state"), [(None, "open"), ("open", "open"), ("closed",) * 2])
def test_probes_that_never_come_back_do_not_hold_it(clock: Clock, then: Any, state: str) -> None:
    breaker = due(clock, probe_timeout=10, on_probe_timeout=then)

    async def main() -> None:
        (probe,) = await under_way(breaker, 1)
        await asyncio.sleep(9)
        with pytest.raises(CircuitOpen) as caught:
            breaker.call(answer)
        assert (caught.value.state, caught.value.retry_after) == ("half_open", 1.0)
        assert breaker.retry_after == 1.0
        await asyncio.sleep(1)
        assert breaker.state == state
        await probe.ends(OSError("at last"))
        assert (breaker.state, breaker.metrics()["late"]) == (state, 1)

    testing.run(main(), clock=clock)


def test_reset_timeout_is_the_patience_unless_another_is_given(clock: Clock) -> None:
    breaker = due(clock, reset_timeout=7)

    async def main() -> None:
        await under_way(breaker, 1)
        assert breaker.retry_after == 7.0
        await asyncio.sleep(7)
        assert breaker.state == "open"

    testing.run(main(), clock=clock)


def test_a_free_place_means_that_a_call_may_pass_now(clock: Clock) -> None:
    breaker = due(clock, probes=2, successes=5)

    async def main() -> None:
        await under_way(breaker, 1)
        assert breaker.retry_after == 0
        second = Probe(breaker)
        await asyncio.sleep(0)
        assert breaker.retry_after == 30.0, "as long as probes may take"
        await second.ends("ok")
        assert breaker.retry_after == 0

    testing.run(main(), clock=clock)


def test_probes_are_at_a_time_and_not_in_total(clock: Clock) -> None:
    breaker = due(clock, probes=2, successes=5)

    async def main() -> None:
        for done in range(4):
            (probe,) = await under_way(breaker, 1)
            await probe.ends("ok")
            assert breaker.state == "half_open", f"after {done + 1} of five"
        (last,) = await under_way(breaker, 1)
        assert is_full(breaker), "the verdict needs no sixth"
        await last.ends("ok")
        assert breaker.state == "closed"

    testing.run(main(), clock=clock)


def test_an_operator_may_end_it(clock: Clock) -> None:
    breaker = due(clock)

    async def main() -> None:
        (probe,) = await under_way(breaker, 1)
        breaker.force("disabled")
        await probe.ends(OSError("x"))
        assert breaker.state == "disabled"

    testing.run(main(), clock=clock)


def test_it_can_be_put_into_half_open(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    breaker.force("forced_open")
    breaker.force("half_open")
    call: Callable[[], Any] = breaker(answer)
    assert call() == "ok"
    assert breaker.state == "closed"
