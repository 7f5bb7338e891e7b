"""Where code stands that does not come back: what the core's watchdog asks the interpreter.

Nothing here runs the code that it looks at: of objects, only those are taken apart whose types are
the interpreter's own. And nothing keeps a frame, or asks one for its variables: up to Python 3.12
that alone would keep alive what the code is done with.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import linecache
import re
import sys
import threading
from asyncio import tasks
from collections.abc import Callable, Iterator
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    WrapperDescriptorType,
)
from typing import Any

from tiebeam._logging import LOGGER

__all__ = ["chain", "place", "warn"]

_DEPTH = 32
"""Frames that are told of at most, and functions that a handler is looked for in."""

_LOOPS = ("asyncio", "selectors", "uvloop", "winloop", "tiebeam")
"""Packages whose frames are those of a loop that runs something, or waits."""

_LOCKS = ("threading", "queue", "concurrent.futures._base", "multiprocessing.synchronize")
"""Modules in whose frames a thread waits for a lock, or for what is made of one."""

_LOCKING = re.compile(r"\bwith\b|\.(acquire|join|result|wait)\(")
"""A line that may wait for one."""

_SUSPENDED: dict[type, tuple[str, str]] = {
    CoroutineType: ("cr_frame", "cr_await"),
    GeneratorType: ("gi_frame", "gi_yieldfrom"),
    AsyncGeneratorType: ("ag_frame", "ag_await"),
}
"""Where what can be suspended has its frame, and what it awaits."""

_BUILT_IN = (
    BuiltinFunctionType,
    MethodDescriptorType,
    MethodWrapperType,
    WrapperDescriptorType,
)
"""Callables without code that could be seen."""

_Step = tuple[CodeType, int, str]
"""A frame, without it: its code, its line, and the name of its module."""

Place = tuple[list[str], str, bool]
"""A stack, the name of a thread, and whether it looks as if it waited for a lock."""


def place(thread: int, handlers: list[Callable[..., Any]]) -> Place:
    """Where ``thread`` stands, from the frame of one of ``handlers`` inwards.

    Where the code of none is to be found, from what the thread's loop called inwards.
    """
    steps = _steps(sys._current_frames().get(thread))
    codes = set(_codes(handlers))
    own = next((index for index, (code, *_) in enumerate(steps) if code in codes), None)
    if own is not None:
        steps = steps[: own + 1]
    else:
        inside = (i for i, (*_, module) in enumerate(steps) if _is_of_loop(module))
        steps = steps[: next(inside, len(steps))]
    stack = [_shown(code, line) for code, line, _ in reversed(steps[-_DEPTH:])]
    return stack, _name_of(thread), bool(steps) and _locks(*steps[0])


def _name_of(thread: int) -> str:
    known = threading._active.get(thread)  # type: ignore[attr-defined]
    name = inspect.getattr_static(known, "_name", None)
    return _plain(name) if type(name) is str else f"thread {thread}"


def chain(task: Any, coroutine: Any) -> tuple[list[str], str]:
    """Where a task is suspended: the coroutines that await each other, in the tasks that await
    each other, the outermost first; and what the last of them awaits.

    Args:
        task: The task.
        coroutine: What is suspended in it, if that is not the task's own coroutine.
    """
    steps: list[str] = []
    awaiting = [task]
    innermost = coroutine if coroutine is not None else _coroutine_of(task)
    while len(steps) < _DEPTH:
        steps += _suspended(innermost)
        waits_for = _waits_for(awaiting[-1])
        if any(waits_for is other for other in awaiting):
            others = [f"the task {_plain(asyncio.Task.get_name(other))}" for other in awaiting[1:]]
            return steps, " which awaits ".join([*others, "itself"])
        if not _is(waits_for, asyncio.Task):
            return steps, _named(waits_for)
        awaiting.append(waits_for)
        innermost = _coroutine_of(waits_for)
    return steps[:_DEPTH], "a long chain of tasks"


def _coroutine_of(task: Any) -> Any:
    return asyncio.Task.get_coro(task) if _is(task, asyncio.Task) else None


def _waits_for(task: Any) -> Any:
    if not _is(task, asyncio.Task):
        return None
    waits_for: Any = getattr(task, "_fut_waiter", None)
    if type(waits_for) is tasks._GatheringFuture:  # type: ignore[attr-defined]
        children = [child for child in waits_for._children if _is(child, asyncio.Future)]
        left = [child for child in children if not asyncio.Future.done(child)]
        if len(left) == 1:  # of what is gathered, only this is left
            return left[0]
    return waits_for


def _suspended(awaitable: Any) -> Iterator[str]:
    """Where coroutines and generators stand that await each other."""
    while type(awaitable) in _SUSPENDED:
        has_frame, awaits = _SUSPENDED[type(awaitable)]
        frame = getattr(awaitable, has_frame)
        if frame is None:
            return
        yield _shown(frame.f_code, frame.f_lineno)
        del frame
        awaitable = getattr(awaitable, awaits)


def _is(found: Any, kind: type) -> bool:
    """As ``isinstance``, which asks the object itself what its class is."""
    return issubclass(type(found), kind)


def _named(future: Any) -> str:
    """What is awaited, in few words."""
    if future is None:
        return "its turn of the event loop"
    kind = type(future).__name__
    if _is(future, asyncio.Future) and not asyncio.Future.done(future):
        return f"a {kind} that nobody has completed"
    return f"a {kind}"


def _locks(code: CodeType, line: int, module: str) -> bool:
    """Whether the innermost frame of a thread looks as if it waited for a lock."""
    if module in _LOCKS:
        return True
    return _LOCKING.search(linecache.getline(code.co_filename, line)) is not None


def warn(message: str, fields: dict[str, Any]) -> None:
    """Log a warning of the core with fields of its own."""
    LOGGER.warning(message, extra=fields)


def _steps(frame: FrameType | None) -> list[_Step]:
    """From the innermost outwards."""
    steps: list[_Step] = []
    while frame is not None:
        module = dict.get(frame.f_globals, "__name__")
        steps.append((frame.f_code, frame.f_lineno, module if type(module) is str else ""))
        frame = frame.f_back
    return steps


def _codes(handlers: list[Any]) -> Iterator[CodeType]:
    """The code of handlers and of what they wrap."""
    known = list(handlers)
    for one in known:  # grows meanwhile
        kind = type(one)
        inner: list[Any] = []
        if kind is FunctionType:
            yield one.__code__
            inner = [vars(one).get("__wrapped__"), *map(_content, one.__closure__ or ())]
        elif kind is MethodType:
            inner = [one.__func__]
        elif issubclass(kind, functools.partial):
            inner = [functools.partial.func.__get__(one)]
        elif not issubclass(kind, type):
            names = ((kind, "__call__"), (one, "__wrapped__"))
            inner = [inspect.getattr_static(of, name, None) for of, name in names]
        for other in inner:
            if _is_walked(other) and all(other is not seen for seen in known):
                known.append(other)
        del known[_DEPTH:]


def _is_walked(found: Any) -> bool:
    """Whether it may have code, or lead to some."""
    kind = type(found)
    return callable(found) and kind not in _BUILT_IN and not issubclass(kind, type)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was put there yet
        return None


def _is_of_loop(module: str) -> bool:
    return module.partition(".")[0] in _LOOPS


def _shown(code: CodeType, line: int) -> str:
    name = getattr(code, "co_qualname", code.co_name).rpartition("<locals>.")[2]
    return _plain(f"{code.co_filename}:{line} in {name}")


def _plain(text: str) -> str:
    """As the core can have it: a path need not be UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
