"""What a component and the system say about their health."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import Component, ConfigurationError, Framework, Health, check, subscribe
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]

MODEL = ["component_id", "status", "version", "uptime", "last_checked", "details", "metrics"]
"""The requirement's health model, in its order."""


class Collector(Component):
    """Has everything that the requirement's example shows."""

    name = "data_collection_framework"
    version = "2.3.4"

    async def health_check(self) -> dict[str, Any]:
        return {"binance_connection": "connected"}

    @check(kind="dependency")
    def database(self) -> dict[str, Any]:
        return {"database_connection": "connected"}

    @subscribe("market_data.raw")
    async def on_raw(self, event: Any) -> None:
        if event.payload["n"] == 3:
            raise ValueError("odd data")
        await self.publish_event("market_data.price_update", {"n": event.payload["n"]})


async def test_the_requirements_model(tiebeam_framework: Make, tiebeam_clock: Any) -> None:
    async with tiebeam_framework(components=[Collector]) as framework:
        begun = framework.health("data_collection_framework")["last_checked"]
        assert begun == tiebeam_clock.unix_ms()  # whoever is started has been asked
        for n in range(5):
            await framework.bus.publish("market_data.raw", {"n": n})
        await framework.advance(65)
        report = framework.health("data_collection_framework")
        assert list(report)[:7] == MODEL
        assert report["component_id"] == "data_collection_framework"
        assert (report["status"], report["version"]) == ("running", "2.3.4")
        assert report["uptime"] == 65
        assert report["last_checked"] == tiebeam_clock.unix_ms() - 5_000
        assert report["metrics"] == {
            "events_processed": 4,
            "events_published": 4,
            "errors_encountered": 1,
        }
        details = report["details"]
        assert details["binance_connection"] == details["database_connection"] == "connected"
        assert 1 < details["memory_usage"] < 100_000
        assert details["event_processing_delay"] >= 0
        assert (report["live"], report["ready"]) == (True, True)
        assert json.loads(json.dumps(report)) == report


async def test_the_system_adds_up(tiebeam_framework: Make) -> None:
    class Other(Component):
        pass

    values = {"system": {"name": "demo", "version": "9.1"}}
    async with tiebeam_framework(values, components=[Collector, Other]) as framework:
        await framework.bus.publish("market_data.raw", {"n": 0})
        await framework.advance(10)
        health = framework.health()
        assert (health["name"], health["version"], health["status"]) == ("demo", "9.1", "pass")
        assert health["metrics"]["events_processed"] == 1
        assert [c["component_id"] for c in health["components"]] == [
            "data_collection_framework",
            "other",
        ]
        with pytest.raises(ConfigurationError, match="did you mean `other`"):
            framework.health("othre")


async def test_health_follows_the_life_of_a_component(tiebeam_framework: Make) -> None:
    framework = tiebeam_framework(components=[Collector])

    def seen() -> tuple[str, str, bool, bool]:
        report = framework.health("data_collection_framework")
        return report["status"], report["health"], report["live"], report["ready"]

    assert seen() == ("initialized", "out_of_service", True, False)
    async with framework:
        assert seen() == ("running", "pass", True, True)
    assert seen() == ("stopped", "out_of_service", True, False)


ANSWERS = [
    (lambda: None, "pass", {}),
    (lambda: True, "pass", {}),
    (lambda: {"window": 3}, "pass", {"window": 3}),
    (lambda: Health.ok("fine", n=1), "pass", {"n": 1}),
    (lambda: Health.warn("slow", ms=900), "warn", {"ms": 900}),
    (lambda: Health.fail("gone", host="h"), "fail", {"host": "h"}),
    (lambda: False, "fail", {}),
    (lambda: 1 / 0, "fail", {}),
    (lambda: "well", "fail", {}),
    (lambda: {"what": object()}, "fail", {}),
]


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize(("answer", "verdict", "details"), ANSWERS)
async def test_answers_of_a_check(
    tiebeam_framework: Make, answer: Any, verdict: str, details: dict[str, Any], is_async: bool
) -> None:
    class Asked(Component):
        pass

    if is_async:

        async def health_check(self: Any) -> Any:
            return answer()

        Asked.health_check = health_check  # type: ignore[method-assign]
    else:
        Asked.health_check = lambda self: answer()  # type: ignore[method-assign]
    async with tiebeam_framework(components=[Asked]) as framework:
        report = await framework.check("asked")
        assert report["health"] == verdict
        for key, value in details.items():
            assert report["details"][key] == value


@pytest.mark.parametrize(
    ("kind", "critical", "health", "live", "ready"),
    [
        ("liveness", True, "fail", False, True),
        ("readiness", True, "fail", True, False),
        ("dependency", True, "fail", True, False),
        ("performance", True, "fail", True, False),
        ("resource", True, "fail", True, False),
        ("dependency", False, "warn", True, True),
        ("performance", False, "warn", True, True),
        ("resource", False, "warn", True, True),
    ],
)
async def test_what_a_failing_check_of_each_kind_means(
    tiebeam_framework: Make, kind: str, critical: bool, health: str, live: bool, ready: bool
) -> None:
    class Checked(Component):
        @check(kind=kind, critical=critical)
        async def extra(self) -> Any:
            return Health.fail("broken", part="extra")

    async with tiebeam_framework(components=[Checked]) as framework:
        report = await framework.check("checked")
        assert (report["health"], report["live"], report["ready"]) == (health, live, ready)
        assert report["details"]["part"] == "extra"
        assert "broken" in report["details"]["reasons"][0]
        assert framework.status("checked")["state"] == "degraded"
        assert "check:extra" in framework.status("checked")["degradations"]


def test_a_kind_that_is_none() -> None:
    class Wrong(Component):
        @check(kind="livenes")
        async def extra(self) -> None: ...

    complaint = r'check "extra" of `wrong`: kind: .*did you mean `liveness`'
    with pytest.raises(ConfigurationError, match=complaint):
        Framework(components=[Wrong])


def test_a_check_that_could_only_fail() -> None:
    class Wrong(Component):
        @check()
        def extra(self, what: str) -> None: ...

    with pytest.raises(TypeError, match=r"check 'Wrong\.extra' is asked without arguments"):
        Framework(components=[Wrong])


def test_a_check_has_its_parentheses() -> None:
    with pytest.raises(TypeError, match=re.escape("write @check(), with parentheses")):

        class Wrong(Component):
            @check  # type: ignore[call-arg,arg-type]
            def extra(self) -> None: ...


async def test_checks_run_in_the_background_each_at_its_own_pace(
    tiebeam_framework: Make, tiebeam_clock: Any
) -> None:
    times: dict[str, list[float]] = {"own": [], "plain": [], "fast": []}

    class Paced(Component):
        async def health_check(self) -> None:
            times["own"].append(tiebeam_clock.monotonic())

        @check(kind="readiness")
        async def plain(self) -> None:
            times["plain"].append(tiebeam_clock.monotonic())

        @check(kind="performance", period=2)
        async def fast(self) -> None:
            times["fast"].append(tiebeam_clock.monotonic())

    async with tiebeam_framework(
        {"health": {"check_interval": 5}}, components=[Paced]
    ) as framework:
        await framework.advance(10.5)
    assert times["own"] == times["plain"] == [pytest.approx(n) for n in (0, 5, 10)]
    assert times["fast"] == [pytest.approx(n) for n in (0, 2, 4, 6, 8, 10)]


async def test_hysteresis(tiebeam_framework: Make) -> None:
    answers: list[bool] = [True]

    class Flickers(Component):
        restart = "temporary"

        @check(kind="dependency")
        async def link(self) -> bool:
            return answers[-1]

    values = {"health": {"failure_threshold": 3, "success_threshold": 2}}
    async with tiebeam_framework(values, components=[Flickers]) as framework:

        async def feed(answer: bool) -> str:
            answers.append(answer)
            return str((await framework.check("flickers"))["health"])

        assert await feed(True) == "pass"
        # Three failures in a row are a failure; fewer change nothing.
        assert [await feed(False) for _ in range(3)] == ["pass", "pass", "fail"]
        # Two successes in a row are a recovery.
        assert [await feed(True), await feed(False)] == ["fail", "fail"]
        assert [await feed(True), await feed(True)] == ["fail", "pass"]


async def test_a_check_that_hangs_fails_in_its_time(
    tiebeam_framework: Make, tiebeam_clock: Any
) -> None:
    cancelled = []

    class Hangs(Component):
        @check(kind="dependency", critical=False)
        async def ping(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append("ping")
                raise

        @check(kind="dependency", critical=False, timeout=4)
        async def slow(self) -> None:
            await asyncio.Event().wait()

    values = {"health": {"check_timeout": 2}}
    async with tiebeam_framework(values, components=[Hangs]) as framework:
        await framework.advance(5)  # those that are asked at once have come to their end
        cancelled.clear()
        before = tiebeam_clock.monotonic()
        report = await framework.check("hangs")
        assert tiebeam_clock.monotonic() - before == pytest.approx(4)
        assert report["health"] == "warn"
        reasons = " ".join(report["details"]["reasons"])
        assert "within 2 s" in reasons
        assert "within 4 s" in reasons
        assert cancelled == ["ping"]


def test_a_sync_check_that_hangs_holds_one_thread_only(run: Any) -> None:
    release = threading.Event()
    entered: list[str] = []

    class Stuck(Component):
        @check(kind="dependency", critical=False)
        def ping(self) -> None:
            entered.append(threading.current_thread().name)
            release.wait(GUARD)

    async def main() -> None:
        values = {"health": {"check_timeout": 0.02}, "logging": {"console": False}}
        async with Framework(values, components=[Stuck]) as framework:
            for _ in range(3):
                report = await framework.check("stuck")
                assert report["health"] == "warn"
            assert "has not come back" in report["details"]["reasons"][0]
            assert len(entered) == 1
            release.set()

    try:
        run(main())
    finally:
        release.set()


async def test_the_history_keeps_the_last_results(tiebeam_framework: Make) -> None:
    class Counts(Component):
        runs = 0

        async def health_check(self) -> dict[str, Any]:
            self.runs += 1
            return {"run": self.runs}

    values = {"health": {"history_length": 3}}
    async with tiebeam_framework(values, components=[Counts]) as framework:
        await framework.advance(55)
        (records,) = framework.health_history("counts").values()
        assert [record["details"]["run"] for record in records] == [4, 5, 6]
        assert {record["result"] for record in records} == {"pass"}
        assert records[1]["timestamp"] - records[0]["timestamp"] == 10_000


async def test_nobody_is_asked_who_does_not_run(tiebeam_framework: Make) -> None:
    asked = []

    class Quiet(Component):
        async def health_check(self) -> None:
            asked.append(self.state)

    async with tiebeam_framework(components=[Quiet]) as framework:
        await framework.stop_component("quiet")
        asked.clear()
        await framework.advance(60)
        await framework.check("quiet")
        assert asked == []


async def test_secrets_in_details_are_masked(tiebeam_framework: Make) -> None:
    class Talks(Component):
        async def health_check(self) -> dict[str, Any]:
            return {"api_key": "sk-123", "url": "redis://me:hunter2@host", "pool": 3}

    async with tiebeam_framework(components=[Talks]) as framework:
        for report in (await framework.check("talks"), framework.health("talks")):
            assert report["details"]["pool"] == 3
            assert "sk-123" not in str(report)
            assert "hunter2" not in str(report)


def test_a_health_is_a_value() -> None:
    assert Health.warn("slow", ms=3) == Health("warn", "slow", {"ms": 3})
    assert Health.of({"a": 1}) == Health.ok(a=1)
    assert repr(Health.fail("gone")) == "<Health fail 'gone' {}>"
    with pytest.raises(ValueError, match="'pass', 'warn' or 'fail'"):
        Health("bad")
    assert Health.of(3) == Health.measured(3.0)
    assert repr(Health.measured(0.25, "slow")) == "<Health pass 0.25 'slow' {}>"
    with pytest.raises(TypeError, match="got str"):
        Health.of("well")


async def test_a_notebook_shows_health_as_a_table(tiebeam_framework: Make) -> None:
    class Slow(Component):
        @check(kind="dependency", critical=False)
        async def exchange(self) -> Health:
            return Health.fail("answers <late>")

    async with tiebeam_framework(components=[Slow, Collector]) as framework:
        await framework.check("slow")
        rows = framework.health()._repr_html_().split("<tr>")
        assert len(rows) == 4
        assert "<td>slow</td><td>degraded</td><td>warn</td>" in rows[2]
        assert "exchange: answers &lt;late&gt;" in rows[2]
        assert rows[2] in framework.health("slow")._repr_html_()
        assert json.loads(json.dumps(framework.health())) == framework.health()


async def test_measured_values_are_judged_by_the_checks_limits(tiebeam_framework: Make) -> None:
    values: list[float] = [9]

    class Queue(Component):
        restart = "temporary"

        @check(kind="performance", critical=False, failure_threshold=1, warn_at=10, fail_at=100)
        async def delay(self) -> float:
            return values[-1]

        @check(kind="resource", optional=True, failure_threshold=1, fail_at=5, lower_is_worse=True)
        async def free(self) -> Health:
            return Health.measured(values[-1], free_mb=values[-1])

    async with tiebeam_framework(components=[Queue]) as framework:

        async def feed(value: float) -> tuple[str, list[str]]:
            values.append(value)
            report = await framework.check("queue")
            return report["health"], report["details"].get("reasons", [])

        assert await feed(9.9) == ("pass", [])
        assert await feed(10) == ("warn", ["delay: warn at 10"])
        assert (await feed(100))[0] == "warn"  # it is not critical
        assert await feed(4) == ("pass", [])  # the resource is short, and only noted
        history = framework.health_history("queue")["free"]
        assert [record["health"] for record in history] == ["pass", "pass", "pass", "pass", "fail"]
        assert [record["value"] for record in history] == [9, 9.9, 10, 100, 4]


async def test_a_check_may_warn_before_it_fails(tiebeam_framework: Make) -> None:
    answers: list[bool] = []

    class Link(Component):
        restart = "temporary"

        @check(kind="dependency", warn_threshold=2, failure_threshold=4)
        async def ping(self) -> bool:
            return answers[-1]

    async with tiebeam_framework(components=[Link]) as framework:
        seen = []
        for answer in [True, False, False, False, False, True]:
            answers.append(answer)
            seen.append((await framework.check("link"))["health"])
        assert seen == ["pass", "pass", "warn", "warn", "fail", "pass"]


def test_thresholds_that_make_no_sense_are_refused(tiebeam_framework: Make) -> None:
    class Wrong(Component):
        @check(warn_threshold=4, failure_threshold=2)
        async def ping(self) -> bool:
            return True

    with pytest.raises(ConfigurationError, match="`warn` at most `fail`"):
        tiebeam_framework(components=[Wrong])
