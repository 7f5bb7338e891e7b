"""A circuit breaker around what a handler calls: the events that it refuses wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tiebeam import Component, EventBus, TransientError, subscribe
from tiebeam.resilience import CircuitBreaker, policy
from tiebeam.testing import TestBus, TestFramework

Make = Callable[..., TestFramework]


class Exchange:
    """It is there, or not."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.down = True
        self.calls: list[float] = []
        self.filled: list[int] = []

    def fill(self, number: int) -> None:
        self.calls.append(self.clock.monotonic())
        if self.down:
            raise ConnectionError("refused")
        self.filled.append(number)


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("ack", ["nack_on_error", "reject_on_error", "manual"])
async def test_no_event_is_lost_to_a_breaker(
    sync: bool, ack: Any, tiebeam_bus: TestBus, tiebeam_clock: Any
) -> None:
    exchange = Exchange(tiebeam_clock)
    breaker = CircuitBreaker("exchange", threshold=3, reset_timeout=30)
    attempts: list[tuple[int, int]] = []

    def handle(event: Any) -> None:
        attempts.append((event.payload["n"], event.retry_count))
        with breaker:
            exchange.fill(event.payload["n"])
        if ack == "manual":
            event.ack()

    async def handle_async(event: Any) -> None:
        handle(event)

    tiebeam_bus.subscribe("order", handle if sync else handle_async, ack=ack, retry=False)
    for n in range(20):
        await tiebeam_bus.publish("order", {"n": n})
    await tiebeam_bus.settle()
    # Three were tried, and failed for good; the others were none of their business.
    assert len(exchange.calls) == 3
    assert len(tiebeam_bus.dead_letters.list()) == 3
    await tiebeam_bus.advance(95)
    assert exchange.calls == [0, 0, 0, 30, 60, 90]  # a probe at a time
    exchange.down = False
    await tiebeam_bus.advance(25)
    assert exchange.filled == list(range(6, 20))
    assert {attempt for _, attempt in attempts} == {0}
    assert len(tiebeam_bus.dead_letters.list()) == 6


async def test_what_is_behind_another_breaker_goes_on(
    tiebeam_bus: TestBus, tiebeam_clock: Any
) -> None:
    venues = {name: Exchange(tiebeam_clock) for name in "ab"}
    venues["b"].down = False
    breakers = {name: CircuitBreaker(name, threshold=1, reset_timeout=10) for name in "ab"}

    @tiebeam_bus.subscribe("order", retry=False)
    async def handle(event: Any) -> None:
        venue = event.payload["venue"]
        with breakers[venue]:
            venues[venue].fill(event.payload["n"])

    for n in range(10):
        await tiebeam_bus.publish("order", {"n": n, "venue": "ab"[n % 2]})
    await tiebeam_bus.settle()
    assert venues["b"].filled == [1, 3, 5, 7, 9]
    venues["a"].down = False
    await tiebeam_bus.advance(10)
    assert venues["a"].filled == [2, 4, 6, 8]


async def test_a_fallback_takes_what_a_breaker_refuses(tiebeam_bus: TestBus) -> None:
    breaker = CircuitBreaker("exchange")
    breaker.force("forced_open")
    instead: list[int] = []

    @breaker
    async def handle(event: Any) -> None:
        raise AssertionError("never called")

    tiebeam_bus.subscribe(
        "order", handle, retry=False, fallback=lambda event: instead.append(event.payload["n"])
    )
    await tiebeam_bus.publish("order", {"n": 1})
    await tiebeam_bus.settle()
    assert instead == [1]


async def test_it_is_told_and_the_component_is_degraded_meanwhile(tiebeam_framework: Make) -> None:
    class Trader(Component):
        up = False

        @policy("exchange")
        async def fill(self) -> None:
            if not self.up:
                raise TransientError("maintenance")

        @subscribe("order", retry=False)
        async def on_order(self, event: Any) -> None:
            await self.fill()

    policies = {"exchange": {"circuit_breaker": {"threshold": 1, "reset_timeout": 20}}}
    configuration = {"error_handling": {"policies": policies}}
    async with tiebeam_framework(configuration, components=[Trader]) as framework:
        for n in range(50):
            await framework.bus.publish("order", {"n": n})
        await framework.settle()
        (waiting,) = framework.published("system.handler_waiting")
        assert waiting.payload["subscription"] == "trader.on_order"
        assert waiting.payload["component"] == "trader"
        assert waiting.payload["retry_in_ms"] == 20_000
        assert "CircuitOpen" in waiting.payload["last_error"]
        assert len(framework.published("system.error.#")) == 1  # the failure that opened it
        assert framework.status("trader")["state"] == "degraded"
        assert "events of trader.on_order wait" in str(framework.status("trader"))
        await framework.advance(50)
        assert len(framework.published("system.handler_waiting")) == 1
        assert not framework.published("system.handler_resumed")
        framework.get("trader").up = True
        await framework.advance(20)
        (resumed,) = framework.published("system.handler_resumed")
        assert resumed.payload["subscription"] == "trader.on_order"
        assert resumed.payload["component"] == "trader"
        assert framework.status("trader")["state"] == "running"
        assert framework.bus.books()["trader.on_order"].delivered == 47


async def test_one_event_tries_a_breaker_and_not_all_that_wait_for_it(
    tiebeam_bus: TestBus, tiebeam_clock: Any
) -> None:
    breakers = [CircuitBreaker(f"host {n}", threshold=1, reset_timeout=20) for n in range(40)]
    calls: list[int] = []

    @tiebeam_bus.subscribe("order", retry=False)
    async def handle(event: Any) -> None:
        calls.append(event.payload["n"])
        with breakers[event.payload["n"] % 40]:
            raise ValueError("which says nothing of the handler")

    for n in range(120):
        await tiebeam_bus.publish("order", {"n": n})
        await tiebeam_bus.advance(0.0005)  # so that no two of them open at the same moment
    assert len(calls) == 120
    await tiebeam_bus.advance(20.5)
    # Of each host one tried it, and failed; the one behind it was refused, and waits for both.
    assert len(calls) == 120 + 2 * 40
    await tiebeam_bus.advance(0.1)
    assert len(calls) == 200


async def test_a_breaker_that_says_nothing_is_tried_less_and_less_often(
    tiebeam_bus: TestBus, tiebeam_clock: Any
) -> None:
    at: list[float] = []
    breaker = CircuitBreaker("exchange")
    breaker.force("forced_open")

    @tiebeam_bus.subscribe("order")
    async def handle(event: Any) -> None:
        at.append(round(tiebeam_clock.monotonic(), 3))
        with breaker:
            pass

    await tiebeam_bus.publish("order", {})
    await tiebeam_bus.advance(100)
    assert at == [0, 1, 3, 7, 15, 31, 61, 91]


@pytest.mark.parametrize("ack", ["ack_first", "ack"])
async def test_what_is_done_after_one_attempt_does_not_wait(
    ack: Any, tiebeam_bus: TestBus, tiebeam_clock: Any
) -> None:
    at: list[float] = []
    breaker = CircuitBreaker("exchange")
    breaker.force("forced_open")

    @tiebeam_bus.subscribe("order", ack=ack)
    async def handle(event: Any) -> None:
        at.append(tiebeam_clock.monotonic())
        with breaker:
            pass

    await tiebeam_bus.publish("order", {})
    await tiebeam_bus.advance(100)
    assert at == [0]
    assert tiebeam_bus.books().total.in_flight == 0


def test_in_real_time_with_threads() -> None:
    breaker = CircuitBreaker("exchange", threshold=1, reset_timeout=0.05)
    tries: list[int] = []
    done: list[int] = []

    def handle(event: Any) -> None:
        with breaker:
            tries.append(event.payload["n"])
            if len(tries) <= 3:
                raise ConnectionError("refused")
        done.append(event.payload["n"])

    with EventBus() as bus:
        bus.subscribe("order", handle, retry=False)
        for n in range(300):
            bus.publish("order", {"n": n}).wait()
        bus.drain_sync(20.0)
        lost = len(bus.dead_letters.list())
    assert lost == 3
    assert done == tries[3:]
    assert sorted(tries) == list(range(300))
