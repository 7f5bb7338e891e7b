"""Why a component is as it is: the chain from its present state to what began it."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from tiebeam import (
    Component,
    ConfigurationError,
    Event,
    LifecycleError,
    TiebeamError,
    check,
    respond,
    subscribe,
)
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]


class Exchange(Component):
    sick = False

    async def configure(self, config: dict[str, object]) -> None:
        self.sick = bool(config.get("sick"))

    async def health_check(self) -> None:
        if self.sick:
            raise ConnectionError("no <b>heartbeat</b>")


class Decisions(Component):
    name = "decision_engine"
    depends_on = ["exchange"]
    restart = "transient"


class Screen(Component):
    wants = ["decision_engine"]


def kinds(chain: list[dict[str, object]]) -> list[object]:
    return [link["what"] for link in chain]


async def test_a_component_that_is_well_says_so(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Exchange]) as framework:
        why = framework.why("exchange")
        assert (why.component, why.state, why.cause) == ("exchange", "running", "started")
        (chain,) = why.as_dict()["chains"]
        assert kinds(chain) == ["state", "request"]
        assert why.as_dict()["came_through"] == []
        assert str(why).startswith("exchange is running (since 20")
        assert "system: the system was started" in str(why)
        framework.get(Exchange).fail_component("stumbled")
        await framework.settle()
        await framework.advance(30)
        why = framework.why("exchange")
        assert why.state == "running"
        assert [link["text"] for link in why.as_dict()["came_through"]] == [
            "TransientError: stumbled"
        ]
        (chain,) = why.as_dict()["chains"]
        assert kinds(chain) == ["state", "restarting", "failure"]
        assert "1st restart" in str(why)
        assert "30.0 s ago" in str(why)


async def test_the_chain_goes_from_a_blocked_component_to_the_revision(
    tiebeam_framework: Make,
) -> None:
    values = {"supervision": {"cooldown": 0}, "health": {"recovery_attempts": 0}}
    parts = [Exchange, Decisions, Screen]
    async with tiebeam_framework(values, components=parts) as framework:
        await framework.configure({"components.exchange.sick": True})
        await framework.advance(60)
        why = framework.why("decision_engine")
        assert why.state == "stopped"
        (chain,) = why.as_dict()["chains"]
        causes = [(link["subject"], link["what"]) for link in chain]
        assert causes[0] == ("decision_engine", "state")
        for link in [
            ("exchange", "failure"),
            ("exchange", "check"),
            ("exchange", "configuration"),
            ("configuration", "configuration"),
        ]:
            assert link in causes
        assert causes[-1] == ("configuration", "configuration")
        assert "components.exchange" in chain[-1]["text"]
        ids = [link["id"] for link in chain]
        assert ids == sorted(ids, reverse=True)
        assert [link["because"] for link in chain] == [*ids[1:], None]
        affected = {other["component"]: other for other in why.as_dict()["affects"]}
        assert affected["screen"]["state"] == "degraded"
        screen = str(framework.why("screen"))
        assert screen.index("without decision_engine") < screen.index("no <b>heartbeat</b>")
        assert "it affects" in str(why)
        assert json.loads(json.dumps(why.as_dict())) == why.as_dict()
        assert [a["component"] for a in framework.why("exchange").as_dict()["affects"]] == [
            "decision_engine"
        ]


async def test_html_shows_texts_and_nests(tiebeam_framework: Make) -> None:
    class Nesting(HTMLParser):
        depth = deepest = 0

        def handle_starttag(self, tag: str, _attributes: object) -> None:
            assert tag in ("p", "b", "ul", "li")
            self.depth += tag == "ul"
            self.deepest = max(self.deepest, self.depth)

        def handle_endtag(self, tag: str) -> None:
            self.depth -= tag == "ul"

    async with tiebeam_framework(components=[Exchange]) as framework:
        exchange = framework.get(Exchange)
        exchange.sick = True
        await framework.check("exchange")
        for _ in range(2):
            await framework.check("exchange")
        html = framework.why("exchange")._repr_html_()
        assert "no &lt;b&gt;heartbeat&lt;/b&gt;" in html
        reader = Nesting()
        reader.feed(html)
        assert reader.depth == 0
        assert reader.deepest >= 3


async def test_a_breaker_that_opens_is_in_the_chain(tiebeam_framework: Make) -> None:
    class Archive(Component):
        @subscribe("trade")
        async def keep(self, _event: Event) -> None:
            raise ConnectionError("disk is gone")

    async with tiebeam_framework(components=[Archive]) as framework:
        for _ in range(3):
            framework.bus.publish("trade")
        await framework.advance(10)
        why = framework.why("archive")
        assert why.state == "degraded"
        (chain,) = why.as_dict()["chains"]
        assert kinds(chain) == ["degraded", "breaker", "error"]
        assert chain[-1]["count"] >= 2
        assert "disk is gone" in str(why)


async def test_an_unknown_name_is_told_with_the_nearest(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Exchange]) as framework:
        with pytest.raises(ConfigurationError, match="did you mean `exchange`"):
            framework.why("exchang")


async def test_the_record_is_bounded(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Exchange, Decisions]) as framework:
        for _ in range(200):
            await framework.restart_component("exchange")
        (chain,) = framework.why("decision_engine").as_dict()["chains"]
        assert 2 <= len(chain) <= 32


class Watched(Exchange):
    name = "exchange"
    ill = False

    async def health_check(self) -> None:
        if self.sick or self.ill:
            raise ConnectionError("no heartbeat")


def blamed(why: Any) -> bool:
    return any("configuration" in kinds(chain) for chain in why.as_dict()["chains"])


async def test_a_revision_that_changed_nothing_here_is_not_blamed(tiebeam_framework: Make) -> None:
    values = {"components": {"exchange": {"depth": 1}, "other": {"x": 1}}}

    class Other(Component): ...

    async with tiebeam_framework(values, components=[Watched, Other]) as framework:
        exchange = framework.get(Watched)
        await framework.configure({"components.other.x": 2})
        await framework.restart_component("exchange")
        exchange.fail_component("by itself")
        assert not blamed(framework.why("exchange"))
        await framework.advance(1)
        await framework.configure({"components.exchange.depth": 2})
        await framework.configure({"components.other.x": 3})
        exchange.fail_component("after the change")
        (chain,) = framework.why("exchange").as_dict()["chains"]
        assert "components.exchange.depth" in chain[-1]["text"], "that one, not the last"


async def test_a_change_is_not_blamed_for_what_was_wrong_before(tiebeam_framework: Make) -> None:
    values = {"health": {"failure_threshold": 100}}
    exchange = Watched()
    exchange.ill = True
    async with tiebeam_framework(values, components=[exchange]) as framework:
        await framework.advance(20)
        assert not blamed(framework.why("exchange"))
        await framework.configure({"components.exchange.depth": 2})
        await framework.advance(20)
        assert exchange.state == "degraded"
        assert not blamed(framework.why("exchange"))


async def test_a_change_is_blamed_although_other_checks_pass(tiebeam_framework: Make) -> None:
    class Two(Watched):
        @check(period=1)
        async def quick(self) -> None:
            pass

    async with tiebeam_framework(components=[Two]) as framework:
        await framework.advance(30)
        await framework.configure({"components.exchange": {"sick": True}})
        await framework.advance(19)  # one failure or two, which are borne
        assert framework.why("exchange").state == "running"
        await framework.advance(16)
        texts = str(framework.why("exchange"))
        assert "revision 2: components.exchange" in texts


async def test_a_start_that_fails_with_new_keys_is_because_of_them(tiebeam_framework: Make) -> None:
    class Picky(Component):
        async def configure(self, config: dict[str, object]) -> None:
            self.port = config.get("port", 80)

        async def start(self) -> None:
            if self.port != 80:
                raise OSError("in use")

    values = {"components": {"picky": {"port": 80}}}
    async with tiebeam_framework(values, components=[Picky]) as framework:
        await framework.configure({"components.picky.port": 81})
        with pytest.raises(LifecycleError):
            await framework.restart_component("picky")
        assert "components.picky.port" in str(framework.why("picky"))


async def test_who_listens_to_other_keys_may_fail_because_of_them(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Watched]) as framework:
        exchange = framework.get(Watched)
        exchange.on_configuration_change("logging.level", lambda *_change: None)
        await framework.configure({"logging.level": "debug"})
        exchange.fail_component("confused")
        assert "logging.level" in str(framework.why("exchange"))


async def test_a_storm_of_errors_leaves_the_story(tiebeam_framework: Make) -> None:
    class Noisy(Component):
        @subscribe("n", retry=False)
        async def handle(self, event: Event) -> None:
            raise ValueError(f"bad {event.payload['n']}")

    async with tiebeam_framework(components=[Noisy]) as framework:
        for n in range(300):
            framework.bus.publish("n", {"n": n})
        await framework.settle()
        why = framework.why("noisy")
        assert "the system was started" in str(why)
        assert kinds(why.as_dict()["chains"][0])[0] == "state"


class Plain(Component):
    """Has no check of its own."""

    name = "exchange"

    @subscribe("n", retry=False)
    async def handle(self, event: Event) -> None:
        if event.payload["n"] < 0:
            raise ValueError("below zero")


async def test_that_nothing_was_looked_at_clears_no_change(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Plain]) as framework:
        await framework.configure({"components.exchange.depth": 2})
        await framework.advance(60)
        report = await framework.check("exchange")
        assert report["health"] == "pass"
        framework.get(Plain).fail_component("confused")
        assert "revision 2: components.exchange" in str(framework.why("exchange"))


@pytest.mark.parametrize("run_in", [None, "inline"])
async def test_an_event_handled_well_clears_a_change(
    tiebeam_framework: Make, run_in: str | None
) -> None:
    class Handles(Component):
        name = "exchange"

        async def start(self) -> None:
            self.bus.subscribe("n", self.handle if run_in is None else self.inline, run_in=run_in)

        async def handle(self, event: Event) -> None:
            self.inline(event)

        def inline(self, event: Event) -> None:
            if event.payload["n"] < 0:
                raise ValueError("below zero")

    async with tiebeam_framework(components=[Handles]) as framework:
        exchange = framework.get(Handles)

        async def publish(n: int) -> None:
            await framework.bus.publish("n", {"n": n})
            await framework.settle()

        await publish(1)
        await framework.configure({"components.exchange.depth": 2})
        exchange.fail_component("what it did before says nothing")
        assert blamed(framework.why("exchange"))
        await framework.advance(1)
        await publish(2)
        exchange.fail_component("later")
        assert not blamed(framework.why("exchange"))
        # Nor is the change to blame in a later life, whose handlers are others.
        await framework.restart_component("exchange")
        exchange.fail_component("much later")
        assert not blamed(framework.why("exchange"))


async def test_a_failure_that_is_the_answer_clears_no_change(tiebeam_framework: Make) -> None:
    class Answers(Component):
        name = "exchange"

        @respond("n")
        async def answer(self, _event: Event) -> None:
            raise ValueError("no")

    async with tiebeam_framework(components=[Answers]) as framework:
        await framework.configure({"components.exchange.depth": 2})
        with pytest.raises(TiebeamError):
            await framework.bus.request("n")
        framework.get(Answers).fail_component("it answers nobody")
        assert blamed(framework.why("exchange"))


async def test_a_limit_that_nothing_was_measured_for_clears_no_change(
    tiebeam_framework: Make,
) -> None:
    values = {"health": {"limits": {"queue_delay": {"fail": 5}, "loop_lag": {"fail": 5}}}}
    async with tiebeam_framework(values, components=[Plain]) as framework:
        await framework.configure({"components.exchange.depth": 2})
        await framework.advance(60)
        framework.get(Plain).fail_component("confused")
        assert blamed(framework.why("exchange"))
