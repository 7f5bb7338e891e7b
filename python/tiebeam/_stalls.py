"""Where code stands that does not come back: what the core's watchdog asks the interpreter."""

from __future__ import annotations

import asyncio
import functools
import linecache
import re
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any

from tiebeam import _core
from tiebeam._logging import LOGGER

__all__ = ["chain", "find", "place", "warn"]

_DEPTH = 32
"""Frames that are told of at most, and functions that a handler is looked for in."""

_LOOPS = ("asyncio", "selectors", "uvloop", "winloop", "tiebeam")
"""Packages whose frames are those of a loop that runs something, or waits."""

_LOCKS = ("threading", "queue", "concurrent.futures._base", "multiprocessing.synchronize")
"""Modules in whose frames a thread waits for a lock, or for what is made of one."""

_LOCKING = re.compile(r"\bwith\b|\.(acquire|join|result|wait)\(")
"""A line that may wait for one."""

Place = tuple[list[str], _core.Event | None, str, bool]
"""A stack, an event, the name of a thread, and whether it looks as if it waited for a lock."""


def place(thread: int, handlers: list[Callable[..., Any]]) -> Place:
    """Where ``thread`` stands, from the frame of one of ``handlers`` inwards, and its event.

    Where the code of none is to be found, from what the thread's loop called inwards.
    """
    frames = list(_frames(sys._current_frames().get(thread)))
    codes = set(_codes(handlers))
    own = [index for index, frame in enumerate(frames) if frame.f_code in codes]
    event = next(filter(None, (_event(frames[index]) for index in own)), None)
    if own:
        frames = frames[: own[0] + 1]
    else:
        inside = next((i for i, frame in enumerate(frames) if _is_of_loop(frame)), len(frames))
        frames = frames[:inside]
    outward = frames[-_DEPTH:]
    known = threading._active.get(thread)  # type: ignore[attr-defined]
    name = known.name if known is not None else f"thread {thread}"
    stack = [_shown(frame) for frame in reversed(outward)]
    return stack, event, name, bool(frames) and _locks(frames[0])


def find(handlers: list[Callable[..., Any]]) -> tuple[int, int | None] | None:
    """The thread that runs the code of one of ``handlers``, as Python and as the system know it."""
    codes = set(_codes(handlers))
    own = threading.get_ident()
    for thread, innermost in sys._current_frames().items():
        if thread != own and any(frame.f_code in codes for frame in _frames(innermost)):
            known = threading._active.get(thread)  # type: ignore[attr-defined]
            return thread, getattr(known, "native_id", None)
    return None


def chain(task: Any, coroutine: Any) -> tuple[list[str], _core.Event | None, str]:
    """Where a task is suspended: the coroutines that await each other, in the tasks that await
    each other, the outermost first; its event; and what the last of them awaits.

    Args:
        task: The task.
        coroutine: What is suspended in it, if that is not the task's own coroutine.
    """
    steps: list[str] = []
    event: _core.Event | None = None
    awaiting = [task]
    innermost = coroutine if coroutine is not None else task.get_coro()
    while len(steps) < _DEPTH:
        for frame in _suspended(innermost):
            event = event or _event(frame)
            steps.append(_shown(frame))
        waits_for = getattr(awaiting[-1], "_fut_waiter", None)
        inner = [child for child in getattr(waits_for, "_children", ()) if not child.done()]
        if len(inner) == 1:  # of what is gathered, only this is left
            (waits_for,) = inner
        if any(waits_for is other for other in awaiting):
            others = [f"the task {other.get_name()}" for other in awaiting[1:]]
            return steps, event, " which awaits ".join([*others, "itself"])
        if not isinstance(waits_for, asyncio.Task):
            return steps, event, _named(waits_for)
        awaiting.append(waits_for)
        innermost = waits_for.get_coro()
    return steps[:_DEPTH], event, "a long chain of tasks"


def _suspended(awaitable: Any) -> Iterator[FrameType]:
    """The frames of coroutines and generators that await each other."""
    while awaitable is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(awaitable, f"{kind}_frame", None)
            if frame is not None:
                yield frame
                awaitable = getattr(awaitable, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:
            return


def _named(future: Any) -> str:
    """What is awaited, in few words."""
    if future is None:
        return "its turn of the event loop"
    if isinstance(future, asyncio.Future) and not future.done():
        return f"a {type(future).__name__} that nobody has completed"
    return f"a {type(future).__name__}"


def _locks(frame: FrameType) -> bool:
    """Whether the innermost frame of a thread looks as if it waited for a lock."""
    if frame.f_globals.get("__name__") in _LOCKS:
        return True
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    return _LOCKING.search(line) is not None


def warn(message: str, fields: dict[str, Any]) -> None:
    """Log a warning of the core with fields of its own."""
    LOGGER.warning(message, extra=fields)


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """From the innermost outwards."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _codes(handlers: list[Any]) -> Iterator[CodeType]:
    """The code of handlers and of what they wrap."""
    known = list(handlers)
    for function in known:  # grows meanwhile
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            yield code
        inner = [getattr(function, name, None) for name in ("__func__", "__wrapped__")]
        if isinstance(function, functools.partial):
            inner.append(function.func)
        elif not isinstance(code, CodeType):
            inner.append(vars(type(function)).get("__call__"))
        inner += map(_content, getattr(function, "__closure__", None) or ())
        for other in inner:
            if callable(other) and all(other is not one for one in known[:_DEPTH]):
                known.append(other)
        del known[_DEPTH:]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was put there yet
        return None


def _event(frame: FrameType) -> _core.Event | None:
    """The event that a handler was called with."""
    code, values = frame.f_code, frame.f_locals
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    found = (values.get(name) for name in names)
    return next((value for value in found if isinstance(value, _core.Event)), None)


def _is_of_loop(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _LOOPS


def _shown(frame: FrameType) -> str:
    code = frame.f_code
    name = getattr(code, "co_qualname", code.co_name).rpartition("<locals>.")[2]
    return f"{code.co_filename}:{frame.f_lineno} in {name}"
