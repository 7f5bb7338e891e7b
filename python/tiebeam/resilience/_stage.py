"""What all stages have in common: the ways to put one around a call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar, overload

from tiebeam import _core
from tiebeam.exceptions import ConfigurationError, TimeoutExceeded

__all__ = [
    "Coroutine",
    "Stage",
    "check_callable",
    "check_name",
    "checked_types",
    "is_async",
    "name_of",
    "named",
    "refuse_coroutine",
    "refuse_late",
]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

Coroutine = CoroutineType
"""What a coroutine function returns: an exact type, and so quick to tell."""


class Stage:
    """What stands around calls, as a decorator or by :meth:`call`.

    A decorated function stays what it was, sync or async; its context variables, its exceptions
    and the cancellation of its task are as without the stage. A function that is decorated with
    several stages, or with one :class:`Pipeline`, is called by the innermost.
    """

    name: str | None
    """What messages, decisions and metrics call it; some go by the function's without one."""

    def __call__(self, function: F) -> F:
        """Put this stage around ``function``: a function, method or other callable.

        Raises:
            TypeError: For what cannot be called, and for generator functions.
        """
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(self(function.__func__))
        check_callable(function)
        if is_async(function):
            wrapper = _coroutine_function(self._async(function), function)
        else:
            wrapper = self._sync(function)
        if wrapper is not function:
            functools.update_wrapper(wrapper, function)
        return wrapper  # type: ignore[return-value]

    @overload
    def call(
        self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]: ...
    @overload
    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call ``function`` within this stage; what comes back is to be awaited if it is async.

        Raises:
            TypeError: As for decorating it.
        """
        check_callable(function)
        if is_async(function):
            return _coroutine_function(self._async(function), function)(*args, **kwargs)
        return self._sync(function)(*args, **kwargs)

    async def call_async(
        self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call ``function`` within this stage, and await what it returns, a coroutine or another
        awaitable: for what :meth:`call` cannot tell from a sync function."""

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        result: T = await self._async(awaited)(*args, **kwargs)
        return result

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` within this stage."""
        raise NotImplementedError

    def _async(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        """``function``, which returns what is to be awaited, within this stage.

        What comes back returns something to be awaited, too: a coroutine costs more than a stage
        has to do that only hands on what the inner one gives.
        """
        raise NotImplementedError


def _coroutine_function(
    wrapper: Callable[..., Awaitable[Any]], function: Callable[..., Any]
) -> Callable[..., Any]:
    """``wrapper`` as what a decorated coroutine function is taken for: one of its kind."""
    if wrapper is function or inspect.iscoroutinefunction(wrapper):
        return wrapper

    async def called(*args: Any, **kwargs: Any) -> Any:
        return await wrapper(*args, **kwargs)

    return called


def named(wrapper: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """``wrapper``, which goes by the name of what it stands around: stages further out, and the
    coroutines that it makes, are called by that."""
    wrapper.__qualname__ = name_of(function)
    return wrapper  # type: ignore[no-any-return]


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling ``function`` gives a coroutine, as far as one can tell before."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function):
        return True
    if inspect.isfunction(function) or inspect.ismethod(function) or inspect.isclass(function):
        return False
    return inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def check_callable(function: Any) -> None:
    """Refuse what no stage can stand around."""
    if not callable(function):
        raise TypeError(f"a function is needed, got {type(function).__name__} {function!r:.60}")
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError(
            f"{name_of(function)} is a generator function: its body runs after the call has "
            "returned, where no stage stands around it; guard what it calls instead"
        )


def refuse_coroutine(result: Any, function: Callable[..., Any]) -> None:
    """A sync function turned out to be an async one: what it returned has not run yet."""
    result.close()
    raise TypeError(
        f"{name_of(function)} returned a coroutine, but is no coroutine function: it would run "
        "outside of the stage; write `await stage.call_async(...)`, or decorate the async function"
    )


def check_name(stage: Stage, name: Any, option: str) -> None:
    """Refuse what is no name: most likely it was meant for ``option``, or to be decorated."""
    if name is None or isinstance(name, str):
        return
    kind = type(stage).__name__
    instead = f"@{kind}()" if callable(name) else f"{kind}({option}={name!r:.60})"
    raise ConfigurationError(
        f"the first argument of {kind} is its name, got {name!r:.60}; did you mean `{instead}`?"
    )


def refuse_late(name: str | None) -> None:
    """Let nothing begin on a thread that a :class:`Timeout` has left behind: its caller has an
    error already, and counts on it that nothing happened that had not begun."""
    if _core._left_behind():
        raise TimeoutExceeded(f"{name or 'a call'}: its turn came when its time was up")


def name_of(function: Any) -> str:
    """What messages call a function."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__


def checked_types(what: str, given: Any) -> Any:
    """Exception classes, or a predicate, as they were given; ``None`` stays what it is."""
    if given is None or (callable(given) and not isinstance(given, type)):
        return given
    classes = given if isinstance(given, tuple) else tuple(given) if _is_list(given) else (given,)
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise ConfigurationError(
                f"{what} takes exception classes or a function of the exception, got {one!r}"
            )
    return classes


def _is_list(given: Any) -> bool:
    return isinstance(given, (list, set, frozenset))
