"""A system's named policies, around the methods of its components."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from tiebeam.resilience._stage import check_callable, is_async

__all__ = ["policy"]

F = TypeVar("F", bound=Callable[..., Any])


def policy(name: str) -> Callable[[F], F]:
    """Put the policy ``name`` of the component's system around a method.

    The policy is looked up when the method is called, under ``error_handling.policies`` of the
    configuration and in what ``Framework(policies=...)`` was given; a name that is in neither is
    a :class:`~tiebeam.ConfigurationError` there.

    >>> class Collector(Component):
    ...     @policy("exchange")
    ...     async def fetch(self, symbol): ...
    """

    def decorate(method: F) -> F:
        check_callable(method)
        within = _async(name, method) if is_async(method) else _sync(name, method)
        functools.update_wrapper(within, method)
        return within  # type: ignore[return-value]

    return decorate


def _sync(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def within(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return self.framework.policies.around(name, method)(self, *args, **kwargs)

    return within


def _async(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    async def within(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return await self.framework.policies.around(name, method)(self, *args, **kwargs)

    return within
