"""What the core measures itself, and the limits that the configuration has for it."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from test_health_endpoint import ON, ask
from test_metrics import Read
from tiebeam import Component, ConfigurationError, Framework, check, subscribe
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]


class Slow(Component):
    """Takes as many seconds as an event says."""

    @subscribe("work.item")
    async def on_item(self, event: Any) -> None:
        await asyncio.sleep(event.payload)


async def feed(framework: TestFramework, *seconds: float) -> None:
    for took in seconds:
        await framework.bus.publish("work.item", took)
        await framework.advance(took)


async def test_how_long_handlers_take(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Slow]) as framework:
        assert "handler_p99" not in framework.health("slow")["details"]
        await feed(framework, *[0.1] * 60, *[0.5] * 39, 4.0)
        details = framework.health("slow")["details"]
        assert details["handler_p50"] == pytest.approx(100, rel=0.25)
        assert details["handler_p99"] == pytest.approx(500, rel=0.25)
        seen = Read(framework.metrics(), openmetrics)
        ours = {"component": "slow", "subscription": "slow.on_item"}
        name = "tiebeam_handler_duration_seconds"
        assert seen.value(f"{name}_count", **ours) == 100
        assert seen.value(f"{name}_sum", **ours) == pytest.approx(60 * 0.1 + 39 * 0.5 + 4)
        assert seen.value(f"{name}_bucket", **ours, le="0.268435456") == 60
        assert seen.value(f"{name}_bucket", **ours, le="+Inf") == 100


def test_sync_handlers_are_measured_too(run: Any) -> None:
    def on_thread(event: Any) -> None: ...

    async def main() -> None:
        async with Framework({"logging": {"console": False}}) as framework:
            framework.bus.subscribe("a.b", on_thread, name="thread")
            framework.bus.subscribe("a.b", on_thread, name="inline", run_in="inline")
            for _ in range(100):
                await framework.bus.publish("a.b")
            await framework.bus.drain()
            seen = Read(framework.metrics(), openmetrics)
            for name in ("thread", "inline"):
                labels = {"component": "", "subscription": name}
                assert seen.value("tiebeam_handler_duration_seconds_count", **labels) >= 1

    # Of the calls inside `publish` one in 32 is measured, on each thread.
    thread = threading.Thread(target=lambda: run(main()))
    thread.start()
    thread.join()


async def test_a_handler_that_is_too_slow_is_a_warning_and_a_failure(
    tiebeam_framework: Make,
) -> None:
    values = {
        "health": {
            "limits": {"handler_p99": {"warn": "1s", "fail": "10s"}},
            "failure_threshold": 1,
            "check_interval": 60,
        }
    }
    async with tiebeam_framework({**ON, **values}, components=[Slow]) as framework:

        async def verdict(*seconds: float) -> tuple[str, bool, str]:
            await feed(framework, *seconds)
            report = await framework.check("slow")
            reasons = "; ".join(report["details"].get("reasons", []))
            return report["health"], report["ready"], re.sub(r"[\d.]+$", "N", reasons)

        assert await verdict(0.1) == ("pass", True, "")
        assert await verdict(0.1, 2.0) == (
            "warn",
            True,
            "handler_pN: warn at N".replace("pN", "p99"),
        )
        # Only what came since the last look counts.
        assert await verdict(0.1) == ("pass", True, "")
        assert (await verdict(20.0))[:2] == ("fail", False)
        assert framework.status("slow")["restarts"] == 0  # which would not help
        assert (await verdict())[0] == "pass"
        history = framework.health_history("slow")["handler_p99"]
        assert [record["result"] for record in history[-5:]] == [
            "pass",
            "warn",
            "pass",
            "fail",
            "pass",
        ]


async def test_events_that_wait_too_long(tiebeam_framework: Make) -> None:
    values = {"health": {"limits": {"queue_delay": {"warn": 500}}}}
    async with tiebeam_framework(values, components=[Slow]) as framework:
        for _ in range(2):
            await framework.bus.publish("work.item", 2.0)
        await framework.advance(5)
        report = await framework.check("slow")
        assert report["health"] == "warn"
        assert report["details"]["reasons"] == ["queue_delay: warn at 2000"]
        # Nothing waits any more, and nothing was handled since.
        assert (await framework.check("slow"))["health"] == "pass"


async def test_a_backlog_of_long_ago_is_none_although_other_handlers_are_busy(
    tiebeam_framework: Make,
) -> None:
    class Two(Slow):
        name = "slow"

        @subscribe("other.item")
        async def on_other(self, event: Any) -> None: ...

    values = {"health": {"limits": {"queue_delay": {"warn": 500}}}}
    async with tiebeam_framework(values, components=[Two]) as framework:
        for _ in range(2):
            await framework.bus.publish("work.item", 2.0)
        await framework.advance(5)
        assert (await framework.check("slow"))["health"] == "warn"
        for _ in range(30):
            await framework.bus.publish("other.item")
            await framework.advance(1)
        report = await framework.check("slow")
        assert (report["health"], report["details"]["event_processing_delay"]) == ("pass", 0)


async def test_what_stands_behind_a_handler_that_does_not_come_back_is_seen(
    tiebeam_framework: Make,
) -> None:
    values = {
        "health": {"limits": {"queue_delay": {"warn": 500}}},
        "event_bus": {"handler_timeout": 86_400},
    }
    async with tiebeam_framework(values, components=[Slow]) as framework:
        await framework.bus.publish("work.item", 1e9)
        await framework.advance(1)
        for _ in range(3):
            await framework.bus.publish("work.item", 0)
        await framework.advance(60)
        report = await framework.check("slow")
        assert report["health"] == "warn"
        assert report["details"]["event_processing_delay"] == 60_000
        assert report["details"]["reasons"] == ["queue_delay: warn at 60000"]
        labels = {"component": "slow", "subscription": "slow.on_item"}
        seen = Read(framework.metrics(), openmetrics)
        assert seen.value("tiebeam_subscription_queue_delay_seconds", **labels) == 60


async def test_for_the_last_of_a_batch_nothing_waits_however_long_it_takes(
    tiebeam_framework: Make,
) -> None:
    values = {"event_bus": {"handler_timeout": 86_400}}
    async with tiebeam_framework(values, components=[Slow]) as framework:
        for takes in (0, 0, 60):
            framework.bus.publish("work.item", takes)
        await framework.advance(30)
        assert framework.health("slow")["details"]["event_processing_delay"] == 0
        framework.bus.publish("work.item", 0)
        await framework.advance(15)
        assert framework.health("slow")["details"]["event_processing_delay"] == 15_000


async def test_a_delayed_event_does_not_wait(tiebeam_framework: Make) -> None:
    values = {"health": {"limits": {"queue_delay": {"warn": 500}}}}
    async with tiebeam_framework(values, components=[Slow]) as framework:
        await framework.bus.publish("work.item", 0, delay=60)
        await framework.advance(61)
        report = await framework.check("slow")
        assert (report["health"], report["details"]["event_processing_delay"]) == ("pass", 0)
        assert report["metrics"]["events_processed"] == 1


async def test_a_check_of_the_same_name_is_the_components_own(tiebeam_framework: Make) -> None:
    class Own(Component):
        @check()
        async def queue_delay(self) -> dict[str, Any]:
            return {"whose": "own"}

    values = {"health": {"limits": {"queue_delay": {"fail": 1}}}}
    async with tiebeam_framework(values, components=[Own]) as framework:
        assert (await framework.check("own"))["details"]["whose"] == "own"
        assert list(framework.health_history("own")) == ["health_check", "queue_delay"]


async def test_the_process(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Slow]) as framework:
        process = framework.health()["process"]
        assert process["health"] == "pass"
        assert process["memory_usage"] > 1
        assert process["threads"] >= 1
        assert 0 < process["descriptors"] < process["descriptor_limit"]
        assert process["cpu_seconds"] > 0


@pytest.mark.parametrize(
    ("limits", "verdict", "ready", "status"),
    [
        ({"memory": {"warn": 1}}, "warn", 200, 200),
        ({"memory": {"warn": 1, "fail": 2}}, "fail", 503, 503),
        ({"threads": {"fail": 1}}, "fail", 503, 503),
        ({"descriptors": {"warn": 0.000001}}, "warn", 200, 200),
        ({"memory": {"fail": 1e8}}, "pass", 200, 200),
    ],
)
async def test_limits_of_the_process(
    tiebeam_framework: Make, limits: dict[str, Any], verdict: str, ready: int, status: int
) -> None:
    values = {**ON, "health": {**ON["health"], "limits": limits}}
    async with tiebeam_framework(values, components=[Slow]) as framework:
        await framework.settle()
        health = framework.health()
        assert (health["process"]["health"], health["status"]) == (verdict, verdict)
        assert bool(health["process"]["reasons"]) == (verdict != "pass")
        assert ask(framework, "/livez")[0] == 200
        assert ask(framework, "/readyz")[0] == ready
        assert ask(framework, "/health")[0] == status
        told = [event.payload for event in framework.published("system.health.changed")]
        changes = [change["to"] for change in told if change["component"] is None]
        assert (verdict in changes) == (verdict != "pass")
        seen = Read(framework.metrics(), openmetrics)
        for name in limits:
            assert seen.state("tiebeam_process_status", check=name) == verdict


async def test_the_process_is_looked_at_again(tiebeam_framework: Make) -> None:
    values = {"health": {"limits": {"cpu": {"fail": 1e6}}, "check_interval": 1}}
    async with tiebeam_framework(values, components=[Slow]) as framework:
        await framework.settle()
        assert framework.health()["process"]["cpu_usage"] is None
        await framework.advance(1)
        assert framework.health()["process"]["cpu_usage"] >= 0


def test_limits_that_make_no_sense() -> None:
    for name, warn, fail in (("memory", 2, 1), ("queue_delay", "2s", "1s")):
        with pytest.raises(ConfigurationError, match="a warning comes first"):
            Framework({"health": {"limits": {name: {"warn": warn, "fail": fail}}}})
    with pytest.raises(ConfigurationError, match=r"did you mean `health\.limits\.memory`"):
        Framework({"health": {"limits": {"memry": {"warn": 1}}}})
    with pytest.raises(ConfigurationError, match="<= 1"):
        Framework({"health": {"limits": {"descriptors": {"warn": 80}}}})
