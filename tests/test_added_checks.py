"""Checks that are added while the system runs, and those that are reported instead of asked."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from tiebeam import (
    Component,
    ConfigurationError,
    Framework,
    Health,
    LifecycleError,
    PayloadError,
    check,
)
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]


class Worker(Component):
    """Has one check of its own."""

    restart = "temporary"

    @check(kind="dependency")
    async def own(self) -> None: ...


async def test_a_check_that_is_added_is_asked_from_then_on(tiebeam_framework: Make) -> None:
    asked: list[str] = []
    worker = Worker()

    async def cache() -> Health:
        asked.append("cache")
        return Health.warn("cold", hit_rate=0.1)

    def disk() -> float:
        asked.append("disk")
        return 95.0

    async with tiebeam_framework(components=[worker]) as framework:
        await framework.advance(7)
        worker.add_check("cache", cache, period=2)
        worker.add_check("disk", disk, kind="resource", critical=False, fail_at=90)
        await framework.advance(4.5)
        assert asked == ["cache", "disk", "cache", "cache"]  # at once, and in each period
        report = framework.health("worker")
        assert (report["health"], report["details"]["hit_rate"]) == ("warn", 0.1)
        await framework.check("worker")
        assert framework.health_history("worker")["disk"][0]["value"] == 95
        assert framework.status("worker")["degradations"].keys() == {"check:cache", "check:disk"}


async def test_a_check_that_is_removed_counts_no_more(tiebeam_framework: Make) -> None:
    worker = Worker()

    async def broken() -> bool:
        return False

    async with tiebeam_framework(components=[worker]) as framework:
        added = worker.add_check("broken", broken, kind="dependency")
        assert (await framework.check("worker"))["health"] == "fail"
        added.remove()
        added.remove()
        assert framework.health("worker")["health"] == "pass"
        assert framework.status("worker")["state"] == "running"
        assert "broken" not in framework.health_history("worker")
        await framework.advance(30)
        assert framework.health("worker")["health"] == "pass"
        with pytest.raises(ConfigurationError, match="was removed"):
            added.report()


async def test_a_check_of_the_same_name_takes_its_place(tiebeam_framework: Make) -> None:
    class Restarts(Component):
        starts = 0

        async def start(self) -> None:
            self.starts += 1
            starts = self.starts
            self.add_check("life", lambda: {"life": starts})

    async with tiebeam_framework(components=[Restarts]) as framework:
        assert (await framework.check("restarts"))["details"]["life"] == 1
        await framework.restart_component("restarts")
        assert (await framework.check("restarts"))["details"]["life"] == 2
        assert list(framework.health_history("restarts")) == ["health_check", "life"]


async def test_what_takes_the_place_of_a_failure_takes_that_away(
    tiebeam_framework: Make,
) -> None:
    worker = Worker()
    async with tiebeam_framework(components=[worker]) as framework:
        worker.add_check("link", lambda: False, kind="dependency")
        await framework.settle()
        assert framework.status("worker")["state"] == "degraded"
        worker.add_check("link", lambda: True, kind="dependency")
        assert framework.status("worker")["state"] == "running"


async def test_what_was_added_lasts_over_a_restart(tiebeam_framework: Make) -> None:
    worker = Worker()
    async with tiebeam_framework(components=[worker]) as framework:
        worker.add_check("fact", lambda: {"fact": 1})
        await framework.restart_component("worker")
        await framework.advance(10)
        assert framework.health("worker")["details"]["fact"] == 1


async def test_a_silence_that_lasts_too_long_is_a_failure(tiebeam_framework: Make) -> None:
    worker = Worker()
    async with tiebeam_framework(components=[worker]) as framework:
        beat = worker.add_check("beat", ttl=timedelta(seconds=10), kind="dependency")

        def health() -> str:
            return str(framework.health("worker")["health"])

        await framework.advance(10)
        assert health() == "pass"  # not longer than that
        await framework.advance(0.1)
        assert health() == "fail"
        reasons = framework.health("worker")["details"]["reasons"]
        assert reasons == ["beat: nothing was reported for 10 s"]
        beat.report()
        assert health() == "pass"
        await framework.advance(9)
        beat.report(Health.warn("slow", ms=900))
        assert (health(), framework.health("worker")["details"]["ms"]) == ("warn", 900)
        await framework.advance(9)
        assert health() == "warn"
        beat.report(False)
        assert health() == "fail"
        assert framework.health("worker")["ready"] is False
        beat.report(3.5)
        assert framework.health_history("worker")["beat"][-1]["value"] == 3.5


async def test_a_watchdog_restarts_its_component(tiebeam_framework: Make) -> None:
    class Stalls(Component):
        starts = 0

        async def initialize(self) -> None:
            self.beat = self.add_check("beat", ttl=5, kind="liveness")

        async def start(self) -> None:
            self.starts += 1

    async with tiebeam_framework(components=[Stalls]) as framework:
        stalls = framework.get(Stalls)
        for _ in range(4):
            await framework.advance(4)
            stalls.beat.report()
        assert stalls.starts == 1
        await framework.advance(6)
        assert stalls.starts == 2
        (told,) = framework.published("system.supervisor.restarting")
        assert told.payload["cause"] == "watchdog"


async def test_time_does_not_run_while_the_component_does_not(tiebeam_framework: Make) -> None:
    worker = Worker()
    async with tiebeam_framework(components=[worker]) as framework:
        worker.add_check("beat", ttl=10)
        await framework.advance(8)
        await framework.stop_component("worker")
        await framework.advance(60)
        await framework.start_component("worker")
        await framework.advance(9.5)
        # What it said in its life before counts no more, and it has not said anything yet.
        assert framework.health("worker")["health"] == "unknown"
        await framework.advance(1)
        assert framework.health("worker")["health"] == "fail"


def test_a_report_from_any_thread(run: Any) -> None:
    async def main() -> None:
        worker = Worker()
        async with Framework({"logging": {"console": False}}, components=[worker]) as framework:
            beat = worker.add_check("beat", ttl=3600)
            threads = [threading.Thread(target=beat.report, args=({"n": n},)) for n in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                await asyncio.to_thread(thread.join)
            assert len(framework.health_history("worker")["beat"]) == 20

    run(main())


async def test_what_makes_no_sense_is_refused(tiebeam_framework: Make) -> None:
    worker = Worker()
    with pytest.raises(LifecycleError, match="does not belong to a framework"):
        worker.add_check("early", lambda: None)
    async with tiebeam_framework(components=[worker]):
        for wrong, error, complaint in (
            (lambda: worker.add_check("x"), TypeError, "either a function to ask, or ttl="),
            (lambda: worker.add_check("x", lambda: None, ttl=1), TypeError, "either a function"),
            (lambda: worker.add_check("x", ttl=1, period=2), TypeError, "period= is for checks"),
            (lambda: worker.add_check("x", ttl=0), ValueError, "ttl must be above 0"),
            (lambda: worker.add_check("x", ttl=-1), ValueError, "ttl"),
            (lambda: worker.add_check("x", ttl="1"), TypeError, "ttl"),
            (lambda: worker.add_check("", lambda: None), ConfigurationError, "printable"),
            (lambda: worker.add_check("own", lambda: None), ConfigurationError, "a method `own`"),
            (
                lambda: worker.add_check("x", lambda: None, kind="livenes"),
                ConfigurationError,
                "did you mean `liveness`",
            ),
            (lambda: worker.add_check("x", lambda: None, often=True), TypeError, "often"),
        ):
            with pytest.raises(error, match=complaint):
                wrong()
        asked = worker.add_check("asked", lambda: None)
        with pytest.raises(ConfigurationError, match="is asked"):
            asked.report()
        assert repr(asked) == "<AddedCheck worker.asked asked>"
        with pytest.raises(TypeError, match="got str"):
            worker.add_check("told", ttl=1).report("well")


ODD: list[tuple[str, Any, dict[str, Any], type[Exception], str]] = [
    ("x", 5, {}, TypeError, "check 'x' needs a function to ask, `def` or `async def`, got 5"),
    ("x", lambda a: a, {}, TypeError, "asked without arguments"),
    ("   ", lambda: None, {}, ConfigurationError, "such as 'connection to db1', got '   '"),
    ("x" * 201, lambda: None, {}, ConfigurationError, "at most 200 characters, got 201"),
    (None, lambda: None, {}, ConfigurationError, "printable text, such as"),
    (
        "x",
        lambda: None,
        {"period": 0},
        ConfigurationError,
        "`worker`: check `x`: period and timeout",
    ),
    (
        "x",
        lambda: None,
        {"timeout": -1},
        ValueError,
        'check "x" of `worker`: timeout: a duration cannot',
    ),
    ("x", lambda: None, {"period": "soon"}, TypeError, 'check "x" of `worker`: period: a'),
    ("x", lambda: None, {"kind": 5}, TypeError, '"x" of `worker`: kind is text, got int 5'),
    ("x", lambda: None, {"critical": "no"}, TypeError, "critical is True or False, got str 'no'"),
    ("x", lambda: None, {"failure_threshold": 0}, ConfigurationError, "at least 1"),
    ("x", lambda: None, {"failure_threshold": 1.5}, TypeError, "failure_threshold is a whole"),
    ("x", lambda: None, {"warn_at": "5"}, TypeError, "warn_at is a number, got str '5'"),
    ("x", lambda: None, {"warn_at": float("nan")}, ConfigurationError, "reach the limit"),
    ("x", lambda: None, {"fail_treshold": 2}, TypeError, "did you mean failure_threshold=?"),
    ("x", lambda: None, {"limit": 2}, TypeError, "there are kind, critical"),
    ("x", None, {"ttl": float("inf")}, ValueError, "ttl: a duration cannot be inf"),
    ("x", None, {"ttl": 1e300}, ValueError, "ttl: a duration cannot be 1e300 s"),
    ("x", None, {"ttl": 1, "kind": "liv"}, ConfigurationError, "of `worker`: kind: `liv` is no"),
]


@pytest.mark.parametrize(("name", "function", "options", "error", "complaint"), ODD)
async def test_odd_arguments_are_told_what_is_wrong_with_them(
    tiebeam_framework: Make,
    name: Any,
    function: Any,
    options: dict[str, Any],
    error: type[Exception],
    complaint: str,
) -> None:
    worker = Worker()
    async with tiebeam_framework(components=[worker]) as framework:
        with pytest.raises(error, match=re.escape(complaint)):
            worker.add_check(name, function, **options)
        assert list(framework.health_history("worker")) == ["health_check", "own"]


async def test_what_a_function_gives_is_not_the_function(tiebeam_framework: Make) -> None:
    async def ping() -> None: ...

    worker = Worker()
    async with tiebeam_framework(components=[worker]):
        with pytest.raises(TypeError, match="leave out the parentheses"):
            worker.add_check("x", ping())  # type: ignore[arg-type]


ANSWERS: list[tuple[Any, str]] = [
    ("well", "a health check returns None, a bool, a number, a dict of details or a Health"),
    (float("nan"), "what it measured is no number (NaN)"),
    (10**400, "too large for a float"),
    (("pass", "fine"), "got tuple"),
    ({"what": object()}, "what"),
]


@pytest.mark.parametrize(("answer", "complaint"), ANSWERS)
async def test_an_answer_that_is_none_fails_and_says_why(
    tiebeam_framework: Make, answer: Any, complaint: str
) -> None:
    worker = Worker()
    async with tiebeam_framework(components=[worker]) as framework:
        worker.add_check("odd", lambda: answer, kind="dependency", failure_threshold=1)
        report = await framework.check("worker")
        assert report["health"] == "fail"
        assert complaint in report["details"]["reasons"][0]


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"message": 5}, "the message of a health is text, got 5"),
        ({"details": [1]}, "the details of a health are a dict of facts"),
        ({"value": "much"}, "a measured value is a number, got 'much'"),
        ({"value": True}, "a measured value is a number, got True"),
    ],
)
def test_a_health_that_is_none(how: dict[str, Any], complaint: str) -> None:
    with pytest.raises(TypeError, match=re.escape(complaint)):
        Health("pass", **how)


def test_any_number_is_one() -> None:
    assert Health.of(Decimal("2.5")) == Health.measured(2.5)
    assert Health.of(Fraction(1, 4)).value == 0.25


async def test_there_is_an_end_to_checks(tiebeam_framework: Make) -> None:
    worker = Worker()
    async with tiebeam_framework(components=[worker]):
        for n in range(998):
            worker.add_check(f"check_{n}", ttl=60)
        with pytest.raises(ConfigurationError, match="may have no more"):
            worker.add_check("one too many", ttl=60)


async def test_who_is_not_at_work_is_not_restarted_for_what_it_says(
    tiebeam_framework: Make,
) -> None:
    class Starts(Component):
        async def start(self) -> None:
            self.add_check("ready", ttl=60).report(Health.warn("warming up"))

    async with tiebeam_framework(components=[Starts]) as framework:
        starts = framework.get(Starts)
        # What is said during the start is known after it.
        assert framework.status("starts")["state"] == "degraded"
        added = starts.add_check("life", ttl=60, kind="liveness")
        await framework.stop_component("starts")
        for _ in range(20):
            added.report(False)
        await framework.settle()
        status = framework.status("starts")
        assert (status["state"], status["given_up"], status["restarts"]) == ("stopped", False, 0)


async def test_a_watchdog_that_is_made_with_each_start_gives_its_component_up_in_the_end(
    tiebeam_framework: Make,
) -> None:
    class Silent(Component):
        starts = 0

        async def start(self) -> None:
            self.starts += 1
            self.add_check("alive", ttl=40, kind="liveness")

    configuration = {"supervision": {"cooldown": 0}}
    async with tiebeam_framework(configuration, components=[Silent]) as framework:
        silent = framework.get(Silent)
        await framework.advance(40 * 50)
        assert silent.state == "failed"
        assert 1 < silent.starts < 10


async def test_what_was_replaced_reports_no_more_and_a_mistake_replaces_nothing(
    tiebeam_framework: Make,
) -> None:
    worker = Worker()
    async with tiebeam_framework(components=[worker]) as framework:
        first = worker.add_check("feed", ttl=100, kind="performance")
        second = worker.add_check("feed", ttl=100, kind="performance")
        with pytest.raises(ConfigurationError, match="replaced by another"):
            first.report(Health.fail("of before"))
        first.remove()
        second.report(Health.warn("slow"))
        assert framework.health("worker")["health"] == "warn"
        for ttl in (-1.0, float("nan"), 0.0):
            with pytest.raises((ConfigurationError, ValueError)):
                worker.add_check("feed", ttl=ttl)
        second.report(True)  # it is there yet
        assert framework.health("worker")["health"] == "pass"


async def test_what_the_core_measures_makes_way_for_the_components_own(
    tiebeam_framework: Make,
) -> None:
    worker = Worker()
    configuration = {"health": {"limits": {"loop_lag": {"warn": "1s"}}}}
    async with tiebeam_framework(configuration, components=[worker]):
        lag = worker.add_check("loop_lag", ttl=100, kind="performance")
        lag.report(0.5)


async def test_and_measures_again_once_that_is_gone(tiebeam_framework: Make) -> None:
    worker = Worker()
    configuration = {"health": {"limits": {"queue_delay": {"warn": "1s"}}}}
    async with tiebeam_framework(configuration, components=[worker]) as framework:
        added = worker.add_check("queue_delay", ttl=100, kind="performance", critical=False)
        added.report(False)
        assert framework.health("worker")["health"] == "warn"
        added.remove()
        await framework.advance(10)
        assert framework.health("worker")["health"] == "pass"
        assert framework.health_history("worker")["queue_delay"][-1]["value"] == 0


async def test_what_it_does_not_say_itself_is_as_it_was_at_the_start(
    tiebeam_framework: Make,
) -> None:
    worker = Worker()
    async with tiebeam_framework(components=[worker]) as framework:
        await framework.configure({"health.check_interval": "1s"})
        worker.add_check("cache", lambda: True)
        await framework.advance(15)
        assert len(framework.health_history("worker")["cache"]) == 2


@pytest.mark.parametrize("facts", [{"a": {1: 2}}, {"a": object()}])
async def test_a_report_that_nobody_could_read_is_refused(
    tiebeam_framework: Make, facts: Any
) -> None:
    worker = Worker()
    async with tiebeam_framework(components=[worker]):
        with pytest.raises(PayloadError, match=r"details\.a"):
            worker.add_check("told", ttl=1).report(facts)
