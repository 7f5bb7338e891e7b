"""Why a component is as it is: the chain from its present state to what began it."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from tiebeam import Component, ConfigurationError, Event, subscribe
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
