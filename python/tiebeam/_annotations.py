"""What the annotation of a handler's parameter means, wherever the handler was written."""

from __future__ import annotations

import contextlib
import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["resolved"]


def resolved(handler: Any, annotation: Any) -> Any:
    """What an annotation means, ``None`` where it means nothing to us."""
    if annotation is inspect.Parameter.empty or annotation is Any:
        return None
    if not isinstance(annotation, str):
        return annotation
    for names in _scopes(handler):
        with contextlib.suppress(Exception):  # another scope's name, or one for type checkers
            return eval(annotation, {**names})
    return None


def _scopes(handler: Any) -> Iterator[dict[str, Any]]:
    """Where the names of an annotation may come from: the handler's module and closure, then the
    functions that are subscribing it."""
    while hasattr(handler, "func"):  # partial
        handler = handler.func
    function = inspect.unwrap(getattr(handler, "__func__", handler))
    if not isinstance(function, types.FunctionType):
        function = getattr(type(handler), "__call__", None)  # noqa: B004
    if isinstance(function, types.FunctionType):
        held = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        closure = {}
        for name, cell in held:
            with contextlib.suppress(ValueError):  # not set yet
                closure[name] = cell.cell_contents
        yield {**function.__globals__, **closure}
    here = str(Path(__file__).parent)
    frame = sys._getframe(1)
    outside = 0
    while frame is not None and outside < 4:
        if not frame.f_code.co_filename.startswith(here):
            outside += 1
            yield {**frame.f_globals, **frame.f_locals}
        frame = frame.f_back  # type: ignore[assignment]
