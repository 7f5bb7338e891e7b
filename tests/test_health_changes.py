"""What of health changes with the configuration while the system runs, and what says that it does
not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from tiebeam import Component, subscribe
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]


class Desk(Component):
    """Fails where it is told to."""

    @subscribe("work.item", retry={"max_attempts": 1})
    async def on_item(self, event: Any) -> None:
        if event.payload["bad"]:
            raise ValueError("odd")


async def work(framework: TestFramework, count: int, *, bad: bool) -> None:
    for _ in range(count):
        await framework.bus.publish("work.item", {"bad": bad})
    await framework.settle()
    await framework.advance(10)


async def test_limits_count_at_once(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Desk]) as framework:
        assert list(framework.health_history("desk")) == ["health_check"]
        await framework.configure(
            {"health.limits.queue_delay.warn": "1s", "health.limits.memory.warn": 1}
        )
        assert list(framework.health_history("desk")) == ["health_check", "queue_delay"]
        assert framework.health()["process"]["health"] == "warn"
        changes = [e.payload for e in framework.published("system.health.changed")]
        assert [c["to"] for c in changes if c["component"] is None] == ["warn"]
        assert framework.health("desk")["ready"]
        await framework.advance(25)
        assert len(framework.health_history("desk")["queue_delay"]) == 3
        # Another one begins anew, one that is gone says nothing, and one that stays goes on.
        await framework.configure(
            {"health.limits.loop_lag.fail": "1h", "health.limits.memory.warn": 0}
        )
        history = framework.health_history("desk")
        assert (list(history), len(history["queue_delay"])) == (
            ["health_check", "queue_delay", "loop_lag"],
            3,
        )
        assert framework.health()["process"]["health"] == "pass"
        await framework.configure({"health.limits.queue_delay.warn": 0})
        assert list(framework.health_history("desk")) == ["health_check", "loop_lag"]


class Sleeper(Component):
    """Takes as many seconds as an event says, with one after the other."""

    name = "desk"

    @subscribe("work.item", concurrency=1)
    async def on_item(self, event: Any) -> None:
        await asyncio.sleep(event.payload)


async def slow_once(framework: TestFramework) -> None:
    """One takes 20 seconds, for which another one waits."""
    for takes in (20, 0):
        await framework.bus.publish("work.item", takes)
    await framework.advance(60)


@pytest.mark.parametrize("limit", ["queue_delay", "handler_p99"])
async def test_a_limit_judges_what_comes_after_it(tiebeam_framework: Make, limit: str) -> None:
    async with tiebeam_framework(components=[Sleeper]) as framework:
        await slow_once(framework)
        await framework.configure({f"health.limits.{limit}.fail": "5s"})
        await framework.settle()
        (first,) = framework.health_history("desk")[limit]
        assert (first["value"], first["health"]) == (0, "pass")
        await slow_once(framework)
        values = [record["value"] for record in framework.health_history("desk")[limit]]
        assert max(values) == pytest.approx(20_000, rel=0.25)


async def test_a_delay_of_before_breaks_no_promise(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Sleeper]) as framework:
        await slow_once(framework)
        promise = {"delay": "5s", "min_events": 1}
        await framework.configure({"components.desk.sla": promise})
        await framework.advance(10)
        (kept,) = framework.health("desk")["details"]["sla"]
        assert (kept["remaining"], kept["alert"]) == (1, None)
        await slow_once(framework)
        (kept,) = framework.health("desk")["details"]["sla"]
        assert kept["alert"] == "page"


async def test_a_change_that_nobody_waits_for_is_taken_back(tiebeam_framework: Make) -> None:
    class Told(Component):
        def __init__(self, name: str) -> None:
            self.name = name
            self.told: list[Any] = []
            self.hangs = asyncio.Event()

        async def configure(self, config: Any) -> None:
            self.told.append(config["x"])
            if config["x"] == 1 and self.name == "second":
                self.hangs.set()
                await asyncio.Event().wait()

    first, second = Told("first"), Told("second")
    values = {"components": {"first": {"x": 0}, "second": {"x": 0}}}
    async with tiebeam_framework(values, components=[first, second]) as framework:
        changing = asyncio.ensure_future(
            framework.configure({"components.first.x": 1, "components.second.x": 1})
        )
        await second.hangs.wait()
        changing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await changing
        assert (first.told, second.told) == ([0, 1, 0], [0, 1, 0])
        assert framework.configuration.get("components.first.x") == 0
        await framework.configure({"components.first.x": 2})
        assert first.told == [0, 1, 0, 2]


async def test_a_limit_that_goes_takes_along_what_it_said(tiebeam_framework: Make) -> None:
    values = {"health": {"limits": {"handler_p99": {"warn": "1ms"}}, "failure_threshold": 1}}

    class Sleeps(Component):
        name = "desk"

        @subscribe("work.item")
        async def on_item(self, event: Any) -> None:
            await asyncio.sleep(1)

    async with tiebeam_framework(values, components=[Sleeps]) as framework:
        await framework.bus.publish("work.item")
        await framework.advance(15)
        assert framework.status("desk")["degradations"].keys() == {"check:handler_p99"}
        await framework.configure({"health.limits.handler_p99.warn": 0})
        assert framework.status("desk")["degradations"] == {}
        assert framework.health("desk")["health"] == "pass"


async def test_promises_count_at_once(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Desk]) as framework:

        def kept() -> dict[str, Any]:
            said = framework.health("desk")["details"].get("sla", [])
            return {one["objective"]: one for one in said}

        await work(framework, 30, bad=True)
        await framework.configure({"components.desk.sla": {"availability": 0.999}})
        # What happened before was not promised.
        assert kept()["availability"]["remaining"] == 1
        await work(framework, 20, bad=True)
        assert kept()["availability"]["alert"] == "page"
        left = kept()["availability"]["remaining"]
        # Another promise beside it changes nothing about this one.
        await framework.configure({"components.desk.sla": {"availability": 0.999, "delay": "1s"}})
        assert kept()["availability"]["remaining"] == left
        assert kept()["delay"]["remaining"] == 1
        # What is promised no more is no reason for an alert.
        await framework.configure({"components.desk.sla": {"delay": "1s"}})
        assert list(kept()) == ["delay"]
        (page, over) = framework.published("system.slo.*")
        assert (page.event_type, over.event_type) == ("system.slo.page", "system.slo.ok")
        assert (over.payload["from"], over.payload["to"]) == ("page", None)
        await work(framework, 1, bad=False)
        assert kept()["delay"]["remaining"] == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"health.http.port": 9999}, "health.http.port: checks, probes and the watchdog stay"),
        ({"health.check_interval": 3}, "health.check_interval: checks, probes and the watchdog"),
        ({"supervision.cooldown": 9}, "supervision.cooldown: supervision stays as it is"),
        ({"components.desk.restart": "temporary"}, "components.desk.restart: `desk` stays as it"),
        ({"event_bus.capacity": 5}, "event_bus.capacity: the bus stays as it is"),
        ({"health.limits.memory.warn": 1e6}, None),
        ({"components.desk.sla": {"availability": 0.99}}, None),
        ({"components.desk.mine": 3}, None),
    ],
)
async def test_what_waits_for_the_next_start_says_so(
    tiebeam_framework: Make,
    change: dict[str, Any],
    said: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with tiebeam_framework(components=[Desk]) as framework:
        with caplog.at_level(logging.WARNING, "tiebeam"):
            await framework.configure(change)
        told = [r.getMessage() for r in caplog.records if "until the next start" in r.getMessage()]
        assert len(told) == (said is not None)
        assert all(line.startswith(said or "") for line in told)
