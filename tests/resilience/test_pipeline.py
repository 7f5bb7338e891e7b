"""Pipelines: the order of stages, what is refused, and all the ways to put one around a call."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from tiebeam import CircuitOpen, ConfigurationError, TimeoutExceeded, testing
from tiebeam._core import Clock
from tiebeam.exceptions import BulkheadFull, RateLimited
from tiebeam.resilience import (
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Hedge,
    Pipeline,
    PipelineOrderWarning,
    RateLimiter,
    Retry,
    Stage,
    Timeout,
)

USUAL: list[Callable[[], Stage]] = [
    lambda: Fallback(value="instead", on=ZeroDivisionError),
    lambda: Timeout(10),
    lambda: Retry(max_attempts=2, initial_delay=0),
    lambda: Hedge(5),
    lambda: CircuitBreaker(),
    lambda: RateLimiter(1000),
    lambda: Bulkhead(10),
    lambda: Timeout(2),
]
"""All stages in their usual order."""

SYNC = [make for make in USUAL if not isinstance(make(), Hedge)]


def each(makers: list[Callable[[], Stage]]) -> Any:
    names = [type(make()).__name__ for make in makers]
    return pytest.mark.parametrize("make", makers, ids=names)


def whole(makers: list[Callable[[], Stage]]) -> Pipeline:
    return Pipeline(*(make() for make in makers))


# -- order ------------------------------------------------------------------------------------


def test_the_usual_order_is_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert whole(USUAL).validate() == []
        for left_out in range(len(USUAL)):
            Pipeline(*(make() for at, make in enumerate(USUAL) if at != left_out))
        for at in range(len(USUAL)):
            Pipeline(USUAL[at]())


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([CircuitBreaker, Retry], "the circuit breaker stands outside of the retry"),
        ([CircuitBreaker, lambda: Hedge(1)], "the circuit breaker stands outside of the hedge"),
        ([Retry, lambda: Fallback(value=1)], "the retry stands outside of the fallback"),
        ([lambda: Bulkhead(1), Retry], "the bulkhead stands outside of the retry"),
        ([lambda: RateLimiter(1), Retry], "the rate limiter stands outside of the retry"),
        (
            [lambda: Bulkhead(1), CircuitBreaker],
            "the bulkhead stands outside of the circuit breaker",
        ),
        (
            [Retry, lambda: Timeout(1), lambda: Bulkhead(1)],
            "the attempt timeout stands outside of the bulkhead",
        ),
        (
            [lambda: Timeout(9), lambda: Fallback(value=1), Retry],
            "the total timeout stands outside of the fallback",
        ),
        ([lambda: Hedge(1), Retry], "the hedge stands outside of the retry"),
    ],
)
def test_another_order_is_allowed_and_warned_of(stages: list[Any], said: str) -> None:
    with pytest.warns(PipelineOrderWarning, match=said) as caught:
        pipeline = Pipeline(*(make() for make in stages), name="exchange")
    assert caught[0].filename == __file__, "the warning is for who made the pipeline"
    assert "exchange" in str(caught[0].message)
    assert any(said in line for line in pipeline.validate())


def test_each_pair_out_of_order_is_told() -> None:
    with pytest.warns(PipelineOrderWarning):
        pipeline = Pipeline(Bulkhead(1), CircuitBreaker(), Retry())
    assert len(pipeline.validate()) == 3


def test_stages_work_from_the_outermost_to_the_innermost() -> None:
    order: list[str] = []

    class Tracing(Stage):
        def __init__(self, name: str) -> None:
            self.name = name

        def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
            def traced(*args: Any, **kwargs: Any) -> Any:
                order.append(f"{self.name} in")
                try:
                    return function(*args, **kwargs)
                finally:
                    order.append(f"{self.name} out")

            return traced

    assert Pipeline(Tracing("a"), Pipeline(Tracing("b"), Tracing("c"))).call(lambda: 1) == 1
    assert order == ["a in", "b in", "c in", "c out", "b out", "a out"]


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [Retry, 5, None, lambda: 1, "retry"])
def test_what_is_no_stage_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="stages"):
        Pipeline(wrong)


def test_a_stage_stands_in_it_once() -> None:
    breaker = CircuitBreaker()
    with pytest.raises(ConfigurationError, match="twice"):
        Pipeline(breaker, Bulkhead(1), breaker)
    with pytest.raises(ConfigurationError, match="twice"):
        Pipeline(Pipeline(breaker), breaker)


@pytest.mark.parametrize("inner", [10, 11])
def test_an_inner_timeout_is_shorter_than_the_outer_one(inner: float) -> None:
    with pytest.raises(ConfigurationError, match="inner timeout"):
        Pipeline(Timeout(10), Retry(), Timeout(inner))


@each(SYNC)
def test_a_generator_function_is_refused(make: Callable[[], Stage]) -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def async_numbers() -> AsyncIterator[int]:
        yield 1

    for function in (numbers, async_numbers, functools.partial(numbers)):
        for use in (make(), make().call):
            with pytest.raises(TypeError, match="generator"):
                use(function)  # type: ignore[operator]


@each(SYNC)
@pytest.mark.parametrize("wrong", [5, None, "function", property(lambda self: 1)])
def test_what_cannot_be_called_is_refused(make: Callable[[], Stage], wrong: Any) -> None:
    for use in (make(), make().call):
        with pytest.raises(TypeError, match="function"):
            use(wrong)  # type: ignore[operator]


@each([*SYNC, lambda: whole(SYNC), lambda: Pipeline(Bulkhead(1), Timeout(3))])
def test_a_sync_function_that_returns_a_coroutine_is_refused(
    make: Callable[[], Stage], unraisable: list[BaseException]
) -> None:
    """It would run outside of the stage."""

    async def later() -> str:
        return "later"

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for use in (lambda stage: stage(lambda: later())(), lambda s: s.call(lambda: later())):
            with pytest.raises(TypeError, match=r"coroutine.*call_async"):
                use(make())
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    assert unraisable == []


@each([*USUAL, lambda: whole(USUAL)])
def test_what_returns_something_to_await_is_called_as_such(make: Callable[[], Stage]) -> None:
    async def later(value: str) -> str:
        await asyncio.sleep(0)
        return value

    async def main() -> None:
        assert await make().call_async(lambda value: later(value), "x") == "x"
        assert await make().call_async(lambda: asyncio.ensure_future(later("y"))) == "y"
        assert await make().call_async(later, value="z") == "z"

    testing.run(main())


# -- ways to put one around a call ------------------------------------------------------------


class Everything:
    """Methods of all kinds."""

    value = "of the class"

    def __init__(self) -> None:
        self.value = "of the object"


def kinds(stage: Stage) -> Any:
    """The same class with each of its methods within the stage."""

    class Guarded(Everything):
        @stage
        def method(self, value: int) -> Any:
            return self.value, value

        @stage
        async def async_method(self, value: int) -> Any:
            await asyncio.sleep(0)
            return self.value, value

        @stage
        @classmethod
        def outer_class_method(cls, value: int) -> Any:
            return cls.value, value

        @classmethod
        @stage
        def inner_class_method(cls, value: int) -> Any:
            return cls.value, value

        @stage
        @staticmethod
        def outer_static_method(value: int) -> Any:
            return value

        @staticmethod
        @stage
        async def async_static_method(value: int) -> Any:
            await asyncio.sleep(0)
            return value

        @property
        @stage
        def prop(self) -> Any:
            return self.value

    return Guarded


@each([*SYNC, lambda: whole(SYNC)])
def test_methods_of_all_kinds(make: Callable[[], Stage]) -> None:
    one = kinds(make())()

    async def main() -> None:
        assert await one.async_method(value=1) == ("of the object", 1)
        assert await one.async_static_method(2) == 2

    testing.run(main())
    assert one.method(1) == ("of the object", 1)
    assert type(one).method(one, 1) == ("of the object", 1)
    assert one.outer_class_method(2) == type(one).outer_class_method(2) == ("of the class", 2)
    assert one.inner_class_method(3) == ("of the class", 3)
    assert one.outer_static_method(4) == type(one).outer_static_method(4) == 4
    assert one.prop == "of the object"
    assert make().call(Everything().__init__) is None  # type: ignore[misc]


@each([*SYNC, lambda: whole(SYNC)])
def test_callables_of_all_kinds(make: Callable[[], Stage]) -> None:
    class Adder:
        name = "adder"

        def __call__(self, a: int, b: int = 1) -> int:
            return a + b

    class AsyncAdder:
        async def __call__(self, a: int, b: int = 1) -> int:
            await asyncio.sleep(0)
            return a + b

    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    async def main() -> None:
        for function in (AsyncAdder(), functools.partial(AsyncAdder(), b=1), AsyncAdder().__call__):
            assert await make()(function)(1) == 2
        assert await make()(functools.partial(functools.partial(add, 1), b=1))() == 2

    testing.run(main())
    assert make()(Adder())(1) == 2
    assert make()(functools.partial(Adder(), 1))(b=1) == 2
    assert make()(max)(1, 2) == 2
    assert make()("-".join)(["a", "b"]) == "a-b"
    assert make().call(int, "3") == 3
    assert make().call(Mock(return_value=4)) == 4


@each([*USUAL, lambda: whole(USUAL)])
def test_a_mock_of_a_coroutine_function_is_one(make: Callable[[], Stage]) -> None:
    """Tests put it in the place of what they do not want to call."""

    async def main() -> None:
        mock = AsyncMock(return_value=5)
        guarded = make()(mock)
        assert inspect.iscoroutinefunction(guarded)
        assert await guarded(1) == 5
        mock.assert_awaited_once_with(1)

    testing.run(main())


def test_stages_may_be_stacked_as_decorators() -> None:
    clock = Clock.simulated()
    breaker = CircuitBreaker(threshold=10, clock=clock)
    calls = 0

    @Fallback(value="instead", on=OSError)
    @Retry(max_attempts=3, initial_delay=0, clock=clock)
    @breaker
    def price() -> str:
        nonlocal calls
        calls += 1
        raise OSError("x")

    assert price() == "instead"
    assert (calls, breaker.metrics()["failed"]) == (3, 3)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("between", ["a stage", "a decorator", "another breaker"])
def test_nothing_between_a_retry_and_a_breaker_is_passed_by(
    between: str, asynchronous: bool
) -> None:
    """Each decorator of a stack stands around each attempt, the first one too."""
    calls: list[str] = []
    bulkhead, outer = Bulkhead(1), CircuitBreaker("outer")

    def decorator(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper() -> Any:
            calls.append("decorator")
            return function()

        @functools.wraps(function)
        async def async_wrapper() -> Any:
            calls.append("decorator")
            return await function()

        return async_wrapper if asynchronous else wrapper

    def fail() -> None:
        calls.append(f"call, {bulkhead.running} running")
        raise OSError("x")

    async def fail_async() -> None:
        fail()

    middle: Any = {"a stage": bulkhead, "a decorator": decorator, "another breaker": outer}[between]
    guarded: Any = CircuitBreaker("inner")(fail_async if asynchronous else fail)
    guarded = Retry(max_attempts=2, initial_delay=0)(middle(guarded))

    with pytest.raises(OSError, match="x"):
        asyncio.run(guarded()) if asynchronous else guarded()
    if between == "a stage":
        assert calls == ["call, 1 running"] * 2
    elif between == "a decorator":
        assert calls == ["decorator", "call, 0 running"] * 2
    else:
        assert outer.metrics()["failed"] == 2


@pytest.mark.parametrize("make", USUAL, ids=[type(make()).__name__ for make in USUAL])
def test_attributes_of_a_function_are_its_own_affair(make: Callable[[], Stage]) -> None:
    """Whatever they are called."""

    async def price() -> str:
        await asyncio.sleep(0)
        return "ok"

    for name in ("guard", "name", "stage", "enter", "inner", "function", "limited"):
        setattr(price, name, lambda *arguments: pytest.fail("it was called"))

    async def main() -> None:
        assert await make()(price)() == "ok"

    testing.run(main())


@each([*USUAL, lambda: whole(USUAL)])
def test_what_a_call_gives_can_be_made_a_task(make: Callable[[], Stage]) -> None:
    async def price(value: str) -> str:
        await asyncio.sleep(0)
        return value

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for coroutine in (make().call(price, "x"), make()(price)("x")):
            assert inspect.iscoroutine(coroutine)
            assert await loop.create_task(coroutine) == "x"
        assert await asyncio.gather(make().call(price, "a"), make()(price)("b")) == ["a", "b"]
        assert await asyncio.wait_for(make().call(price, "c"), 1) == "c"

    testing.run(main())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_errors_notes_and_decisions_go_by_the_function_and_not_by_our_own(
    asynchronous: bool,
) -> None:
    """Whatever stands between a stage and it."""

    async def main() -> None:
        pipeline = Pipeline(Timeout(60), Retry(max_attempts=2, initial_delay=0), Bulkhead(1))

        def price() -> None:
            raise OSError("x")

        async def async_price() -> None:
            raise OSError("x")

        async def call() -> None:
            if asynchronous:
                await pipeline(async_price)()
            else:
                pipeline(price)()

        with pytest.raises(OSError, match="x") as caught:
            await call()
        (note,) = caught.value.__notes__  # type: ignore[attr-defined]
        assert "price: gave up" in note

        with pytest.raises(TimeoutExceeded, match="slow") as too_late:
            await Pipeline(Timeout(1), Retry()).call(slow)
        assert "slow" in too_late.value.context["name"]

    async def slow() -> None:
        await asyncio.sleep(3600)

    testing.run(main())


def test_an_empty_pipeline_changes_nothing() -> None:
    """All stages may be switched off in a configuration."""

    def price(symbol: str) -> str:
        """What it costs."""
        return symbol

    guarded = Pipeline()(price)
    assert guarded("x") == "x"
    assert str(inspect.signature(guarded)) == "(symbol: 'str') -> 'str'"
    assert inspect.unwrap(guarded)("y") == "y"


def test_it_knows_its_stages() -> None:
    pipeline = whole(USUAL)
    assert len(pipeline.stages) == len(USUAL)
    assert pipeline.find(CircuitBreaker) is pipeline.stages[4]
    assert pipeline.find(Timeout) is pipeline.stages[1], "the outermost"
    assert Pipeline(Retry()).find(Timeout) is None
    assert Pipeline(pipeline).stages == pipeline.stages
    assert "total timeout > retry > hedge" in repr(pipeline)


def test_a_pipeline_is_shared_by_several_functions() -> None:
    breaker = CircuitBreaker(threshold=1)
    pipeline = Pipeline(breaker)
    first, second = pipeline(lambda: 1 / 0), pipeline(lambda: 1)
    with pytest.raises(ZeroDivisionError):
        first()
    with pytest.raises(CircuitOpen):
        second()


# -- the whole --------------------------------------------------------------------------------


def test_everything_together() -> None:
    async def main() -> None:
        breaker, bulkhead = CircuitBreaker(threshold=3, reset_timeout=30), Bulkhead(2)
        pipeline = Pipeline(
            Fallback(lambda error: type(error).__name__),
            Timeout(20),
            Retry(max_attempts=3, initial_delay=1, multiplier=1, jitter="none"),
            breaker,
            RateLimiter(100),
            bulkhead,
            Timeout(2),
        )
        loop = asyncio.get_running_loop()

        @pipeline
        async def price(seconds: float) -> float:
            await asyncio.sleep(seconds)
            return seconds

        assert await price(1) == 1
        begun = loop.time()
        assert await price(3600) == "TimeoutExceeded"
        assert loop.time() - begun == pytest.approx(3 * 2 + 2)
        assert breaker.state == "open"
        assert await price(1) == "CircuitOpen"
        await asyncio.sleep(30)
        assert await price(1) == 1
        assert (breaker.state, bulkhead.running) == ("closed", 0)

    testing.run(main())


def test_everything_together_for_a_sync_function() -> None:
    clock = Clock.simulated()
    breaker, bulkhead = CircuitBreaker(threshold=3, clock=clock), Bulkhead(2, clock=clock)
    pipeline = Pipeline(
        Fallback(lambda error: type(error).__name__),
        Timeout(20, clock=clock),
        Retry(max_attempts=3, initial_delay=1, multiplier=1, jitter="none", clock=clock),
        breaker,
        RateLimiter(100, clock=clock),
        bulkhead,
        Timeout(10, clock=clock),
    )

    @pipeline
    def price(fails: bool) -> str:
        if fails:
            raise OSError("x")
        return "ok"

    assert price(False) == "ok"
    assert price(True) == "OSError"
    assert clock.monotonic() == pytest.approx(2)
    assert price(False) == "CircuitOpen"
    clock.wait(30)
    assert price(False) == "ok"
    assert (breaker.state, bulkhead.running) == ("closed", 0)


# -- blocks -----------------------------------------------------------------------------------


def test_a_block_stands_within_all_stages() -> None:
    breaker, bulkhead = CircuitBreaker(threshold=1), Bulkhead(1)
    pipeline = Pipeline(breaker, RateLimiter(3, period=3600), bulkhead)
    with pipeline as given:
        assert given is pipeline
        assert bulkhead.running == 1
    with pytest.raises(OSError, match="x"), pipeline:
        raise OSError("x")
    assert (breaker.state, bulkhead.running) == ("open", 0)
    with pytest.raises(CircuitOpen), pipeline:
        pytest.fail("it was entered")


def test_an_async_block_stands_within_all_stages() -> None:
    async def main() -> None:
        breaker, bulkhead = CircuitBreaker(threshold=1), Bulkhead(1)
        pipeline = Pipeline(breaker, bulkhead, Timeout(2))
        async with pipeline:
            await asyncio.sleep(1)
            assert bulkhead.running == 1
        with pytest.raises(TimeoutExceeded):
            async with pipeline:
                await asyncio.sleep(3600)
        assert (breaker.state, bulkhead.running) == ("open", 0)

    testing.run(main())


def test_a_total_timeout_around_a_block_holds_for_the_wait_for_a_place() -> None:
    async def main() -> None:
        breaker, bulkhead = CircuitBreaker(threshold=1), Bulkhead(1, max_waiting=1)
        pipeline = Pipeline(Timeout(2), breaker, bulkhead)
        async with bulkhead:
            with pytest.raises(TimeoutExceeded):
                async with pipeline:
                    pytest.fail("it was entered")
        assert (bulkhead.running, bulkhead.waiting) == (0, 0)
        await asyncio.sleep(10)

    testing.run(main())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_when_an_inner_stage_refuses_a_block_the_outer_ones_are_left(asynchronous: bool) -> None:
    breaker, outer, inner = CircuitBreaker(threshold=1), Bulkhead(1), Bulkhead(1)
    pipeline = Pipeline(breaker, outer, inner)

    def enter() -> None:
        with pipeline:
            pytest.fail("it was entered")

    async def enter_async() -> None:
        async with pipeline:
            pytest.fail("it was entered")

    with inner, pytest.raises(BulkheadFull):
        testing.run(enter_async()) if asynchronous else enter()
    assert (outer.running, inner.running, breaker.state) == (0, 0, "closed")


def test_a_block_that_cannot_be_entered_leaves_no_trace() -> None:
    """A timeout cannot stand around sync code: nothing else of the pipeline was used."""
    breaker, limiter = CircuitBreaker(threshold=1), RateLimiter(1, period=3600)
    pipeline = Pipeline(breaker, limiter, Timeout(1))
    with pytest.raises(TypeError, match="async with"), pipeline:
        pytest.fail("it was entered")
    assert (breaker.state, breaker.metrics()["calls"], limiter.available) == ("closed", 0, 1)


@pytest.mark.parametrize("stage", [Retry(), Hedge(1), Fallback(value=1)])
def test_a_block_cannot_be_run_again(stage: Stage) -> None:
    bulkhead = Bulkhead(1)
    pipeline = Pipeline(stage, bulkhead)

    async def enter() -> None:
        async with pipeline:
            pytest.fail("it was entered")

    with pytest.raises(TypeError, match="more than once"), pipeline:
        pytest.fail("it was entered")
    with pytest.raises(TypeError, match="more than once"):
        testing.run(enter())
    assert bulkhead.running == 0


def test_the_error_of_a_block_is_raised_as_it_is() -> None:
    error = OSError("x")
    with pytest.raises(OSError, match="x") as caught, Pipeline(CircuitBreaker(), Bulkhead(1)):
        raise error
    assert caught.value is error
    assert error.__context__ is error.__cause__ is None


def test_a_limiter_in_a_block_refuses_it() -> None:
    pipeline = Pipeline(RateLimiter(1, period=3600), Bulkhead(1))
    with pipeline:
        pass
    with pytest.raises(RateLimited), pipeline:
        pytest.fail("it was entered")
