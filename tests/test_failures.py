"""Whatever fails, fails alone: the rest runs on, and what was lost can be found."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import (
    Component,
    ConfigurationError,
    DependencyError,
    Event,
    Framework,
    InternalError,
    PermanentError,
    TransientError,
    subscribe,
)
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]

ONCE = {"error_handling": {"retry": {"enabled": False}, "circuit_breaker": {"enabled": False}}}
"""Each failure is the last word on its event."""


class Good(Component):
    """Works."""

    def __init__(self) -> None:
        self.done: list[int] = []

    @subscribe("work.item")
    async def work(self, event: Event) -> None:
        self.done.append(event.payload["n"])


class EveryThird(Component):
    """Raises on every third event."""

    def __init__(self) -> None:
        self.done: list[int] = []

    @subscribe("work.item")
    async def work(self, event: Event) -> None:
        if event.payload["n"] % 3 == 0:
            raise PermanentError(f"item {event.payload['n']} is broken")
        self.done.append(event.payload["n"])


class Hangs(Component):
    """Never returns from every fourth event."""

    def __init__(self) -> None:
        self.done: list[int] = []

    @subscribe("work.item", timeout=0.5, retry=False)
    async def work(self, event: Event) -> None:
        if event.payload["n"] % 4 == 0:
            await asyncio.Event().wait()
        self.done.append(event.payload["n"])


async def test_the_rest_runs_on_beside_one_that_fails_and_one_that_hangs(
    tiebeam_framework: Make,
) -> None:
    good, third, hangs = Good(), EveryThird(), Hangs()
    async with tiebeam_framework(ONCE, components=[good, third, hangs]) as framework:
        for n in range(12):
            await framework.bus.publish("work.item", {"n": n})
        await framework.advance(10)
        assert good.done == list(range(12))
        assert third.done == [n for n in range(12) if n % 3]
        assert hangs.done == [n for n in range(12) if n % 4]
        # Dead letters hold exactly what failed, and why.
        letters = framework.dead_letters
        lost = [
            letter.event.payload["n"] for letter in letters.list(subscription="every_third.work")
        ]
        assert lost == [0, 3, 6, 9]
        lost = [letter.event.payload["n"] for letter in letters.list(subscription="hangs.work")]
        assert lost == [0, 4, 8]
        assert len(letters) == 7
        first = letters.list(subscription="every_third.work")[0]
        assert (first.component, first.category) == ("every_third", "permanent")
        assert (first.error_type, first.message) == ("PermanentError", "item 0 is broken")
        assert first.reason == "no_retry"
        assert first.traceback is not None
        assert "in work" in first.traceback
        assert 'raise PermanentError(f"item' in first.traceback
        timed_out = letters.list(subscription="hangs.work")[0]
        assert (timed_out.error_type, timed_out.category) == ("TimeoutError", "transient")
        assert "hangs.work" in timed_out.message
        # Health says who, and why.
        health = framework.health()
        verdicts = {c["component_id"]: c["health"] for c in health["components"]}
        assert verdicts == {"good": "pass", "every_third": "warn", "hangs": "warn"}
        assert health["status"] == "warn"
        (reason,) = framework.health("every_third")["details"]["reasons"]
        assert "item 9 is broken" in reason
        assert framework.health("good")["metrics"]["errors_encountered"] == 0
        assert framework.health("every_third")["metrics"]["errors_encountered"] == 4
        assert framework.bus.books().balanced


async def test_the_health_of_a_loss_is_told_and_passes(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(ONCE, components=[EveryThird]) as framework:
        await framework.bus.publish("work.item", {"n": 3})
        await framework.advance(100)
        told = [e.payload for e in framework.published("system.health.changed")]
        assert [change["to"] for change in told] == ["pass", "warn", "pass"]
        assert "item 3 is broken" in told[1]["reasons"][0]
        assert framework.health("every_third")["health"] == "pass"


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets go of sync handlers that hang."""
    release = threading.Event()
    yield release
    release.set()


def test_a_sync_handler_that_hangs_is_left_behind(run: Any, release: threading.Event) -> None:
    class Stuck(Component):
        done: list[int] = []

        @subscribe("work.item", timeout=0.05, retry=False)
        def work(self, event: Event) -> None:
            if event.payload["n"] == 0:
                release.wait(GUARD)
            self.done.append(event.payload["n"])

    async def main() -> None:
        good = Good()
        quiet = {"logging": {"console": False}}
        async with Framework(quiet, components=[good, Stuck]) as framework:
            for n in range(5):
                await framework.bus.publish("work.item", {"n": n})
            await framework.bus.drain()
            assert good.done == [0, 1, 2, 3, 4]
            assert Stuck.done == [1, 2, 3, 4]
            (letter,) = framework.bus.dead_letters.list()
            assert (letter.subscription, letter.error_type) == ("stuck.work", "TimeoutError")
            assert framework.bus.books().abandoned_threads == 1
            assert framework.health("stuck")["health"] == "warn"

    run(main())


class Raises(Component):
    """Raises what it is told to."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    @subscribe("work.item")
    async def work(self, _event: Event) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "category", "attempts"),
    [
        (TransientError("x"), "transient", 3),
        (PermanentError("x"), "permanent", 1),
        (ConfigurationError("x"), "configuration", 1),
        (DependencyError("x"), "dependency", 3),
        (InternalError("x"), "internal", 1),
        (ConnectionRefusedError("x"), "dependency", 3),
        (ConnectionResetError("x"), "transient", 3),
        (TimeoutError("x"), "transient", 3),
        (OSError("x"), "transient", 3),
        (ValueError("x"), "permanent", 1),
        (KeyError("x"), "permanent", 1),
        (TypeError("x"), "permanent", 1),
        (AttributeError("x"), "internal", 1),
        (NameError("x"), "internal", 1),
        (AssertionError("x"), "internal", 1),
        (RuntimeError("x"), "transient", 3),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_each_failed_attempt_is_an_error_event(
    tiebeam_framework: Make, error: Exception, category: str, attempts: int
) -> None:
    async with tiebeam_framework(components=[Raises(error)]) as framework:
        await framework.bus.publish("work.item", {"n": 1}, correlation_id="order_7")
        await framework.advance(20)
        (item,) = framework.published("work.item")
        events = framework.published("system.error.*")
        assert [event.event_type for event in events] == [f"system.error.{category}"] * attempts
        assert [event.payload["attempt"] for event in events] == list(range(1, attempts + 1))
        assert [event.payload["final"] for event in events] == [False] * (attempts - 1) + [True]
        last = events[-1].payload
        assert last["component"] == "raises"
        assert last["subscription"] == "raises.work"
        assert (last["event_id"], last["event_type"]) == (item.event_id, "work.item")
        assert last["correlation_id"] == events[-1].correlation_id == "order_7"
        assert last["error_type"] == type(error).__name__
        assert "in work" in last["traceback"]
        (letter,) = framework.dead_letters.list()
        assert (letter.category, letter.attempts) == (category, attempts)


@pytest.mark.parametrize(
    ("error", "priority", "reason"),
    [
        (ConfigurationError("x"), "normal", "configuration_error"),
        (AssertionError("x"), "normal", "internal_error"),
        (ValueError("x"), "critical", "critical_event_lost"),
        (ValueError("x"), "high", None),
    ],
)
async def test_critical_errors_raise_an_alert(
    tiebeam_framework: Make, error: Exception, priority: str, reason: str | None
) -> None:
    async with tiebeam_framework(components=[Raises(error)]) as framework:
        await framework.bus.publish("work.item", priority=priority)
        await framework.settle()
        alerts = [event.payload for event in framework.published("system.alert")]
        assert [alert["reason"] for alert in alerts] == ([reason] if reason else [])
        if alerts:
            assert (alerts[0]["component"], alerts[0]["error_type"]) == (
                "raises",
                type(error).__name__,
            )


async def test_an_open_breaker_holds_events_back_and_burns_none(tiebeam_framework: Make) -> None:
    class Fragile(Component):
        broken = True
        done: list[int] = []

        @subscribe("work.item")
        async def work(self, event: Event) -> None:
            if self.broken:
                raise ConnectionRefusedError("no database")
            self.done.append(event.payload["n"])

    values = {"error_handling": {"retry": {"enabled": False}}}
    async with tiebeam_framework(values, components=[Fragile]) as framework:
        for n in range(8):
            await framework.bus.publish("work.item", {"n": n})
        await framework.settle()
        # The fifth failure in a row opens it; the other three wait.
        lost = [letter.event.payload["n"] for letter in framework.dead_letters.list()]
        assert lost == [0, 1, 2, 3, 4]
        assert framework.published("system.circuit_breaker.*")[-1].payload["state"] == "open"
        status = framework.status("fragile")
        assert status["state"] == "degraded"
        assert "circuit breaker of fragile.work is open" in status["cause"]
        assert framework.health("fragile")["details"]["circuit_breakers"] == {
            "fragile.work": "open"
        }
        Fragile.broken = False
        await framework.advance(29)
        assert Fragile.done == []
        await framework.advance(2)
        assert Fragile.done == [5, 6, 7]
        assert framework.status("fragile")["state"] == "running"
        assert len(framework.dead_letters) == 5


async def test_replayed_dead_letters_are_delivered_to_who_failed(tiebeam_framework: Make) -> None:
    class Mends(Component):
        broken = True
        done: list[int] = []

        @subscribe("work.item", retry=False)
        async def work(self, event: Event) -> None:
            if self.broken:
                raise ValueError("not yet")
            self.done.append(event.payload["n"])

    good = Good()
    async with tiebeam_framework(components=[Mends, good]) as framework:
        await framework.bus.publish("work.item", {"n": 1})
        await framework.settle()
        Mends.broken = False
        assert framework.dead_letters.replay() == 1
        await framework.settle()
        assert (Mends.done, good.done) == ([1], [1])
        assert len(framework.dead_letters) == 0


async def test_a_component_that_cannot_start_is_an_alert(tiebeam_framework: Make) -> None:
    class Broken(Component):
        async def start(self) -> None:
            raise DependencyError("no exchange")

    async with tiebeam_framework(components=[Broken]) as framework:
        (error,) = framework.published("system.error.dependency")
        assert (error.payload["component"], error.payload["hook"]) == ("broken", "start")
        assert error.payload["final"] is True
        assert (error.payload["error_type"], error.payload["message"]) == (
            "DependencyError",
            "no exchange",
        )
        assert "in start" in error.payload["traceback"]
        (alert,) = framework.published("system.alert")
        assert alert.payload["reason"] == "component_failed"


async def test_routes_choose_handlers_by_category_component_and_type(
    tiebeam_framework: Make,
) -> None:
    """An error event is an event: a route is a subscription."""

    class Desk(Component):
        heard: list[str] = []

        @subscribe("system.error.permanent", where={"payload.component": "raises"})
        async def on_error(self, event: Event) -> None:
            self.heard.append(event.payload["error_type"])

    parts = [Raises(ValueError("x")), EveryThird(), Desk()]
    async with tiebeam_framework(components=parts) as framework:
        await framework.bus.publish("work.item", {"n": 3})
        await framework.settle()
        assert Desk.heard == ["ValueError"]
