"""A function within stages is as without them: context, exceptions, tracebacks, signature."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import pickle
import sys
import traceback
import typing
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from tiebeam import testing
from tiebeam.resilience import (
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Hedge,
    Pipeline,
    RateLimiter,
    Retry,
    Stage,
    Timeout,
)

Make = Callable[[], Stage]

SYNC: dict[str, Make] = {
    "retry": lambda: Retry(initial_delay=0),
    "breaker": lambda: CircuitBreaker(),
    "timeout": lambda: Timeout(60),
    "bulkhead": lambda: Bulkhead(8),
    "limiter": lambda: RateLimiter(1000),
    "fallback": lambda: Fallback(value="instead", on=ZeroDivisionError),
    "pipeline": lambda: Pipeline(
        Fallback(value="instead", on=ZeroDivisionError),
        Timeout(60),
        Retry(initial_delay=0),
        CircuitBreaker(),
        RateLimiter(1000),
        Bulkhead(8),
        Timeout(30),
    ),
    "empty pipeline": lambda: Pipeline(),
}
ASYNC: dict[str, Make] = {**SYNC, "hedge": lambda: Hedge(30)}

each_sync = pytest.mark.parametrize("make", SYNC.values(), ids=SYNC)
each_async = pytest.mark.parametrize("make", ASYNC.values(), ids=ASYNC)
each_block = pytest.mark.parametrize(
    "make", [SYNC[name] for name in ("breaker", "bulkhead", "limiter")]
)
"""The stages that may stand around a sync block."""

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


# -- context variables ------------------------------------------------------------------------


@each_sync
def test_context_variables_of_a_function(make: Make) -> None:
    def work() -> str:
        before = variable.get()
        variable.set("set inside")
        return before

    def scenario() -> None:
        variable.set("set outside")
        assert make()(work)() == "set outside"
        assert variable.get() == "set inside"

    contextvars.Context().run(scenario)


@each_async
def test_context_variables_of_a_coroutine(make: Make) -> None:
    async def work() -> str:
        before = variable.get()
        await asyncio.sleep(0)
        variable.set("set inside")
        return before

    async def main() -> None:
        variable.set("set outside")
        assert await make()(work)() == "set outside"
        assert variable.get() == "set inside"

    testing.run(main())


@each_async
def test_context_variables_of_a_coroutine_that_fails(make: Make) -> None:
    async def work() -> None:
        variable.set("set inside")
        await asyncio.sleep(0)
        raise KeyError("x")

    async def main() -> None:
        with pytest.raises(KeyError):
            await make()(work)()
        assert variable.get() == "set inside"

    testing.run(main())


@pytest.mark.parametrize(
    "make", [SYNC[name] for name in ("retry", "breaker", "bulkhead", "limiter", "fallback")]
)
def test_a_token_of_the_caller_is_good_inside(make: Make) -> None:
    """A function may take back what its caller has set, unless it runs on a thread of its own."""

    def scenario() -> None:
        token = variable.set("for a while")
        make()(lambda: variable.reset(token))()
        assert variable.get() == "unset"

    contextvars.Context().run(scenario)


@each_block
def test_context_variables_of_a_block(make: Make) -> None:
    stage: Any = make()

    def scenario() -> None:
        with stage:
            variable.set("set inside")
        assert variable.get() == "set inside"

    contextvars.Context().run(scenario)


# -- exceptions -------------------------------------------------------------------------------


def user_code(error: BaseException) -> None:
    raise error


async def user_coroutine(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


@each_sync
def test_an_exception_is_the_very_one_and_has_no_others_behind_it(make: Make) -> None:
    error = KeyError("x")
    with pytest.raises(KeyError) as caught:
        make()(user_code)(error)
    assert caught.value is error
    assert error.__context__ is error.__cause__ is None
    assert not error.__suppress_context__
    assert not getattr(error, "__notes__", [])
    frames = traceback.extract_tb(error.__traceback__)
    assert (frames[-1].name, frames[-1].filename) == ("user_code", __file__)
    assert frames[0].name == test_an_exception_is_the_very_one_and_has_no_others_behind_it.__name__


@each_async
def test_an_exception_of_a_coroutine_is_the_very_one(make: Make) -> None:
    error = KeyError("x")

    async def main() -> None:
        with pytest.raises(KeyError) as caught:
            await make()(user_coroutine)(error)
        assert caught.value is error

    testing.run(main())
    assert error.__context__ is error.__cause__ is None
    assert not getattr(error, "__notes__", [])
    frames = traceback.extract_tb(error.__traceback__)
    assert (frames[-1].name, frames[-1].filename) == ("user_coroutine", __file__)
    assert "main" in [frame.name for frame in frames]


@each_sync
def test_a_chain_stays_as_it_is(make: Make) -> None:
    cause, context = OSError("cause"), LookupError("context")

    def chained() -> None:
        try:
            raise context
        except LookupError:
            raise KeyError("x") from cause

    with pytest.raises(KeyError) as caught:
        make()(chained)()
    assert (caught.value.__cause__, caught.value.__context__) == (cause, context)


@each_sync
@pytest.mark.parametrize(
    "error",
    [
        StopIteration("value"),
        StopAsyncIteration(),
        GeneratorExit(),
        SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError("of the function"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_that_steer_pass_through(make: Make, error: BaseException) -> None:
    calls = 0

    def steer() -> None:
        nonlocal calls
        calls += 1
        raise error

    with pytest.raises(type(error)) as caught:
        make()(steer)()
    assert caught.value is error
    assert calls == 1, "what steers is no failure that another attempt would mend"


@each_sync
def test_the_end_of_an_iterator_is_no_failure(make: Make) -> None:
    numbers = iter([1, 2])
    following = make()(lambda: next(numbers))
    assert [following(), following()] == [1, 2]
    with pytest.raises(StopIteration):
        following()


@each_async
@pytest.mark.parametrize(
    "error", [StopAsyncIteration(), asyncio.CancelledError("x")], ids=["StopAsync", "Cancelled"]
)
def test_exceptions_that_steer_coroutines_pass_through(make: Make, error: BaseException) -> None:
    async def main() -> None:
        stage = make()
        with pytest.raises(type(error)) as caught:
            await stage(user_coroutine)(error)
        # Up to 3.10 a task that was cancelled makes a new exception of it.
        anew = isinstance(stage, Hedge) and sys.version_info < (3, 11)
        assert caught.value is error or anew

    testing.run(main())


@each_sync
def test_an_exception_inside_an_except_block_has_the_context_of_the_caller(make: Make) -> None:
    outer, inner = LookupError("outer"), KeyError("inner")

    def handle() -> None:
        try:
            raise outer
        except LookupError:
            make()(user_code)(inner)

    with pytest.raises(KeyError):
        handle()
    assert inner.__context__ is outer


@pytest.mark.parametrize("asynchronous", [False, True])
@each_sync
def test_nothing_keeps_what_a_failed_call_held(make: Make, asynchronous: bool) -> None:
    """When the exception is gone, so is what its frames held, without the collector."""

    class Resource:
        pass

    seen: list[weakref.ref[Resource]] = []

    def fail() -> None:
        resource = Resource()
        seen.append(weakref.ref(resource))
        raise KeyError("x")

    async def fail_async() -> None:
        await asyncio.sleep(0)
        fail()

    async def main() -> None:
        with contextlib.suppress(KeyError):
            await make()(fail_async)()
        assert [reference() for reference in seen] == [None]

    def sync() -> None:
        with contextlib.suppress(KeyError):
            make()(fail)()
        assert [reference() for reference in seen] == [None]

    gc.collect()
    gc.disable()
    try:
        if asynchronous:
            testing.run(main())
        else:
            sync()
    finally:
        gc.enable()


# -- cancellation -----------------------------------------------------------------------------


@each_async
def test_a_cancellation_reaches_the_function_and_the_caller(make: Make) -> None:
    async def main() -> None:
        seen: list[Any] = []

        async def slow() -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError as error:
                seen.append(error.args)
                raise

        task = asyncio.ensure_future(make()(slow)())
        await asyncio.sleep(1)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert task.cancelled()
        assert seen == [("enough",)]

    testing.run(main())


@each_sync
def test_a_function_may_swallow_a_cancellation(make: Make) -> None:
    async def main() -> None:
        async def stubborn() -> str:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                return "what there was"
            return "all"

        task = asyncio.ensure_future(make()(stubborn)())
        await asyncio.sleep(1)
        task.cancel()
        assert await task == "what there was"

    testing.run(main())


@each_sync
def test_the_function_runs_in_the_callers_task(make: Make) -> None:
    async def main() -> None:
        async def which() -> Any:
            await asyncio.sleep(0)
            return asyncio.current_task()

        assert await make()(which)() is asyncio.current_task()

    testing.run(main())


@each_async
def test_a_coroutine_that_is_never_awaited_is_told_of(make: Make) -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    with pytest.warns(RuntimeWarning, match="never awaited"):
        make()(work)()


# -- what one sees of the function ------------------------------------------------------------


@pytest.fixture
def documented() -> Callable[..., Any]:
    """A function of which one may see a good deal."""

    def documented(a: int, /, b: str = "b", *rest: float, c: bytes = b"", **more: Any) -> list[int]:
        """Says what it does."""
        return [a]

    documented.attribute = "mine"  # type: ignore[attr-defined]
    return documented


@pytest.fixture
def documented_coroutine() -> Callable[..., Any]:
    async def documented_coroutine(a: int, *, b: str = "b") -> list[int]:
        """Says what it does, too."""
        return [a]

    return documented_coroutine


@each_sync
def test_name_documentation_and_signature_stay(make: Make, documented: Callable[..., Any]) -> None:
    signature, hints = inspect.signature(documented), typing.get_type_hints(documented)
    guarded = make()(documented)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(guarded, name) == getattr(documented, name)
    assert guarded.attribute == "mine"  # type: ignore[attr-defined]
    assert inspect.signature(guarded) == signature
    assert typing.get_type_hints(guarded) == hints
    assert inspect.unwrap(guarded) is documented
    assert not inspect.iscoroutinefunction(guarded)


@each_async
def test_a_coroutine_function_stays_one(
    make: Make, documented_coroutine: Callable[..., Any]
) -> None:
    signature = inspect.signature(documented_coroutine)
    guarded = make()(documented_coroutine)
    assert inspect.iscoroutinefunction(guarded)
    assert guarded.__qualname__ == documented_coroutine.__qualname__
    assert guarded.__doc__ == documented_coroutine.__doc__
    assert inspect.signature(guarded) == signature
    coroutine = guarded(1)
    assert inspect.iscoroutine(coroutine)
    coroutine.close()


@each_sync
def test_the_function_itself_is_left_alone(make: Make) -> None:
    def plain() -> None: ...

    before = dict(vars(plain))
    guarded = make()(plain)
    assert dict(vars(plain)) == before
    if guarded is not plain:  # without a stage, it may be
        guarded.attribute = 1  # type: ignore[attr-defined]
        assert not hasattr(plain, "attribute")


@Retry()
@CircuitBreaker()
@Bulkhead(1)
def at_the_top(value: int) -> int:
    return value


def test_a_decorated_function_can_be_pickled() -> None:
    """By its name, as every function: for a pool of processes."""
    assert pickle.loads(pickle.dumps(at_the_top)) is at_the_top


@each_sync
def test_arguments_and_results_are_the_very_objects(make: Make) -> None:
    given, result = object(), object()
    seen: list[Any] = []

    def work(*arguments: Any, **keywords: Any) -> Any:
        seen.append((arguments, keywords))
        return result

    assert make()(work)(given, self=1, function=2, args=3, kwargs=given) is result
    assert seen[0][0][0] is seen[0][1]["kwargs"] is given
    assert seen[0][1].keys() == {"self", "function", "args", "kwargs"}
    assert make().call(work, given, self=1, function=2) is result


@each_sync
def test_wrong_arguments_are_told_as_ever(make: Make, documented: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        make()(documented)()


@each_async
def test_wrong_arguments_of_a_coroutine_function_are_told_as_ever(
    make: Make, documented_coroutine: Callable[..., Any]
) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
            await make()(documented_coroutine)()

    testing.run(main())


@each_sync
def test_recursion_goes_as_deep_as_one_wants(make: Make) -> None:
    stage = make()

    @stage
    def down(depth: int) -> int:
        return 0 if depth == 0 else 1 + down(depth - 1)

    assert down(5) == 5
