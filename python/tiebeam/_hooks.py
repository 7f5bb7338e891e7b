"""Calling users' hooks: async ones on the loop, sync ones on a thread of their own."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from tiebeam import _core

__all__ = ["call", "call_here", "call_in_thread", "is_async"]


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling ``function`` gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an instance with an async __call__
    )


async def call(
    function: Callable[..., Any], *arguments: Any, watch: _core._HookWatch | None = None
) -> Any:
    """The result of a hook, whichever kind it is, watched by ``watch``."""
    if is_async(function):
        return await _watched(function(*arguments), watch)
    result = await call_in_thread(function, *arguments, watch=watch)
    # An `async def` behind a plain decorator does not look like one.
    return await _watched(result, watch) if inspect.isawaitable(result) else result


def call_here(
    function: Callable[..., Any], *arguments: Any, watch: _core._HookWatch | None = None
) -> Any:
    """The result of a hook that is decided in one step, where it is called."""
    if watch is None:
        return function(*arguments)
    watch.step()
    try:
        return function(*arguments)
    finally:
        watch.end()


async def _watched(awaitable: Awaitable[Any], watch: _core._HookWatch | None) -> Any:
    if watch is None:
        return await awaitable
    try:
        return await _Steps(awaitable, watch)
    finally:
        watch.end()


class _Steps:
    """The steps of a hook, each of which the watchdog is told of."""

    def __init__(self, awaitable: Awaitable[Any], watch: _core._HookWatch) -> None:
        self._awaitable = awaitable
        self._steps: Any = awaitable.__await__()
        self._watch = watch
        self._task = asyncio.current_task()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self

    def __iter__(self) -> _Steps:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        self._watch.step()
        # What an awaitable gives may be a plain iterator.
        waits_for = next(self._steps) if value is None else self._steps.send(value)
        self._watch.suspend(self._task, self._awaitable)
        return waits_for

    def throw(self, *error: Any) -> Any:
        self._watch.step()
        if not hasattr(self._steps, "throw"):
            raise error[0] if len(error) == 1 else error[1] or error[0]
        waits_for = self._steps.throw(*error)
        self._watch.suspend(self._task, self._awaitable)
        return waits_for

    def close(self) -> None:
        if hasattr(self._steps, "close"):
            self._steps.close()


async def call_in_thread(
    function: Callable[..., Any], *arguments: Any, watch: _core._HookWatch | None = None
) -> Any:
    """The result of ``function``, run on a thread that nobody waits for at exit.

    The default executor's threads are joined when the interpreter ends; a hook that hangs would
    hold the process. When the caller gives up, the thread is left behind.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(value: Any, error: BaseException | None) -> None:
        if result.cancelled():
            return
        if error is None:
            result.set_result(value)
        elif isinstance(error, StopIteration):  # a future refuses to hold one
            result.set_exception(RuntimeError(f"the hook raised {error!r}"))
        else:
            result.set_exception(error)

    def work() -> None:
        value, error = None, None
        _core._join_activity()
        try:
            if watch is not None:
                watch.call()
            value = context.run(function, *arguments)
        except BaseException as raised:
            error = raised
        if watch is not None:
            watch.end()
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass
        finally:
            _core._end_activity()

    name = getattr(function, "__qualname__", "hook")
    thread = threading.Thread(target=work, name=f"tiebeam-{name}", daemon=True)
    _core._begin_activity()
    try:
        thread.start()
    except BaseException:  # no more threads
        _core._end_activity()
        raise
    return await result
