"""What a component's class declares: its marked methods, by what marks them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from tiebeam._added import check_function
from tiebeam.component import Component
from tiebeam.decorators import MARKS, ConfigMark, HandlerMark, check
from tiebeam.exceptions import ConfigurationError

__all__ = ["Declared", "declared"]


class Declared(NamedTuple):
    """The marked methods of one component."""

    handlers: list[tuple[Callable[..., Any], HandlerMark]]
    checks: dict[str, tuple[Callable[..., Any], check]]
    listeners: list[tuple[str, Callable[[str, Any, Any], Any]]]


def declared(component: Component) -> Declared:
    """The marked methods of ``component``, in the order of writing.

    Raises:
        ConfigurationError: For a fallback that is no method of the class.
        TypeError: For a check that takes arguments: nobody has any for it.
    """
    found = Declared([], {}, [])
    # By class; looking at the instance would run properties.
    names = {name: None for cls in reversed(type(component).__mro__) for name in vars(cls)}
    for name in names:
        attribute = inspect.getattr_static(type(component), name)
        for mark in getattr(attribute, MARKS, ()):
            method = getattr(component, name)
            if isinstance(mark, HandlerMark):
                _check_fallback(component, name, mark)
                found.handlers.append((method, mark))
            elif isinstance(mark, check):
                check_function(f"{type(component).__name__}.{name}", method)
                found.checks[name] = (method, mark)
            elif isinstance(mark, ConfigMark):
                found.listeners.append((mark.path, method))
    return found


def _check_fallback(component: Component, handler: str, mark: HandlerMark) -> None:
    fallback = mark.options.get("fallback")
    if isinstance(fallback, str) and not callable(getattr(component, fallback, None)):
        raise ConfigurationError(
            f"the fallback of {type(component).__name__}.{handler} is `{fallback}`, "
            "which is no method of that class"
        )
