"""Calling users' hooks: async ones on the loop, sync ones on a thread of their own."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from typing import Any

from tiebeam import _core

__all__ = ["call", "call_in_thread", "is_async"]


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling ``function`` gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an instance with an async __call__
    )


async def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a hook, whichever kind it is."""
    if is_async(function):
        return await function(*arguments)
    result = await call_in_thread(function, *arguments)
    # An `async def` behind a plain decorator does not look like one.
    return await result if inspect.isawaitable(result) else result


async def call_in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
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
            value = context.run(function, *arguments)
        except BaseException as raised:
            error = raised
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
