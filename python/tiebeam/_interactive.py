"""In a notebook, what a cell defines anew takes the place of what it defined before.

A cell is run again after its function or class was changed. Without this, the old handler would
go on beside the new one, and the old system beside the new one. Nothing of it happens in a script.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

if TYPE_CHECKING:
    from tiebeam._core import EventBus
    from tiebeam.framework import Framework

__all__ = ["remember", "replace_handler", "replace_system"]

_HANDLERS: WeakKeyDictionary[EventBus, dict[tuple[str, str, str], list[tuple[Any, Any]]]] = (
    WeakKeyDictionary()
)
_SYSTEMS: WeakSet[Framework] = WeakSet()


def _in_a_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def _name_in_a_cell(handler: object) -> str | None:
    """The name under which a cell defined ``handler``; lambdas and inner functions have none."""
    if not isinstance(handler, FunctionType) or handler.__module__ != "__main__":
        return None
    return handler.__name__ if handler.__qualname__.isidentifier() else None


def replace_handler(bus: EventBus, role: str, pattern: str, handler: object) -> None:
    """End the subscriptions of an earlier definition of ``handler``."""
    name = _name_in_a_cell(handler)
    if name is None or not _in_a_notebook():
        return
    kept = _HANDLERS.get(bus, {}).get((role, pattern, name), [])
    for other, subscription in kept:
        if other is not handler:
            subscription.cancel()
    kept[:] = [(other, subscription) for other, subscription in kept if other is handler]


def remember(bus: EventBus, role: str, pattern: str, handler: object, subscription: Any) -> None:
    """Note a subscription that a later definition of ``handler`` is to replace."""
    name = _name_in_a_cell(handler)
    if name is not None and _in_a_notebook():
        handlers = _HANDLERS.setdefault(bus, {})
        handlers.setdefault((role, pattern, name), []).append((handler, subscription))


async def replace_system(framework: Framework) -> None:
    """Stop the systems that have the same name and components of the same names."""
    if not _in_a_notebook():
        return
    for other in list(_SYSTEMS):
        if (
            other is not framework
            and other.state == "running"
            and other.configuration["system.name"] == framework.configuration["system.name"]
            and other.components.keys() == framework.components.keys()
        ):
            await other.stop()
    _SYSTEMS.add(framework)
