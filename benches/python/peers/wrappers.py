"""Breakers and retries of others around a function, each as its documentation shows it.

Breakers count five failures in a row; retries call three times, after ``OSError``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ATTEMPTS = 3
FAILURES = 5
FIRST_WAIT = 0.001

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class Way:
    """One way to put something around a function, and what that is to do there."""

    name: str
    wrap: Wrap
    breaks: bool = False
    """It stops calling after :data:`FAILURES`."""
    retries: bool = False
    """It calls again, up to :data:`ATTEMPTS` times."""
    needs: str | None = None
    share: float = 1.0


def by_hand(function: Callable[..., Any]) -> Callable[..., Any]:
    """The least that a wrapper in Python does which takes any arguments and sees failures."""
    failures = 0

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal failures
        try:
            return function(*args, **kwargs)
        except Exception:
            failures += 1
            raise

    async def guarded_async(*args: Any, **kwargs: Any) -> Any:
        nonlocal failures
        try:
            return await function(*args, **kwargs)
        except Exception:
            failures += 1
            raise

    return guarded_async if inspect.iscoroutinefunction(function) else guarded


BY_HAND = Way("a try/except by hand", by_hand)


def circuitbreaker(function: Callable[..., Any]) -> Callable[..., Any]:
    from circuitbreaker import CircuitBreaker

    return CircuitBreaker(failure_threshold=FAILURES)(function)


def purgatory(function: Callable[..., Any]) -> Callable[..., Any]:
    from purgatory import AsyncCircuitBreakerFactory, SyncCircuitBreakerFactory

    is_async = inspect.iscoroutinefunction(function)
    factory = AsyncCircuitBreakerFactory if is_async else SyncCircuitBreakerFactory
    return factory(default_threshold=FAILURES)("bench")(function)


def aiobreaker(function: Callable[..., Any]) -> Callable[..., Any]:
    from aiobreaker import CircuitBreaker

    return CircuitBreaker(fail_max=FAILURES)(function)


def pybreaker(function: Callable[..., Any]) -> Callable[..., Any]:
    from pybreaker import CircuitBreaker

    return CircuitBreaker(fail_max=FAILURES)(function)


def backoff(function: Callable[..., Any]) -> Callable[..., Any]:
    from backoff import expo, on_exception

    return on_exception(expo, OSError, max_tries=ATTEMPTS, factor=FIRST_WAIT)(function)


def stamina(function: Callable[..., Any]) -> Callable[..., Any]:
    from stamina import retry
    from stamina.instrumentation import set_on_retry_hooks

    set_on_retry_hooks(())  # it would write a line per retry
    return retry(on=OSError, attempts=ATTEMPTS, wait_initial=FIRST_WAIT, wait_jitter=0)(function)


def tenacity(function: Callable[..., Any]) -> Callable[..., Any]:
    from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

    return retry(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=FIRST_WAIT),
        retry=retry_if_exception_type(OSError),
        reraise=True,
    )(function)


BREAKERS = [
    Way("circuitbreaker", circuitbreaker, breaks=True, needs="circuitbreaker"),
    Way("purgatory", purgatory, breaks=True, needs="purgatory"),
    Way("aiobreaker", aiobreaker, breaks=True, needs="aiobreaker"),
]
"""For sync and async functions."""

SYNC_BREAKERS = [Way("pybreaker", pybreaker, breaks=True, needs="pybreaker")]
"""pybreaker's decorator takes the making of a coroutine for a success, and so never sees how it
ends; its other one is for tornado's generators, and holds a lock while they wait."""

RETRIES = [
    Way("backoff", backoff, retries=True, needs="backoff"),
    Way("stamina", stamina, retries=True, needs="stamina", share=0.2),
    Way("tenacity", tenacity, retries=True, needs="tenacity", share=0.2),
]
"""For sync and async functions."""
