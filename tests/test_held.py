"""A breaker inside of a handler turns events away: they are held, and none is lost for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tiebeam import CircuitOpen, Component, subscribe
from tiebeam.resilience import CircuitBreaker, policy
from tiebeam.testing import TestBus, TestFramework

Make = Callable[..., TestFramework]


class Exchange:
    """A dependency that is away between two points in time."""

    def __init__(self, away: tuple[float, float]) -> None:
        self.away = away
        self.calls: list[float] = []

    async def call(self) -> None:
        now = asyncio.get_running_loop().time()
        self.calls.append(now)
        if self.away[0] <= now < self.away[1]:
            raise ConnectionRefusedError("the exchange is away")


async def test_nothing_is_lost_and_the_order_of_a_key_stays(tiebeam_bus: TestBus) -> None:
    """One event has to find out; those behind it wait until the exchange is back."""
    exchange = Exchange((0.0, 95.0))
    breaker = CircuitBreaker("exchange", threshold=1, reset_timeout=30)
    orders: list[int] = []

    @tiebeam_bus.subscribe("order.made", retry=10, key="payload.symbol")
    async def send(event: Any) -> None:
        await breaker.call(exchange.call)
        orders.append(event.payload["n"])

    for n in range(20):
        await tiebeam_bus.publish("order.made", {"n": n, "symbol": "BTC"})
    await tiebeam_bus.advance(300)
    assert orders == list(range(20))
    assert tiebeam_bus.books()["send"].delivered == 20
    assert not tiebeam_bus.dead_letters.list()
    # One call opens the breaker, and one probe per period finds the exchange away; then all go.
    assert len([at for at in exchange.calls if at < 95]) == 4
    assert len(exchange.calls) == 4 + 20


async def test_what_is_held_costs_no_attempt(tiebeam_bus: TestBus) -> None:
    breaker = CircuitBreaker("exchange", reset_timeout=60)
    breaker.force("open", wait=600)
    seen: list[int] = []

    @tiebeam_bus.subscribe("order.made", retry=1)
    async def send(event: Any) -> None:
        with breaker:
            seen.append(event.retry_count)

    await tiebeam_bus.publish("order.made", {})
    await tiebeam_bus.advance(599)
    assert seen == []
    assert not tiebeam_bus.dead_letters.list()
    await tiebeam_bus.advance(2)
    assert seen == [0]


async def test_a_forced_breaker_is_looked_at_every_second(tiebeam_bus: TestBus) -> None:
    breaker = CircuitBreaker("exchange")
    breaker.force("forced_open")
    seen: list[float] = []

    @tiebeam_bus.subscribe("order.made")
    async def send(event: Any) -> None:
        with breaker:
            seen.append(asyncio.get_running_loop().time())

    await tiebeam_bus.publish("order.made", {})
    await tiebeam_bus.advance(10)
    breaker.force("closed")
    await tiebeam_bus.advance(1.1)
    assert len(seen) == 1
    assert breaker.metrics()["rejected"] == 0  # of the state it is in now


async def test_who_wants_no_event_twice_is_told_at_once(tiebeam_bus: TestBus) -> None:
    breaker = CircuitBreaker("exchange")
    breaker.force("open", wait=600)

    @tiebeam_bus.subscribe("order.made", retry=False)
    async def send(event: Any) -> None:
        with breaker:
            raise AssertionError("the breaker is open")

    @tiebeam_bus.respond("price.wanted")
    async def price(event: Any) -> None:
        with breaker:
            raise AssertionError("the breaker is open")

    await tiebeam_bus.publish("order.made", {})
    await tiebeam_bus.settle()
    (letter,) = tiebeam_bus.dead_letters.list()
    assert letter.error_type == "CircuitOpen"
    with pytest.raises(Exception, match="circuit breaker `exchange` is open"):
        await tiebeam_bus.request("price.wanted", {})


async def test_the_component_is_degraded_meanwhile(tiebeam_framework: Make) -> None:
    exchange = Exchange((0.0, 40.0))

    class Trader(Component):
        def __init__(self) -> None:
            self.done: list[int] = []

        @policy("exchange")
        async def order(self) -> None:
            await exchange.call()

        @subscribe("order.made", retry=10)
        async def on_order(self, event: Any) -> None:
            await self.order()
            self.done.append(event.payload["n"])

    trader = Trader()
    policies = {"exchange": {"circuit_breaker": {"threshold": 1, "reset_timeout": 30}}}
    configuration = {"error_handling": {"policies": policies}}
    async with tiebeam_framework(configuration, components=[trader]) as framework:
        for n in range(5):
            await framework.bus.publish("order.made", {"n": n})
        await framework.advance(1)
        report = framework.health("trader")
        assert report["status"] == "degraded"
        assert "circuit breaker" in report["details"]["reasons"][0]
        held = framework.published("system.error.dependency")
        assert {event.payload["action"] for event in held} == {"retry", "hold"}
        await framework.advance(120)
        assert sorted(trader.done) == list(range(5))
        assert framework.health("trader")["status"] == "running"
        opened = framework.published("system.circuit_breaker.open")
        assert {event.payload.get("policy") for event in opened} == {"exchange", None}


async def test_the_error_that_held_it_is_the_breakers(tiebeam_bus: TestBus) -> None:
    """Any other exception of that name is an error like others."""

    class Other(Exception):
        pass

    Other.__name__ = CircuitOpen.__name__
    attempts: list[int] = []

    @tiebeam_bus.subscribe("order.made", retry={"max_attempts": 2, "initial_delay": 0.1})
    async def send(event: Any) -> None:
        attempts.append(event.retry_count)
        raise Other("not ours")

    await tiebeam_bus.publish("order.made", {})
    await tiebeam_bus.advance(5)
    assert attempts == [0, 1]
