"""Where a thread stands, for the core's warnings of handlers that block their event loop."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any

from tiebeam import _core
from tiebeam._logging import LOGGER

__all__ = ["place", "warn"]

_DEPTH = 32
"""Frames that are told of at most, and functions that a handler is looked for in."""

_LOOPS = ("asyncio", "selectors", "uvloop", "winloop", "tiebeam")
"""Packages whose frames are those of a loop that runs something, or waits."""


def place(thread: int, handlers: list[Callable[..., Any]]) -> tuple[list[str], _core.Event | None]:
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
    return [_shown(frame) for frame in reversed(outward)], event


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
