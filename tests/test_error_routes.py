"""The flow of an error: caught, told with its context, routed, acted upon, logged, alerted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiebeam import (
    Component,
    ConfigurationError,
    DependencyError,
    EventBus,
    InternalError,
    PermanentError,
    TransientError,
    on_error,
    subscribe,
)
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]
ERRORS = {
    "transient": TransientError,
    "permanent": PermanentError,
    "configuration": ConfigurationError,
    "dependency": DependencyError,
    "internal": InternalError,
}


class Fails(Component):
    @subscribe("work", retry={"max_attempts": 2, "jitter": "none"})
    async def on_work(self, event: Any) -> None:
        raise ERRORS[event.payload["category"]](f"it is {event.payload['category']}")


class FailsToo(Fails):
    name = "fails_too"


class Clerk(Component):
    """Files what it is told."""

    def __init__(self) -> None:
        self.filed: list[tuple[str, str, str, int, bool]] = []

    def file(self, drawer: str, event: Any) -> None:
        told = event.payload
        kind, attempt, final = told["error_type"], told["attempt"], told["final"]
        self.filed.append((drawer, told["component"], kind, attempt, final))

    @on_error(category="dependency")
    async def of_dependencies(self, event: Any) -> None:
        self.file("dependency", event)

    @on_error(component="fails_too")
    def of_one(self, event: Any) -> None:
        self.file("fails_too", event)

    @on_error(error_type=PermanentError)
    async def of_a_class(self, event: Any) -> None:
        self.file("PermanentError", event)

    @on_error(final=True)
    async def of_the_end(self, event: Any) -> None:
        self.file("final", event)


async def test_errors_go_by_category_component_type_and_end(tiebeam_framework: Make) -> None:
    clerk = Clerk()
    async with tiebeam_framework(components=[clerk, Fails, FailsToo]) as framework:
        for category in ERRORS:
            await framework.bus.publish("work", {"category": category})
        await framework.advance(1)

        def in_drawer(drawer: str) -> list[tuple[str, str, int, bool]]:
            return sorted(filed[1:] for filed in clerk.filed if filed[0] == drawer)

        both = ["fails", "fails_too"]
        assert in_drawer("dependency") == [
            (name, "DependencyError", attempt, attempt == 2) for name in both for attempt in (1, 2)
        ]
        assert in_drawer("PermanentError") == [(name, "PermanentError", 1, True) for name in both]
        assert {component for component, *_ in in_drawer("fails_too")} == {"fails_too"}
        assert len(in_drawer("fails_too")) == 7  # two of them are tried twice
        assert len(in_drawer("final")) == 10


async def test_each_step_can_be_seen(tiebeam_framework: Make, tmp_path: Path) -> None:
    """Caught and wrapped, published, routed, acted upon, logged, alerted."""
    seen: list[str] = []

    class Medic(Component):
        @on_error(component="patient", final=True)
        async def help(self, event: Any) -> None:
            seen.append(event.payload["error_type"])
            await self.framework.restart_component("patient")

    class Patient(Component):
        starts = 0

        async def start(self) -> None:
            Patient.starts += 1

        @subscribe("work")
        async def on_work(self, event: Any) -> None:
            raise AssertionError("a bug")

    log = tmp_path / "system.log"
    configuration = {"logging": {"file": str(log)}}
    async with tiebeam_framework(configuration, components=[Medic, Patient]) as framework:
        receipt = framework.bus.publish("work", {"n": 1}, correlation_id="order-1")
        await receipt
        await framework.settle()
        (error,) = framework.published("system.error.internal")
        told = error.payload
        assert (told["component"], told["subscription"]) == ("patient", "patient.on_work")
        assert told["event_type"] == "work"
        assert told["correlation_id"] == error.correlation_id == "order-1"
        assert 'raise AssertionError("a bug")' in told["traceback"]
        assert seen == ["AssertionError"]
        assert Patient.starts == 2
        (alert,) = framework.published("system.alert")
        assert alert.payload["reason"] == "internal_error"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (logged,) = [line for line in lines if "handler failed" in line["message"]]
    assert logged["component"] == "patient"
    assert "a bug" in json.dumps(logged)


async def test_an_error_handler_that_fails_makes_no_more_errors(tiebeam_framework: Make) -> None:
    calls: list[int] = []

    class Broken(Component):
        @on_error()
        async def help(self, event: Any) -> None:
            calls.append(1)
            raise RuntimeError("it fails as well")

    async with tiebeam_framework(components=[Broken, Fails]) as framework:
        await framework.bus.publish("work", {"category": "permanent"})
        await framework.advance(5)
        assert len(calls) == 1
        assert len(framework.published("system.error.#")) == 1
        letters = framework.bus.dead_letters.list()
        assert sorted(letter.subscription for letter in letters) == ["broken.help", "fails.on_work"]


async def test_code_outside_of_components_hears_of_errors_too(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Fails, FailsToo]) as framework:
        called: list[tuple[str, int]] = []
        decorated: list[str] = []

        def note(event: Any) -> None:
            called.append((event.payload["component"], event.payload["attempt"]))

        handle = framework.bus.on_error(note, category="dependency", final=True)

        @framework.bus.on_error(component="fails_too", error_type="PermanentError")
        async def of_one(event: Any) -> None:
            decorated.append(event.payload["message"])

        assert callable(of_one)
        for category in ERRORS:
            await framework.bus.publish("work", {"category": category})
        await framework.advance(1)
        assert sorted(called) == [("fails", 2), ("fails_too", 2)]
        assert decorated == ["it is permanent"]
        handle.cancel()
        await framework.bus.publish("work", {"category": "dependency"})
        await framework.advance(1)
        assert len(called) == 2
        with pytest.raises(ConfigurationError, match="an error's category is"):
            framework.bus.on_error(note, category="grave")
        with pytest.raises(TypeError, match="no option `where`"):
            framework.bus.on_error(note, where={"payload.final": True})


def test_a_bus_that_stands_alone_tells_of_errors() -> None:
    heard: list[str] = []
    with EventBus() as bus:
        bus.on_error(lambda event: heard.append(event.payload["error_type"]), final=True)

        @bus.subscribe("work", retry=False)
        def fail(event: Any) -> None:
            raise LookupError("nothing there")

        bus.publish("work", {}).wait()
        bus.drain_sync(5.0)
    assert heard == ["LookupError"]


async def test_a_storm_of_errors_is_a_few_lines_of_the_log(
    tiebeam_framework: Make, tmp_path: Path
) -> None:
    log = tmp_path / "system.log"
    configuration = {"logging": {"file": str(log)}}
    async with tiebeam_framework(configuration, components=[Fails, FailsToo]) as framework:
        errors: list[str] = []
        framework.bus.on_error(
            lambda event: errors.append(event.payload["component"]), run_in="inline"
        )
        for _ in range(500):
            await framework.bus.publish("work", {"category": "permanent"})
        await framework.settle()
        assert errors.count("fails") == errors.count("fails_too") == 500
        await framework.advance(5)
        await framework.bus.publish("work", {"category": "internal"})
        await framework.settle()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for name in ("fails", "fails_too"):
        told = [line for line in lines if line["fields"].get("subscription") == f"{name}.on_work"]
        assert [line["fields"].get("count") for line in told] == [None] * 10 + [490, None]
        assert "handler failed many times more" in told[10]["message"]
        assert "InternalError" in told[11]["message"]


async def test_a_storm_of_errors_is_bounded(tiebeam_framework: Make) -> None:
    """The one who hears of them keeps the newest, alerts are told once, and nobody waits."""
    heard: list[int] = []

    class Slow(Component):
        @on_error(capacity=10)
        async def help(self, event: Any) -> None:
            heard.append(event.payload["attempt"])

    async with tiebeam_framework(components=[Slow, Fails]) as framework:
        for _ in range(500):
            await framework.bus.publish("work", {"category": "internal"})
        await framework.settle()
        books = framework.bus.books()["slow.help"]
        assert books.delivered + books.dropped == 500
        assert len(framework.published("system.alert")) == 1
        await framework.advance(61)
        await framework.bus.publish("work", {"category": "internal"})
        await framework.settle()
        assert framework.published("system.alert")[-1].payload["count"] == 500


def test_what_is_no_route_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'dependencies'"):
        on_error(category="dependencies")
    with pytest.raises(TypeError, match="no option `where`"):
        on_error(where={"payload.attempt": 1})
