"""A component that stands in for a real one."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar, cast
from unittest.mock import create_autospec

from tiebeam._injection import wanted
from tiebeam.component import Component

__all__ = ["mock_component"]

ComponentT = TypeVar("ComponentT", bound=Component)


def mock_component(kind: type[ComponentT], /) -> Any:
    """An instance of ``kind`` whose own methods are mocks, and which does nothing by itself.

    It bears the name and offers the capabilities of ``kind``, and is found and injected as one;
    it has no handlers, checks or dependencies, and is not configured. Its methods keep their
    signatures: ``async def`` ones are :class:`unittest.mock.AsyncMock`, the others
    :class:`unittest.mock.Mock`. Attributes that ``kind`` makes in its constructor are the
    test's to set.

    >>> class Prices(Component):
    ...     async def last(self, symbol): ...
    >>> prices = mock_component(Prices)
    >>> prices.last.return_value = 9.5
    """
    own = {
        "__init__": Component.__init__,
        "name": kind.name,
        "depends_on": (),
        "wants": (),
        "after": (),
        "restart": None,
        "Config": None,
        "config_schema": None,
    }
    inherited = dict.fromkeys(name for cls in kind.__mro__ for name in vars(cls))
    for name in inherited:
        method = inspect.getattr_static(kind, name)
        if name in own or name.startswith("__") or not inspect.isfunction(method):
            continue
        # Hooks and handlers of `kind` must not run; what `Component` gives goes on working.
        if hasattr(Component, name):
            own[name] = getattr(Component, name)
        else:
            own[name] = None
    mocked = type(kind.__name__, (kind,), own)
    double = cast(Any, mocked())
    for name, standing in own.items():
        if standing is None and inspect.isfunction(inspect.getattr_static(kind, name, None)):
            bound = getattr(kind, name).__get__(double)
            setattr(double, name, create_autospec(bound))
    for attribute in wanted(kind):
        setattr(double, attribute, None)  # it has no dependencies
    return double
