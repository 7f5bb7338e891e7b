"""What keeps one failure from becoming many, around any call: retry, circuit breaker, timeout,
bulkhead, rate limiter, fallback, hedge.

>>> exchange = Pipeline(Timeout(10), Retry(), CircuitBreaker("exchange"), Timeout(2))
>>> @exchange
... async def price(symbol): ...

Each is a decorator for sync and async functions, and ``exchange.call(function, ...)``; those that
call once stand around a block of code, too, by ``with`` or ``async with``.
"""

from tiebeam._core import Backoff, RetryBudget
from tiebeam.resilience._breaker import CircuitBreaker
from tiebeam.resilience._bulkhead import Bulkhead
from tiebeam.resilience._course import Attempt
from tiebeam.resilience._decisions import Decision, counts, listen
from tiebeam.resilience._fallback import Fallback
from tiebeam.resilience._hedge import Hedge
from tiebeam.resilience._limiter import RateLimiter
from tiebeam.resilience._named import policy
from tiebeam.resilience._pipeline import Pipeline, PipelineOrderWarning
from tiebeam.resilience._retry import Retry, retry
from tiebeam.resilience._stage import Stage
from tiebeam.resilience._switch import inactive, is_active, set_active
from tiebeam.resilience._timeout import Timeout

__all__ = [
    "Attempt",
    "Backoff",
    "Bulkhead",
    "CircuitBreaker",
    "Decision",
    "Fallback",
    "Hedge",
    "Pipeline",
    "PipelineOrderWarning",
    "RateLimiter",
    "Retry",
    "RetryBudget",
    "Stage",
    "Timeout",
    "counts",
    "inactive",
    "is_active",
    "listen",
    "policy",
    "retry",
    "set_active",
]
