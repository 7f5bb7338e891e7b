"""The fallback: what is given instead, and where none is."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from tiebeam import CircuitOpen, ConfigurationError, testing
from tiebeam.resilience import CircuitBreaker, Fallback, Pipeline


def fail(error: BaseException) -> Any:
    raise error


async def fail_async(error: BaseException) -> Any:
    await asyncio.sleep(0)
    raise error


@pytest.fixture(params=["sync", "async"])
def through(request: pytest.FixtureRequest) -> Callable[[Fallback, BaseException], Any]:
    """Fails within a fallback, in a sync or an async function."""

    def sync(fallback: Fallback, error: BaseException) -> Any:
        return fallback.call(fail, error)

    def asynchronous(fallback: Fallback, error: BaseException) -> Any:
        async def main() -> Any:
            return await fallback.call(fail_async, error)

        return asyncio.run(main())

    return sync if request.param == "sync" else asynchronous


Through = Callable[[Fallback, BaseException], Any]


@pytest.mark.parametrize("value", [None, 0, [], "instead"])
def test_a_value_is_given_instead(through: Through, value: Any) -> None:
    assert through(Fallback(value=value), OSError("x")) is value


def test_a_handler_makes_something_of_the_error(through: Through) -> None:
    error = OSError("x")
    assert through(Fallback(lambda error: [error]), error) == [error]


def test_an_async_handler_is_awaited() -> None:
    async def instead(error: Exception) -> str:
        await asyncio.sleep(1)
        return f"instead of {error}"

    async def main() -> None:
        assert await Fallback(instead).call(fail_async, OSError("x")) == "instead of x"
        assert await Fallback(lambda e: instead(e)).call(fail_async, OSError("x"))

    testing.run(main())


def test_an_async_handler_cannot_stand_in_for_a_sync_function() -> None:
    async def instead(error: Exception) -> str:
        return "instead"

    with pytest.raises(TypeError, match=r"async handler.*fail"):
        Fallback(instead)(fail)
    with pytest.raises(TypeError, match="coroutine"):
        Fallback(lambda error: instead(error)).call(fail, OSError("x"))


def test_what_succeeds_has_its_own_result() -> None:
    result = object()
    assert Fallback(value="instead").call(lambda: result) is result


@pytest.mark.parametrize(
    "on", [ConnectionError, [ConnectionError, KeyError], lambda e: isinstance(e, ConnectionError)]
)
def test_it_is_for_what_it_was_told(through: Through, on: Any) -> None:
    fallback = Fallback(value="instead", on=on)
    assert through(fallback, CircuitOpen("x")) == "instead"
    error = OSError("x")
    with pytest.raises(OSError, match="x") as caught:
        through(fallback, error)
    assert caught.value is error
    assert error.__context__ is error.__cause__ is None


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit(), asyncio.CancelledError()]
)
def test_the_end_of_the_process_has_no_fallback(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        Fallback(value="instead").call(fail, error)
    assert caught.value is error


def test_a_cancelled_call_has_no_fallback() -> None:
    async def main() -> None:
        task = asyncio.ensure_future(Fallback(value="instead").call(asyncio.sleep, 3600))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    testing.run(main())


def test_what_the_handler_raises_has_the_error_as_its_context(through: Through) -> None:
    error = OSError("x")

    def translate(error: Exception) -> Any:
        raise LookupError("translated")

    with pytest.raises(LookupError, match="translated") as caught:
        through(Fallback(translate), error)
    assert caught.value.__context__ is error


def test_a_handler_may_raise_the_error_again(through: Through) -> None:
    error = OSError("x")
    with pytest.raises(OSError, match="x") as caught:
        through(Fallback(fail), error)
    assert caught.value is error


def test_it_needs_a_handler_or_a_value() -> None:
    with pytest.raises(ConfigurationError, match="handler or a value"):
        Fallback()
    with pytest.raises(ConfigurationError, match="handler or a value"):
        Fallback(lambda error: 1, value=None)


@pytest.mark.parametrize("handler", [5, "instead"])
def test_a_handler_is_something_to_call(handler: Any) -> None:
    with pytest.raises((ConfigurationError, TypeError)):
        Fallback(handler)


def test_it_stands_outside_of_a_breaker() -> None:
    breaker = CircuitBreaker(threshold=1)
    guarded = Pipeline(Fallback(lambda error: type(error).__name__), breaker)(fail)
    assert [guarded(OSError("x")) for _ in range(3)] == ["OSError", "CircuitOpen", "CircuitOpen"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_nothing_keeps_the_error_that_was_replaced(asynchronous: bool) -> None:
    seen: list[weakref.ref[BaseException]] = []

    class Watched(OSError):
        def __init__(self) -> None:
            super().__init__("x")
            seen.append(weakref.ref(self))

    @Fallback(value="instead")
    def sync() -> str:
        raise Watched

    @Fallback(value="instead")
    async def coroutine() -> str:
        raise Watched

    gc.collect()
    gc.disable()
    try:
        assert (asyncio.run(coroutine()) if asynchronous else sync()) == "instead"
        assert [reference() for reference in seen] == [None]
    finally:
        gc.enable()
