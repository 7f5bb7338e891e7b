"""The wiring check: what is sent and what is handled, and where the two do not meet."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tiebeam import Component, Event, Framework, TopicError, command, respond, subscribe
from tiebeam._published import published
from tiebeam.testing import TestFramework, run

PRICE = "market_data.price"


@dataclass
class Filled:
    event_type: ClassVar[str] = "trading.filled"
    n: int = 0


class Source(Component):
    name = "source"
    report_as = "analysis.report"

    async def start(self) -> None:
        self.own = "analysis.own"

    async def work(self, flag: bool) -> None:
        await self.publish_event("analysis.literal", {"n": 1})
        await self.bus.publish(PRICE)
        await self.publish_event(Filled(1))
        await self.framework.bus.publish(self.report_as)
        await self.emit("analysis.handed_on")
        await self.publish_event("analysis.yes" if flag else "analysis.no")
        self.bus.every(60, "analysis.tick")
        await self.bus.request("analysis.ask", timeout=1)
        bus = self.bus
        bus.send("trading.order")
        self.publish_event("Not.A.Topic")
        self.other.publish("of_something_else.entirely")

    async def emit(self, event_type: str, payload: Any = None) -> None:
        await self.publish_event(event_type, payload)


class Derived(Source):
    name = "derived"
    report_as = "trading.report"


class Open(Component):
    name = "open"

    def work(self, topic: str) -> None:
        for part in ("a", "b"):
            self.publish_event(f"analysis.{part}")


class Declared(Open):
    name = "declared"
    publishes = ["analysis.a", Filled]


def test_topics_are_read_from_the_source() -> None:
    found = published(Source())
    assert not found.open
    assert set(found.topics) == {
        ("publish", "analysis.literal"),
        ("publish", "market_data.price"),
        ("publish", "trading.filled"),
        ("publish", "analysis.report"),
        ("publish", "analysis.handed_on"),
        ("publish", "analysis.yes"),
        ("publish", "analysis.no"),
        ("publish", "analysis.tick"),
        ("request", "analysis.ask"),
        ("send", "trading.order"),
    }
    assert ("publish", "trading.report") in published(Derived()).topics


def test_what_is_made_at_run_time_is_not_guessed() -> None:
    found = published(Open())
    assert (found.open, found.topics) == (True, {})
    found = published(Declared())
    assert (found.open, set(found.topics)) == (
        False,
        {("publish", "analysis.a"), ("publish", "trading.filled")},
    )
    made: dict[str, Any] = {"Component": Component}
    exec("class Made(Component):\n  def work(self): self.publish_event('a.b')", made)
    assert published(made["Made"]()).open  # it has no source
    parts = type("Parts", (Component,), {"work": lambda self: self.publish_event("a.b")})
    assert set(published(parts()).topics) == {("publish", "a.b")}  # its method has


def test_a_list_of_topics_is_a_list() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.publishes must be a list"):

        class Wrong(Component):
            publishes = "a.b"

    with pytest.raises(TopicError):

        class Malformed(Component):
            publishes = ["a..b"]

    with pytest.raises(TypeError, match="int has none"):

        class Untyped(Component):
            publishes = [int]


class Sender(Component):
    name = "sender"

    def work(self) -> None:
        self.publish_event("trading.signal")
        self.publish_event("trading.signal_endet")
        self.bus.request("user.authorise")
        self.bus.send("trading.ordr")
        self.publish_event("tradig.thing")
        self.publish_event("plant.watered")


class Receiver(Component):
    name = "receiver"

    @subscribe("trading.signal")
    def on_signal(self, event: Event) -> None: ...

    @subscribe("trading.signal_ended")
    def on_end(self, event: Event) -> None: ...

    @subscribe("market_data.price")
    def on_price(self, event: Event) -> None: ...

    @subscribe("system.alert")
    def on_alert(self, event: Event) -> None: ...

    @respond("user.authorize")
    def authorize(self, event: Event) -> None: ...

    @command("trading.order")
    def order(self, event: Event) -> None: ...

    @subscribe("tradig.*")
    def odd(self, event: Event) -> None: ...

    @subscribe("plant.#")
    def plant(self, event: Event) -> None: ...


EXPECTED = {
    ("unhandled", "trading.signal_endet"): "trading.signal_ended",
    ("no_responder", "user.authorise"): "user.authorize",
    ("no_handler", "trading.ordr"): "trading.order",
    ("unfed", "trading.signal_ended"): "trading.signal_endet",
    ("unfed", "user.authorize"): "user.authorise",
    ("unfed", "trading.order"): "trading.ordr",
    ("unfed", "market_data.price"): None,
    ("category", "tradig"): "trading",
    ("category", "plant"): None,
}


def test_slips_are_found_with_what_was_meant() -> None:
    wiring = Framework(components=[Sender(), Receiver()]).wiring()
    found = {(finding.kind, finding.topic): finding.suggestion for finding in wiring.findings}
    assert found == EXPECTED
    quiet = {finding.topic for finding in wiring.findings} - {f.topic for f in wiring.warnings}
    assert quiet == {"market_data.price", "plant"}
    text = str(wiring)
    assert "`user.authorise` is requested by sender, and nobody responds to it" in text
    assert "the command `trading.ordr` is sent by sender, and nobody handles it" in text
    assert "did you mean `trading.signal_ended`?" in text
    assert "receiver.on_price" in text
    assert repr(wiring).startswith("<Wiring ")
    assert "<td>trading.signal_endet</td>" in wiring._repr_html_()


def test_nothing_is_said_of_what_may_come_from_elsewhere() -> None:
    wiring = Framework(components=[Open(), Receiver()]).wiring()
    assert wiring.findings == []
    assert wiring.open == ("open",)
    assert "what open publish is not all known" in str(wiring)


def test_who_listens_to_everything_hides_no_slip() -> None:
    class Log(Component):
        @subscribe("#")
        def log(self, event: Event) -> None: ...

    class Lonely(Component):
        def work(self) -> None:
            self.publish_event("analysis.lonely")

    with_log = Framework(components=[Lonely(), Log(), Sender(), Receiver()]).wiring()
    topics = {finding.topic for finding in with_log.warnings}
    assert "analysis.lonely" not in topics
    assert "trading.signal_endet" in topics
    assert [str(w) for w in Framework(components=[Lonely()]).wiring().warnings] == [
        "`analysis.lonely` is published by lonely, and nobody handles it"
    ]


def test_a_start_warns_and_is_never_stopped_by_it(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        caplog.set_level(logging.INFO, "tiebeam")
        framework = TestFramework(components=[Sender(), Receiver()])
        await framework.start()
        await framework.stop()
        said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("wiring: ")]
        assert len(said) == len(set(said)) == 8
        framework = TestFramework(components=[Sender(), Receiver()])
        framework._hosts["sender"].component.publishes = [7]  # type: ignore[misc, list-item]
        assert (await framework.start())["failed"] == []
        await framework.stop()

    run(main())


def test_what_is_subscribed_at_run_time_counts() -> None:
    class Late(Component):
        def start(self) -> None:
            self.bus.subscribe("trading.signal_endet", print)
            self.bus.respond("user.authorise", print)
            self.bus.handle("trading.ordr", print)

    async def main() -> None:
        async with TestFramework(components=[Sender(), Receiver(), Late()]) as framework:
            kinds = {finding.kind for finding in framework.wiring().findings}
            assert kinds == {"unfed", "category"}

    run(main())


def test_the_example_has_no_warning() -> None:
    root = Path(__file__).parents[1] / "config"
    wiring = Framework.from_config(root / "integration.yaml", root / "system.yaml").wiring()
    assert wiring.warnings == []
    assert ("decision_engine", "send", "trading.order") in [
        (who[0], how, topic) for who, how, topic in wiring.published
    ]


def test_a_recorder_hides_nothing() -> None:
    class Alone(Component):
        async def start(self) -> None:
            await self.publish_event("analysis.unheard")

    async def main() -> None:
        async with TestFramework(components=[Alone]) as framework:
            assert [f.kind for f in framework.wiring().warnings] == ["unhandled"]
            bus = framework.bus
            assert bus.subscriptions == []
            assert bus.explain("analysis.unheard").receivers == []
            assert bus.explain("system.error.transient").others == []
            assert bus.books().subscriptions == []
            assert bus.books().total.published == 0
            shown = bus.books(internal=True)
            assert [name for name, _ in shown.subscriptions] == [
                "tiebeam.errors",
                "tiebeam.breakers",
                "tiebeam.waiting",
                "tiebeam.resuming",
                "tiebeam.supervisor",
                "tiebeam.promises",
                "testing.recorder",
                "tiebeam.health.lives",
            ]
            heard = ("testing.recorder", "tiebeam.health.lives")
            total = sum(shown[name].published for name in heard)
            assert total == shown.total.published > shown["testing.recorder"].published > 0
            explained = bus.explain("analysis.unheard", internal=True)
            assert [r["name"] for r in explained.receivers] == ["testing.recorder"]
        assert framework.bus.books().total.published == 0
        assert framework.bus.books(internal=True).balanced

    run(main())
