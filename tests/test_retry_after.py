"""What failed says how long to wait: the next attempt of a handler goes by that."""

from __future__ import annotations

from typing import Any

import pytest
from tiebeam import TransientError
from tiebeam.resilience import CircuitBreaker, RateLimiter
from tiebeam.testing import Clock, TestBus


class Busy(TransientError):
    """A server's answer, with what it said."""

    def __init__(self, retry_after: Any) -> None:
        super().__init__("busy")
        self.retry_after = retry_after


async def attempts(bus: TestBus, clock: Clock, error: Any, **how: Any) -> list[float]:
    at: list[float] = []

    @bus.subscribe("order.made", **how)
    async def send(event: Any) -> None:
        at.append(clock.monotonic())
        raise error() if callable(error) else error

    await bus.publish("order.made", {})
    await bus.advance(1000)
    return [round(time, 3) for time in at]


async def test_the_next_attempt_waits_as_long(tiebeam_bus: TestBus, tiebeam_clock: Clock) -> None:
    assert await attempts(tiebeam_bus, tiebeam_clock, Busy(20)) == [0, 20, 40]


async def test_no_server_is_waited_for_without_end(
    tiebeam_bus: TestBus, tiebeam_clock: Clock
) -> None:
    assert await attempts(tiebeam_bus, tiebeam_clock, Busy(1e9), retry=2) == [0, 300]


@pytest.mark.parametrize("said", [None, True, -1, float("nan"), float("inf"), "soon", 10**400])
async def test_what_is_no_time_is_no_hint(
    tiebeam_bus: TestBus, tiebeam_clock: Clock, said: Any
) -> None:
    how: Any = {"retry": {"max_attempts": 2, "initial_delay": 0.5, "jitter": "none"}}
    assert await attempts(tiebeam_bus, tiebeam_clock, Busy(said), **how) == [0, 0.5]


async def test_a_property_that_fails_is_no_hint(tiebeam_bus: TestBus, tiebeam_clock: Clock) -> None:
    class Odd(TransientError):
        @property
        def retry_after(self) -> float:
            raise KeyError("Retry-After")

    how: Any = {"retry": {"max_attempts": 2, "initial_delay": 0.5, "jitter": "none"}}
    assert await attempts(tiebeam_bus, tiebeam_clock, Odd("odd"), **how) == [0, 0.5]


async def test_a_breakers_rejection_does_not_use_up_the_attempts(
    tiebeam_bus: TestBus, tiebeam_clock: Clock
) -> None:
    """The exchange is away for 20 s; every order arrives, after the breaker has found it back."""
    exchange = CircuitBreaker("exchange", threshold=1, reset_timeout=30, clock=tiebeam_clock)
    done: list[int] = []

    @tiebeam_bus.subscribe("order.made", key="payload.symbol")
    async def send(event: Any) -> None:
        with exchange:
            if tiebeam_clock.monotonic() < 20:
                raise ConnectionRefusedError("the exchange is away")
            done.append(event.payload["n"])

    for n in range(8):
        await tiebeam_bus.publish("order.made", {"n": n, "symbol": "BTC"})
    await tiebeam_bus.advance(500)
    assert done == list(range(8))
    assert not tiebeam_bus.dead_letters.list()


async def test_a_limiters_refusal_is_waited_out(tiebeam_bus: TestBus, tiebeam_clock: Clock) -> None:
    limiter = RateLimiter(1, period=10, clock=tiebeam_clock)
    done: list[float] = []

    @tiebeam_bus.subscribe("order.made")
    async def send(event: Any) -> None:
        with limiter:
            done.append(round(tiebeam_clock.monotonic()))

    for _ in range(2):
        await tiebeam_bus.publish("order.made", {})
    await tiebeam_bus.advance(30)
    assert done == [0, 10]
