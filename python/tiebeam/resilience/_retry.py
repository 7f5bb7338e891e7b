"""Trying again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Literal, TypeVar, overload

from tiebeam import _core
from tiebeam._core import Backoff, Clock, RetryBudget
from tiebeam._options import Duration
from tiebeam.exceptions import ConfigurationError
from tiebeam.resilience._breaker import NO_PERMIT, Errors, Guard
from tiebeam.resilience._course import Attempt, Course
from tiebeam.resilience._stage import (
    Coroutine,
    Stage,
    check_name,
    checked_types,
    named,
    refuse_coroutine,
    refuse_late,
)

__all__ = ["Attempt", "Retry", "retry"]

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULT: Any = object()


class Retry(Stage):
    """Calls again what failed, after a wait.

    The first call counts: ``max_attempts=3`` is at most two more. Without ``on``, transient and
    dependency errors are tried again (see :ref:`errors`), and others are not; a breaker's
    rejection is not, either. When there is no further attempt, the last error is raised as it
    is, with a note that says how many there were, and the numbers in its ``__retry__``.

    >>> @Retry("exchange", max_attempts=5, backoff=Backoff.exponential(0.2, max_delay=5))
    ... async def price(symbol): ...

    A block of code is tried again by iteration:

    >>> async for attempt in Retry("exchange"):
    ...     with attempt:
    ...         price = await fetch(symbol)
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        max_attempts: int | None = 3,
        on: Errors | None = None,
        on_result: Callable[[Any], bool] | None = None,
        initial_delay: Duration | None = None,
        multiplier: float | None = None,
        max_delay: Duration | None = None,
        jitter: Literal["full", "equal", "none"] | None = None,
        backoff: Backoff | None = None,
        max_elapsed: Duration | None = None,
        hint: Callable[[BaseException], Duration | None] | None = None,
        retry_circuit_open: bool = False,
        budget: RetryBudget | None = _DEFAULT,
        seed: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Say how often, and when.

        Args:
            name: What notes and decisions call it; the function's name unless given.
            max_attempts: The most attempts, the first call included; ``None`` leaves the end to
                ``max_elapsed``.
            on: The exceptions after which to try again, as classes or as a function that says so
                of one; by category unless given.
            on_result: Says of a result whether to try again. The last one is returned.
            initial_delay: The first wait, in seconds; 0.1. With the next three, short for
                ``backoff=Backoff.exponential(...)``.
            multiplier: Growth of the wait; 2.
            max_delay: The longest wait, in seconds; 10.
            jitter: How a wait is spread: over all of it, its upper half, or not at all; ``full``.
            backoff: The waits, where it is not an exponential.
            max_elapsed: No attempt begins so many seconds after the first one, or later.
            hint: Gives the wait, in seconds, that a server asks for with an exception; what the
                exception has as ``retry_after`` unless given. It takes the place of the
                computed one, up to the backoff's ``max_server_delay``.
            retry_circuit_open: Whether a breaker's rejection is tried again, when it may pass.
            budget: How many retries there are in total; of its own a token budget of a fifth of
                the calls and 10 a second, unless given. ``None`` sets no limit.
            seed: Repeats the jitter.
            clock: The clock it waits by; the process's unless given.

        Raises:
            ConfigurationError: For figures that make no sense, or not together.
        """
        short = {
            "initial_delay": initial_delay,
            "multiplier": multiplier,
            "max_delay": max_delay,
            "jitter": jitter,
        }
        check_name(self, name, "max_attempts")
        self.name = name
        self._options = {
            "max_attempts": max_attempts,
            "max_elapsed": max_elapsed,
            "retry_circuit_open": retry_circuit_open,
            "seed": seed,
        }
        self.backoff = _backoff(backoff, {k: v for k, v in short.items() if v is not None})
        self.budget = RetryBudget.token(clock=clock) if budget is _DEFAULT else budget
        self._on = checked_types("on", on)
        self._on_result = on_result
        self._hint = hint or _retry_after
        self._given_clock = clock
        self._clock = clock or _core._process_clock()
        self.origin = self
        self._core = self._made(None)

    def _made(self, limit: Duration | None) -> _core._Retry:
        return _core._Retry(self._options, self.backoff, self.budget, limit, self._given_clock)

    def _within(self, limit: Duration) -> Retry:
        """The same retry, of which all attempts and waits have to fit into ``limit``."""
        sibling = object.__new__(type(self))
        sibling.__dict__.update(self.__dict__)
        sibling._core = self._made(limit)
        return sibling

    # -- calls ----------------------------------------------------------------------------

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        begin, follows, wants_more = self._core.begin, self._core.follows, self._on_result

        def retrying(*args: Any, **kwargs: Any) -> Any:
            begun = begin()
            failure, result = None, None
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                failure = error
            except BaseException:
                if follows and begun is not None:
                    begun.end()
                raise
            else:
                if type(result) is Coroutine:
                    refuse_coroutine(result, function)
                if wants_more is None or not wants_more(result):
                    if follows and begun is not None:
                        begun.succeeded()
                    return result
            try:
                return self._again(Course(self, function, begun, failure, result), args, kwargs)
            finally:
                del failure  # or its traceback and this frame would keep each other

        return named(retrying, function)

    def _sync_guarded(self, function: Callable[..., Any], guard: Guard) -> Callable[..., Any]:
        """The same around a breaker around ``function``, whose part in the first attempt is played
        here: a frame less for calls that succeed at once."""
        begin, follows = self._core.begin, self._core.follows
        enter, passed, settle, breaker = guard
        again = breaker._sync(function)

        def retrying(*args: Any, **kwargs: Any) -> Any:
            begun = begin()
            permit = NO_PERMIT
            try:
                permit = enter()
                result = function(*args, **kwargs)
                if type(result) is Coroutine:
                    refuse_coroutine(result, function)
            except BaseException as error:
                settle(permit, error)
                if not isinstance(error, Exception):
                    if follows and begun is not None:
                        begun.end()
                    raise
                failure = error
            else:
                passed(permit)
                if follows and begun is not None:
                    begun.succeeded()
                return result
            try:
                return self._again(Course(self, again, begun, failure, None), args, kwargs)
            finally:
                del failure  # as above

        return named(retrying, function)

    def _async(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        begin, follows, wants_more = self._core.begin, self._core.follows, self._on_result

        async def retrying(*args: Any, **kwargs: Any) -> Any:
            begun = begin()
            failure, result = None, None
            try:
                result = await function(*args, **kwargs)
            except Exception as error:
                failure = error
            except BaseException:
                if follows and begun is not None:
                    begun.end()
                raise
            else:
                if wants_more is None or not wants_more(result):
                    if follows and begun is not None:
                        begun.succeeded()
                    return result
            try:
                course = Course(self, function, begun, failure, result)
                return await self._again_async(course, args, kwargs)
            finally:
                del failure  # as above

        return named(retrying, function)

    def _async_guarded(
        self, function: Callable[..., Awaitable[Any]], guard: Guard
    ) -> Callable[..., Any]:
        begin, follows = self._core.begin, self._core.follows
        enter, passed, settle, breaker = guard
        again = breaker._async(function)

        async def retrying(*args: Any, **kwargs: Any) -> Any:
            begun = begin()
            permit = NO_PERMIT
            try:
                permit = enter()
                result = await function(*args, **kwargs)
            except BaseException as error:
                settle(permit, error)
                if not isinstance(error, Exception):
                    if follows and begun is not None:
                        begun.end()
                    raise
                failure = error
            else:
                passed(permit)
                if follows and begun is not None:
                    begun.succeeded()
                return result
            try:
                course = Course(self, again, begun, failure, None)
                return await self._again_async(course, args, kwargs)
            finally:
                del failure  # as above

        return named(retrying, function)

    @property
    def _can_guard(self) -> bool:
        """Whether it can do a breaker's part in the first attempt."""
        return self._on_result is None

    def _again(self, course: Course, args: Any, kwargs: Any) -> Any:
        function = course.function
        try:
            while (wait := course.wait()) is not None:
                if wait > 0:
                    self._clock.wait(wait)
                refuse_late(course.name)
                try:
                    result = function(*args, **kwargs)
                except Exception as error:
                    course.failed(error)
                else:
                    if type(result) is Coroutine:
                        refuse_coroutine(result, function)
                    course.came_to(result)
            return course.end()
        finally:
            course.over()

    async def _again_async(self, course: Course, args: Any, kwargs: Any) -> Any:
        function = course.function
        try:
            while (wait := course.wait()) is not None:
                # A wait of nothing lets others run, too.
                await (self._clock.sleep(wait) if wait > 0 else asyncio.sleep(0))
                try:
                    result = await function(*args, **kwargs)
                except Exception as error:
                    course.failed(error)
                else:
                    course.came_to(result)
            return course.end()
        finally:
            course.over()

    # -- blocks ---------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Attempt]:
        """The attempts at a block of code, each to be entered by ``with``."""
        course = Course(self, None, self._core.begin(), None, None)
        while True:
            attempt = Attempt(course)
            yield attempt
            wait = attempt._wait
            if wait is None:
                return
            if wait > 0:
                self._clock.wait(wait)
            refuse_late(course.name)

    async def __aiter__(self) -> AsyncIterator[Attempt]:
        """The same in a coroutine, where waits let others run."""
        course = Course(self, None, self._core.begin(), None, None)
        while True:
            attempt = Attempt(course)
            yield attempt
            wait = attempt._wait
            if wait is None:
                return
            await (self._clock.sleep(wait) if wait > 0 else asyncio.sleep(0))

    def __repr__(self) -> str:
        attempts = self._options["max_attempts"]
        name = "" if self.name is None else f"{self.name!r} "
        return f"<Retry {name}max_attempts={attempts}, {self.backoff!r}>"


@overload
def retry(function: F, /) -> F: ...
@overload
def retry(name: str | None = None, /, **options: Any) -> Retry: ...


def retry(function: Any = None, /, **options: Any) -> Any:
    """Try again what fails: ``@retry``, or ``@retry(max_attempts=5, on=ConnectionError)``.

    Takes what :class:`Retry` takes.

    >>> @retry(max_attempts=5, initial_delay=0.2)
    ... def price(symbol): ...
    """
    if function is None or isinstance(function, str):
        return Retry(function, **options)
    if isinstance(function, type) and issubclass(function, BaseException):
        raise TypeError(f"write retry(on={function.__name__})")
    return Retry(**options)(function)


def _backoff(given: Backoff | None, short: dict[str, Any]) -> Backoff:
    if given is None:
        initial = short.pop("initial_delay", 0.1)
        multiplier = short.pop("multiplier", 2.0)
        longest = max(_core._seconds(initial, "initial_delay"), 10.0)
        return Backoff.exponential(initial, multiplier, **{"max_delay": longest, **short})
    if short:
        raise ConfigurationError(
            f"retry: `backoff` has its own {', '.join(short)}; give the one or the other",
            field="backoff",
        )
    return given


def _retry_after(error: BaseException) -> Any:
    try:
        return getattr(error, "retry_after", None)
    except Exception:
        return None  # a property that needs what this error does not have
