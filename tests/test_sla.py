"""What components promise, and who is told when they do not keep it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from test_metrics import Read
from tiebeam import Component, Configuration, ConfigurationError, Framework, subscribe
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]


class Desk(Component):
    """Fails where it is told to, and takes as long as it is told to."""

    config: Any

    @subscribe("work.item", concurrency=1)
    async def on_item(self, event: Any) -> None:
        await asyncio.sleep(event.payload["takes"])
        if event.payload["bad"]:
            raise ValueError("odd")


def promising(**sla: Any) -> dict[str, Any]:
    return {"components": {"desk": {"sla": sla, "window": 3}}}


async def work(
    framework: TestFramework, count: int, *, bad: bool = False, takes: float = 0
) -> None:
    for _ in range(count):
        await framework.bus.publish("work.item", {"bad": bad, "takes": takes})
        await framework.advance(takes)
    await framework.settle()


def kept(framework: TestFramework, objective: str) -> dict[str, Any]:
    said = {one["objective"]: one for one in framework.health("desk")["details"]["sla"]}
    found: dict[str, Any] = said[objective]
    return found


async def test_a_budget_that_burns_is_told_and_told_to_be_over(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(promising(availability=0.999), components=[Desk]) as framework:
        assert framework.get(Desk).config == {"window": 3}  # the promise is none of its own keys
        await work(framework, 90)
        await framework.advance(10)
        assert kept(framework, "availability") == {
            "objective": "availability",
            "target": 0.999,
            "remaining": 1.0,
            "burn_rate": 0.0,
            "alert": None,
        }
        await work(framework, 10, bad=True)
        await framework.advance(61)
        said = kept(framework, "availability")
        assert said["alert"] == "page"
        assert said["burn_rate"] == pytest.approx(100)
        assert said["remaining"] == pytest.approx(-99)
        (page,) = framework.published("system.slo.*")
        assert page.event_type == "system.slo.page"
        assert (page.payload["component"], page.payload["from"]) == ("desk", None)
        alerts = [event.payload for event in framework.published("system.alert")]
        (alert,) = [alert for alert in alerts if alert["reason"] == "slo_burning"]
        assert "100.0 times too fast" in alert["message"]
        report = framework.health("desk")
        assert (report["health"], report["ready"], report["live"]) == ("warn", True, True)
        reasons = "; ".join(report["details"]["reasons"])
        assert "page: the budget for availability goes 100.0 times too fast" in reasons
        ours = {"component": "desk", "objective": "availability"}
        seen = Read(framework.metrics(), openmetrics)
        assert seen.value("tiebeam_slo_target_ratio", **ours) == 0.999
        assert seen.value("tiebeam_slo_burn_rate", **ours) == pytest.approx(100)
        assert seen.value("tiebeam_slo_budget_remaining_ratio", **ours) == pytest.approx(-99)
        # Half an hour without another failure: it does not go on.
        await work(framework, 20)
        await framework.advance(1_900)
        assert kept(framework, "availability")["alert"] != "page"
        assert framework.published("system.slo.*")[1].payload["from"] == "page"


@pytest.mark.parametrize(
    ("sla", "takes", "alert"),
    [
        ({"latency": "1s"}, 0.5, None),
        ({"latency": "1s"}, 3, "page"),
        ({"latency": "1s", "target": 0.95, "min_events": 1000}, 3, None),
        ({"latency": "5m"}, 200, None),
        ({"latency": "5m", "min_events": 1}, 400, "page"),
    ],
)
async def test_handlers_that_take_too_long(
    tiebeam_framework: Make, sla: dict[str, Any], takes: float, alert: str | None
) -> None:
    values = {**promising(**sla), "event_bus": {"handler_timeout": 86_400}}
    async with tiebeam_framework(values, components=[Desk]) as framework:
        await work(framework, 40, takes=takes)
        await framework.advance(10)
        assert kept(framework, "latency")["alert"] == alert


async def test_events_that_wait_too_long(tiebeam_framework: Make) -> None:
    values = promising(delay="2s", min_events=3)
    async with tiebeam_framework(values, components=[Desk]) as framework:
        for _ in range(60):
            await framework.bus.publish("work.item", {"bad": False, "takes": 1})
        await framework.advance(61)
        assert kept(framework, "delay")["alert"] == "page"


async def test_a_promise_of_delay_is_broken_by_what_waits_and_kept_after_that(
    tiebeam_framework: Make,
) -> None:
    values = promising(delay="2s", min_events=3)
    values["event_bus"] = {"handler_timeout": 86_400}
    async with tiebeam_framework(values, components=[Desk]) as framework:
        for _ in range(2):
            await framework.bus.publish("work.item", {"bad": False, "takes": 100})
        # Nothing is handled, and one waits.
        await framework.advance(61)
        assert kept(framework, "delay")["alert"] == "page"
        await framework.advance(200)
        left = kept(framework, "delay")["remaining"]
        # Long ago one had waited; what is handled since does not.
        await work(framework, 20, takes=10)
        assert kept(framework, "delay")["remaining"] > left
        await framework.advance(3_600)
        assert kept(framework, "delay")["alert"] != "page"


async def test_a_restart_begins_no_new_period(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(promising(availability=0.99), components=[Desk]) as framework:
        await work(framework, 80)
        await work(framework, 20, bad=True)
        await framework.advance(10)
        before = kept(framework, "availability")["remaining"]
        await framework.restart_component("desk")
        await work(framework, 1)
        await framework.advance(10)
        assert before == pytest.approx(-19)
        assert kept(framework, "availability")["remaining"] == pytest.approx(1 - 20 / 101 / 0.01)


async def test_who_promises_nothing_is_not_measured_by_it(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Desk]) as framework:
        assert "sla" not in framework.health("desk")["details"]


@pytest.mark.parametrize(
    ("sla", "complaint"),
    [
        ({"availabilty": 0.99}, "did you mean `availability`?"),
        ({"availability": 99.9}, "`availability` must be <= 0.9999999"),
        ({"latency": "soon"}, "`latency` must be a duration"),
        ({"delay": "1s", "period": "1d"}, "3 to 366 days"),
        ({"target": 0.99}, "promises nothing"),
        ({"availability": 0.99, "target": 0.99}, "add one of them, such as `latency: 250ms`"),
        ({"latency": "2h"}, "`latency` must be at most `1h`"),
        ([1], "must be a map"),
    ],
)
def test_promises_that_make_no_sense(sla: Any, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(complaint)) as caught:
        Framework({"components": {"desk": {"sla": sla}}}, components=[Desk])
    assert "components.desk.sla" in str(caught.value)


def test_a_promise_from_a_file(tmp_path: Any) -> None:
    path = tmp_path / "system.yaml"
    path.write_text("components:\n  desk:\n    sla: {availability: 0.999, latency: 250ms}\n")
    (entry,) = Configuration(path).components()
    assert entry["config"] == {}


async def test_a_subscription_that_ends_is_not_counted_twice(tiebeam_framework: Make) -> None:
    class Feed(Component):
        async def start(self) -> None:
            self.bus.subscribe("tick", self.on_tick, name="ticks")
            self.other = self.bus.subscribe("once", self.on_tick, name="once")

        async def on_tick(self, event: Any) -> None:
            if event.payload["slow"]:
                await asyncio.sleep(1)

    configuration = {
        "components": {"feed": {"sla": {"latency": "500ms", "target": 0.95, "min_events": 1}}}
    }
    async with tiebeam_framework(configuration, components=[Feed]) as framework:
        for slow in (True, False, False, False):
            await framework.bus.publish("tick", {"slow": slow})
            await framework.advance(2)
        await framework.bus.publish("once", {"slow": False})
        await framework.advance(20)

        def burns() -> float:
            (promise,) = framework.health("feed")["details"]["sla"]
            return float(promise["burn_rate"])

        before = burns()
        assert before == pytest.approx(1 / 5 / 0.05)
        framework.get(Feed).other.cancel()
        await framework.advance(60)
        assert burns() == before


async def test_what_is_handled_inside_of_publish_has_not_waited(tiebeam_framework: Make) -> None:
    class Inline(Component):
        name = "desk"

        @subscribe("work.item", run_in="inline")
        def on_item(self, event: Any) -> None: ...

    values = promising(delay="2s", min_events=1)
    async with tiebeam_framework(values, components=[Inline]) as framework:
        await framework.advance(10)
        assert kept(framework, "delay")["burn_rate"] is None  # there was nothing
        framework.bus.publish("work.item")
        await framework.advance(10)
        assert kept(framework, "delay")["burn_rate"] == 0
