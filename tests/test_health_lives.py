"""When checks are asked first, and what a new life of a component means for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from test_health_endpoint import ON, ask
from tiebeam import ClosedError, Component, Framework, Health, check
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]


class Feed(Component):
    """Its check answers when it is allowed to, and with what it is told to."""

    restart = "temporary"

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.answer: Health = Health.ok()
        self.asked = 0
        self.begun = asyncio.Event()

    @check(kind="dependency", timeout=60)
    async def exchange(self) -> Health:
        self.asked += 1
        self.begun.set()
        await self.open.wait()
        return self.answer


def said(framework: TestFramework) -> tuple[str, bool, bool]:
    report = framework.health("feed")
    return report["health"], report["ready"], report["live"]


async def test_who_is_started_has_been_asked(tiebeam_framework: Make) -> None:
    feed = Feed()
    feed.open.set()
    async with tiebeam_framework(components=[feed]) as framework:
        assert (feed.asked, said(framework)) == (1, ("pass", True, True))
        await framework.advance(25)
        assert feed.asked == 3


async def test_nobody_is_ready_before_the_first_answer(tiebeam_framework: Make) -> None:
    feed = Feed()
    async with tiebeam_framework(ON, components=[feed]) as framework:
        # The start does not wait for it for ever.
        assert said(framework) == ("unknown", False, True)
        assert framework.health("feed")["details"]["reasons"] == ["no answer yet from exchange"]
        status, _, text = ask(framework, "/readyz")
        assert status == 503
        assert "[-]feed failed: unknown: no answer yet from exchange" in text
        assert ask(framework, "/livez")[0] == 200
        feed.open.set()
        await framework.settle()
        assert said(framework) == ("pass", True, True)
        assert ask(framework, "/readyz")[0] == 200
        changes = [event.payload for event in framework.published("system.health.changed")]
        assert [(change["from"], change["to"]) for change in changes] == [("unknown", "pass")]


async def test_what_is_not_critical_or_about_life_is_not_waited_for(
    tiebeam_framework: Make,
) -> None:
    class Quiet(Component):
        name = "feed"

        async def initialize(self) -> None:
            self.add_check("alive", ttl=60, kind="liveness")
            self.add_check("spread", ttl=60, kind="performance", critical=False)

        @check(kind="dependency", optional=True)
        async def exchange(self) -> None:
            await asyncio.Event().wait()

    async with tiebeam_framework(components=[Quiet]) as framework:
        assert said(framework) == ("pass", True, True)


async def test_one_that_is_told_is_waited_for_where_it_was_there_before_the_start(
    tiebeam_framework: Make,
) -> None:
    class Told(Component):
        name = "feed"

        async def initialize(self) -> None:
            self.cache = self.add_check("cache", ttl=600)

    async with tiebeam_framework(components=[Told]) as framework:
        feed = framework.get(Told)
        assert said(framework) == ("unknown", False, True)
        feed.cache.report()
        assert said(framework) == ("pass", True, True)
        # Who is at work goes on while one more is asked for the first time.
        feed.add_check("other", ttl=600)
        assert said(framework) == ("pass", True, True)


async def test_a_restart_forgets_what_the_checks_said(tiebeam_framework: Make) -> None:
    feed = Feed()
    feed.open.set()
    async with tiebeam_framework(components=[feed]) as framework:
        feed.answer = Health.fail("gone")
        for _ in range(3):
            await framework.check("feed")
        assert said(framework) == ("fail", False, True)
        feed.answer = Health.ok()
        feed.open.clear()
        await framework.restart_component("feed")
        # Nothing is known of it, and it says why.
        assert said(framework) == ("unknown", False, True)
        assert framework.status("feed")["degradations"] == {}
        assert framework.status("feed")["state"] == "running"
        before = feed.asked
        feed.open.set()
        await framework.settle()
        assert said(framework) == ("pass", True, True)
        assert feed.asked >= before
        # What they said before is history.
        results = [record["result"] for record in framework.health_history("feed")["exchange"]]
        assert results == ["pass", "fail", "fail", "fail", "pass"]


async def test_a_failure_before_the_restart_is_no_part_of_those_in_a_row(
    tiebeam_framework: Make,
) -> None:
    feed = Feed()
    feed.open.set()
    async with tiebeam_framework(components=[feed]) as framework:
        feed.answer = Health.fail("gone")
        for _ in range(2):
            await framework.check("feed")
        assert said(framework)[0] == "pass"
        feed.answer = Health.ok()
        await framework.restart_component("feed")
        await framework.settle()
        feed.answer = Health.fail("gone")
        assert (await framework.check("feed"))["health"] == "pass"


async def test_nor_does_it_count_towards_a_recovery(tiebeam_framework: Make) -> None:
    class Beats(Component):
        name = "feed"
        healthy = False

        @check()
        async def beat(self) -> bool:
            return self.healthy

    beats = Beats()
    async with tiebeam_framework(components=[beats]) as framework:
        await framework.check("feed")  # the second failure of three
        await framework.restart_component("feed")
        await framework.settle()
        assert len(framework.health_history("feed")["beat"]) == 3
        assert framework.status("feed")["restarts"] == 0
        await framework.check("feed")
        assert framework.status("feed")["restarts"] == 0
        await framework.check("feed")
        await framework.advance(10)
        assert framework.status("feed")["restarts"] == 1


def test_a_start_that_was_cancelled_may_be_made_again(run: Any) -> None:
    async def main() -> None:
        feed = Feed()
        framework = Framework({"logging": {"console": False}}, components=[feed])
        start = asyncio.ensure_future(framework.start())
        await feed.begun.wait()
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert framework.state == "created"
        feed.open.set()
        assert (await framework.start())["started"] == ["feed"]
        assert (framework.state, framework.health("feed")["ready"]) == ("running", True)
        await framework.stop()

    run(main())


def test_who_was_stopped_while_the_broker_was_awaited_starts_nothing(run: Any) -> None:
    class Starts(Component):
        started = False

        async def start(self) -> None:
            self.started = True

    async def main() -> None:
        bus = {
            "implementation": "redis",
            "connection_string": "redis://127.0.0.1:1/0",
            "required": False,
            "connect_timeout": 2,
        }
        alone = {"auto_discovery": False}
        component = Starts()
        framework = Framework(
            {"logging": {"console": False}, "event_bus": bus, "service_registry": alone},
            components=[component],
        )
        start = asyncio.ensure_future(framework.start())
        while framework.state != "starting":  # noqa: ASYNC110 - it tells nobody yet
            await asyncio.sleep(0)
        await framework.stop()
        with pytest.raises(ClosedError, match="cannot start: the framework is stop"):
            await start
        assert (framework.state, component.started) == ("stopped", False)

    run(main())


async def test_flickering_ends_with_the_life(tiebeam_framework: Make) -> None:
    feed = Feed()
    feed.open.set()
    values = {"health": {"failure_threshold": 1}}
    async with tiebeam_framework(values, components=[feed]) as framework:
        for n in range(6):
            feed.answer = Health.ok() if n % 2 else Health.fail("gone")
            await framework.check("feed")
        assert said(framework)[0] == "warn"
        await framework.restart_component("feed")
        await framework.settle()
        assert said(framework)[0] == "pass"
        told = [e.payload["flapping"] for e in framework.published("system.health.flapping")]
        assert told == [True, False]


def test_in_real_time_the_start_has_asked_too(run: Any) -> None:
    async def main() -> None:
        feed = Feed()
        feed.open.set()
        async with Framework({"logging": {"console": False}}, components=[feed]) as framework:
            report = framework.health("feed")
            assert (feed.asked, report["ready"], report["health"]) == (1, True, "pass")

    run(main())
