"""Metrics, read by the parsers of Prometheus's own client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
from test_health_endpoint import ON, ask
from tiebeam import Component, Health, check, subscribe
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]
Labels = dict[str, str]
PRICE = "market_data.price_update"
OURS = {"component": "trader", "subscription": "trader.on_price"}


class Trader(Component):
    """Handles what it can."""

    @subscribe(PRICE, retry={"max_attempts": 2, "initial_delay": 1, "jitter": "none"})
    async def on_price(self, event: Any) -> None:
        if event.payload["price"] < 0:
            raise ConnectionError("no luck")
        await self.publish_event("trading.order", {})

    @subscribe("trading.order", where="payload.price > 0")
    async def on_order(self, event: Any) -> None: ...

    @check(kind="performance", warn_at=10)
    async def spread(self) -> Health:
        return Health.measured(12.5)

    @check(kind="dependency")
    async def exchange(self) -> None: ...


class Read:
    """Parsed metrics."""

    def __init__(self, text: str, parse: Any) -> None:
        self.families = {family.name: family for family in parse(text)}
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in self.families.values():
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.samples, f"{key} is there twice"
                self.samples[key] = sample.value

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, frozenset(labels.items())]

    def state(self, name: str, **labels: str) -> str:
        """The one state that is set."""
        found = [
            dict(key)[name]
            for (sample, key), value in self.samples.items()
            if sample == name and labels.items() <= dict(key).items() and value == 1
        ]
        assert len(found) == 1
        return found[0]


def read(framework: TestFramework) -> Read:
    return Read(framework.metrics(), openmetrics)


async def test_figures_of_all_that_there_is(tiebeam_framework: Make) -> None:
    values = {"system": {"name": "desk", "version": "1.2"}}
    async with tiebeam_framework(values, components=[Trader]) as framework:
        for price in (1, 2, -1):
            await framework.bus.publish(PRICE, {"price": price})
        await framework.settle()
        await framework.advance(10)
        seen = read(framework)
        assert seen.value("tiebeam_subscription_received_total", **OURS) == 3
        outcomes = {
            outcome: seen.value("tiebeam_subscription_events_total", **OURS, outcome=outcome)
            for outcome in ("delivered", "filtered", "dropped", "expired", "dead_lettered")
        }
        assert outcomes == {
            "delivered": 2,
            "filtered": 0,
            "dropped": 0,
            "expired": 0,
            "dead_lettered": 1,
        }
        assert seen.value("tiebeam_subscription_failures_total", **OURS) == 2
        assert seen.value("tiebeam_subscription_retries_total", **OURS) == 1
        assert seen.value("tiebeam_subscription_in_flight", **OURS) == 0
        assert seen.value("tiebeam_subscription_queue_depth", **OURS) == 0
        assert seen.value("tiebeam_subscription_queue_capacity", **OURS) == 10_000
        other = {"component": "trader", "subscription": "trader.on_order", "outcome": "filtered"}
        assert seen.value("tiebeam_subscription_events_total", **other) == 2
        assert seen.value("tiebeam_bus_dead_letters") == 1
        assert seen.value("tiebeam_bus_events_total") >= 5
        assert seen.value("tiebeam_component_events_published_total", component="trader") == 2
        assert seen.value("tiebeam_component_errors_total", component="trader") == 2
        assert seen.value("tiebeam_component_restarts_total", component="trader") == 0
        assert seen.value("tiebeam_component_uptime_seconds", component="trader") == 10
        assert seen.value("tiebeam_component_ready", component="trader") == 1
        assert seen.state("tiebeam_component_state", component="trader") == "degraded"
        assert seen.state("tiebeam_component_health", component="trader") == "warn"
        assert seen.state("tiebeam_system_health") == "warn"
        assert seen.state("tiebeam_circuit_breaker_state", **OURS) == "closed"
        spread = {"component": "trader", "check": "spread"}
        assert seen.state("tiebeam_check_status", **spread) == "warn"
        assert seen.value("tiebeam_check_value", **spread) == 12.5
        assert seen.value("tiebeam_check_duration_seconds", **spread) == 0
        assert seen.value("tiebeam_check_age_seconds", **spread) == 0
        info = next(iter(seen.families["tiebeam_system"].samples))
        assert (info.labels["name"], info.labels["version"]) == ("desk", "1.2")


async def test_names_and_units_are_those_of_the_field(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Trader]) as framework:
        await framework.advance(10)
        seen = read(framework)
        for name, family in seen.families.items():
            assert name.startswith(("tiebeam_", "process_"))
            assert family.documentation.endswith(".")
            assert not name.endswith(("_total", "_info"))
            assert family.unit == next(
                (unit for unit in ("seconds", "bytes", "ratio") if name.endswith("_" + unit)), ""
            )
        assert seen.value("process_cpu_seconds_total") > 0
        assert seen.value("process_resident_memory_bytes") > 1e6
        assert seen.value("process_open_fds") > 2
        assert seen.value("process_max_fds") > 2
        assert seen.value("process_threads") >= 1
        assert 1e9 < seen.value("process_start_time_seconds") < 1e11


async def test_the_older_text_has_the_same_figures(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Trader]) as framework:
        await framework.bus.publish(PRICE, {"price": 1})
        await framework.settle()
        new = read(framework)
        old = Read(framework.metrics(openmetrics=False), prometheus)
        moving = ("process_", "tiebeam_loop_")
        assert {k: v for k, v in old.samples.items() if not k[0].startswith(moving)} == {
            k: v for k, v in new.samples.items() if not k[0].startswith(moving)
        }
        assert old.families["tiebeam_component_state"].type == "gauge"
        assert new.families["tiebeam_component_state"].type == "stateset"


async def test_an_open_breaker_and_a_restart_show(tiebeam_framework: Make) -> None:
    class Breaks(Component):
        broken = False

        @subscribe(PRICE)
        async def on_price(self, event: Any) -> None:
            raise ConnectionError("no luck")

        async def health_check(self) -> Health:
            return Health.fail("broken") if self.broken else Health.ok()

        async def start(self) -> None:
            self.broken = False

    values = {"health": {"failure_threshold": 1}}
    async with tiebeam_framework(values, components=[Breaks]) as framework:
        ours = {"component": "breaks", "subscription": "breaks.on_price"}
        for n in range(5):
            await framework.bus.publish(PRICE, {"n": n})
        await framework.advance(5)
        assert read(framework).state("tiebeam_circuit_breaker_state", **ours) == "open"
        framework.get(Breaks).broken = True
        await framework.check("breaks")
        await framework.advance(30)
        assert read(framework).value("tiebeam_component_restarts_total", component="breaks") == 1


async def test_labels_hold_anything(tiebeam_framework: Make) -> None:
    async with tiebeam_framework() as framework:
        name = 'a "quoted" \\ name, {with} = ünïcode'
        framework.bus.subscribe("a.b", lambda event: None, name=name)
        framework.bus.subscribe("a.c", lambda event: None, name=name)
        await framework.bus.publish("a.b")
        await framework.bus.publish("a.c")
        await framework.settle()
        labels = {"component": "", "subscription": name}
        for seen in (read(framework), Read(framework.metrics(openmetrics=False), prometheus)):
            # Two of one name are one series.
            assert seen.value("tiebeam_subscription_received_total", **labels) == 2


BOTH = [(True, openmetrics), (False, prometheus)]


@pytest.mark.parametrize(("form", "parse"), BOTH)
async def test_breakers_of_one_name_are_one_series(
    tiebeam_framework: Make, form: bool, parse: Any
) -> None:
    class Twice(Component):
        @subscribe("a.good", name="same")
        async def on_good(self, event: Any) -> None: ...

        @subscribe("a.bad", name="same")
        async def on_bad(self, event: Any) -> None:
            raise ConnectionError("no luck")

    async with tiebeam_framework(components=[Twice]) as framework:
        labels = {"component": "twice", "subscription": "twice.same"}
        family = "tiebeam_circuit_breaker_state"
        assert Read(framework.metrics(openmetrics=form), parse).state(family, **labels) == "closed"
        for n in range(5):
            await framework.bus.publish("a.bad", {"n": n})
        await framework.bus.publish("a.good")
        await framework.advance(5)
        # The one that lets less through.
        assert Read(framework.metrics(openmetrics=form), parse).state(family, **labels) == "open"
        assert framework.health("twice")["details"]["circuit_breakers"] == {"twice.same": "open"}


def counters(seen: Read) -> dict[Any, float]:
    kinds = {name for name, family in seen.families.items() if family.type == "counter"}
    histograms = {name for name, family in seen.families.items() if family.type == "histogram"}
    counts = tuple(f"{name}_total" for name in kinds)
    counts += tuple(f"{name}_{part}" for name in histograms for part in ("bucket", "count", "sum"))
    return {key: value for key, value in seen.samples.items() if key[0] in counts}


async def test_what_is_counted_never_goes_down(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Trader]) as framework:
        bus = framework.bus
        before: dict[Any, float] = {}

        def look() -> Read:
            seen = read(framework)
            now = counters(seen)
            assert [key for key, value in before.items() if now.get(key, -1.0) < value] == []
            before.update(now)
            return seen

        async def run(count: int) -> None:
            for n in range(count):
                await bus.publish(PRICE, {"price": n - 1})
            await framework.settle()
            await framework.advance(3)
            look()

        async def hold(event: Any) -> None:
            await asyncio.sleep(3_600)

        await run(3)
        other = [bus.subscribe(PRICE, hold, name="other", group="g") for _ in range(2)]
        await run(8)
        # What it has not begun with is handled by the other one, and is in the books of that.
        other[0].cancel()
        look()
        other[1].cancel()
        await run(4)
        await framework.restart_component("trader")
        await run(4)
        ours = {"component": "", "subscription": "other"}
        await framework.advance(3_600)
        seen = look()
        assert seen.value("tiebeam_subscription_received_total", **ours) == 8
        # What has ended has no queue.
        assert not [key for key in seen.samples if "queue" in key[0] and ours.items() <= key[1]]
        assert seen.value("tiebeam_subscription_received_total", **OURS) == 19


async def test_what_ends_keeps_its_place_among_the_series(tiebeam_framework: Make) -> None:
    async with tiebeam_framework() as framework:
        other = {"component": "other", "subscription": "other"}
        before = 0.0
        for n in range(1_500):
            made = framework.bus.subscribe("a.b", lambda event: None, name=f"once_{n}")
            await framework.bus.publish("a.b")
            await framework.settle()
            made.cancel()
            if n % 250 == 0:
                seen = read(framework)
                now = seen.samples.get(
                    ("tiebeam_subscription_received_total", frozenset(other.items())), 0.0
                )
                assert now >= before
                before = now
        seen = read(framework)
        name = "tiebeam_subscription_received_total"
        received = [value for (sample, _), value in seen.samples.items() if sample == name]
        assert (len(received), sum(received)) == (1_001, 1_500)
        assert seen.value(name, **other) == 500


async def test_there_is_an_end_to_series(tiebeam_framework: Make) -> None:
    async with tiebeam_framework() as framework:
        for n in range(1_200):
            framework.bus.subscribe("a.b", lambda event: None, name=f"handler_{n}")
        await framework.bus.publish("a.b")
        await framework.settle()
        seen = read(framework)
        received = [
            value
            for (name, _), value in seen.samples.items()
            if name == "tiebeam_subscription_received_total"
        ]
        assert len(received) == 1_001
        other = {"component": "other", "subscription": "other"}
        assert seen.value("tiebeam_subscription_received_total", **other) == 200
        assert sum(received) == 1_200


@pytest.mark.parametrize(
    ("accept", "media_type", "parse"),
    [
        (
            "application/openmetrics-text; version=1.0.0",
            "application/openmetrics-text",
            openmetrics,
        ),
        ("*/*", "text/plain; version=0.0.4", prometheus),
    ],
)
async def test_a_scrape_gets_the_form_that_it_asks_for(
    tiebeam_framework: Make, accept: str, media_type: str, parse: Any
) -> None:
    async with tiebeam_framework(ON, components=[Trader]) as framework:
        status, headers, text = ask(framework, "/metrics", headers={"Accept": accept})
        assert status == 200
        assert headers["content-type"].startswith(media_type)
        assert Read(text, parse).value("tiebeam_system_ready") == 1
        assert text.endswith("# EOF\n") == (parse is openmetrics)
