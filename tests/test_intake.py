"""A component that has failed begins with nothing more; what comes waits for its next life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tiebeam import Component, Event, LifecycleError, respond, subscribe
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]

SLOW_RESTARTS = {
    "supervision": {
        "backoff": {"initial_delay": 10, "jitter": "none"},
        "cooldown": 0,
    },
    "health": {"recovery_attempts": 5},
}


class Reader(Component):
    def __init__(self) -> None:
        self.lives = 0
        self.seen: list[tuple[int, str, int]] = []
        self.busy: asyncio.Event | None = None

    async def start(self) -> None:
        self.lives += 1
        self.subscribe_to_events("r.made", self.made)

    async def initialize(self) -> None:
        self.subscribe_to_events("r.lasting", self.lasting)

    def note(self, handler: str, event: Event) -> None:
        self.seen.append((self.lives, handler, event.payload["n"]))

    @subscribe("r.declared")
    async def declared(self, event: Event) -> None:
        self.note("declared", event)
        if self.busy is not None:
            await self.busy.wait()

    @subscribe("r.all", broadcast=True)
    async def everything(self, event: Event) -> None:
        self.note("all", event)

    async def made(self, event: Event) -> None:
        self.note("made", event)

    async def lasting(self, event: Event) -> None:
        self.note("lasting", event)

    @respond("r.ask")
    async def answer(self, _event: Event) -> Any:
        return {"life": self.lives}


async def crash_twice(framework: TestFramework, reader: Reader) -> None:
    """The second restart within the period waits for ten seconds."""
    reader.fail_component("one")
    await framework.settle()
    assert reader.state == "running"
    reader.fail_component("two")
    assert reader.state == "failed"


async def test_what_comes_meanwhile_waits_for_the_restart(tiebeam_framework: Make) -> None:
    reader = Reader()
    async with tiebeam_framework(SLOW_RESTARTS, components=[reader]) as framework:
        await crash_twice(framework, reader)
        topics = {"declared": "r.declared", "all": "r.all", "made": "r.made"}
        topics["lasting"] = "r.lasting"
        for n in range(3):
            for topic in topics.values():
                framework.bus.publish(topic, {"n": n})
        await framework.advance(5)
        for topic in topics.values():
            framework.bus.publish(topic, {"n": 3})
        asked = asyncio.ensure_future(framework.bus.request("r.ask"))
        await framework.advance(4)
        assert reader.seen == []
        await framework.advance(2)
        assert reader.state == "running"
        for handler in topics:
            numbers = [n for _, other, n in reader.seen if other == handler]
            # What `start` subscribes ends with the life.
            assert numbers == ([] if handler == "made" else [0, 1, 2, 3]), handler
        assert {life for life, _, _ in reader.seen} == {3}
        assert await asked == {"life": 3}
        for topic in topics.values():
            framework.bus.publish(topic, {"n": 4})
        await framework.settle()
        assert len(reader.seen) == 3 * 5 + 1
        books = framework.bus.books()
        assert books.balanced
        assert books.total.dropped == 3, "those for what `start` had subscribed"


async def test_what_was_handed_out_and_not_begun_waits_too(tiebeam_framework: Make) -> None:
    reader = Reader()
    async with tiebeam_framework(SLOW_RESTARTS, components=[reader]) as framework:
        reader.busy = asyncio.Event()
        for n in range(4):
            framework.bus.publish("r.declared", {"n": n})
        await framework.advance(0.1)
        assert [n for _, _, n in reader.seen] == [0]
        reader.fail_component("crash")
        reader.busy.set()  # what is under way comes to its end
        reader.busy = None
        await framework.advance(1)
        assert reader.seen == [(1, "declared", 0)] + [(2, "declared", n) for n in (1, 2, 3)]
        assert framework.bus.books().balanced


async def test_what_waits_ends_where_nobody_comes_back(tiebeam_framework: Make) -> None:
    reader = Reader()
    values = {"supervision": {"cooldown": 0}, "health": {"recovery_attempts": 0}}
    async with tiebeam_framework(values, components=[reader]) as framework:
        reader.fail_component("crash")
        framework.bus.publish("r.declared", {"n": 0})
        await framework.settle()
        assert framework.status("reader")["given_up"]
        assert reader.seen == []
        assert not any("reader." in line for line in framework.bus.subscriptions)
        assert framework.bus.books().balanced
        await framework.start_component("reader")
        framework.bus.publish("r.declared", {"n": 1})
        await framework.settle()
        assert reader.seen == [(2, "declared", 1)]


async def test_a_restart_by_hand_keeps_what_waits(tiebeam_framework: Make) -> None:
    reader = Reader()
    async with tiebeam_framework(SLOW_RESTARTS, components=[reader]) as framework:
        await crash_twice(framework, reader)
        framework.bus.publish("r.declared", {"n": 0})
        framework.bus.publish("r.made", {"n": 0})
        await framework.restart_component("reader")
        await framework.settle()
        assert reader.seen == [(3, "declared", 0)]
        await framework.advance(30)
        assert reader.lives == 3, "the restart that was to come is not needed any more"


async def test_a_start_that_fails_on_the_way_loses_nothing(tiebeam_framework: Make) -> None:
    class Stumbling(Reader):
        name = "reader"

        async def start(self) -> None:
            await super().start()
            if self.lives in (2, 3):
                raise ConnectionError("not yet")

    reader = Stumbling()
    async with tiebeam_framework(SLOW_RESTARTS, components=[reader]) as framework:
        reader.fail_component("crash")
        for topic in ("r.declared", "r.made", "r.lasting"):
            framework.bus.publish(topic, {"n": 0})
        await framework.advance(60)
        assert reader.state == "running"
        assert sorted(reader.seen) == [(4, name, 0) for name in ("declared", "lasting")]
        framework.bus.publish("r.made", {"n": 1})
        await framework.settle()
        assert reader.seen[-1] == (4, "made", 1)


async def test_who_fails_while_it_starts_has_failed_to_start(tiebeam_framework: Make) -> None:
    class Feed(Component):
        starts = stops = 0
        broken = True

        async def start(self) -> None:
            self.starts += 1
            if self.broken:
                task = asyncio.ensure_future(self.receive())
                await task
                await asyncio.Event().wait()  # for what the task was to bring

        async def receive(self) -> None:
            assert self.fail_component(ConnectionError("refused"))
            assert not self.fail_component("and again")

        async def stop(self) -> None:
            self.stops += 1

    class Leans(Component):
        depends_on = ["feed"]

    async with tiebeam_framework(components=[Feed, Leans]) as framework:
        feed = framework.get(Feed)
        assert feed.state == "failed"
        assert "refused" in framework.status("feed")["error"]
        ((name, why),) = framework.start_report["failed"]
        assert name == "feed"
        assert "refused" in why
        assert framework.status("leans")["blocked_by"] == "feed"
        (told,) = framework.published("system.error.#")
        assert told.payload["error_type"] == "ConnectionError"
        feed.broken = False
        await framework.start_component("feed")
        assert feed.state == "running"
        assert framework.status("leans")["state"] == "running"
        feed.broken = True
        feed.fail_component("at work")
        await framework.advance(1_000)
        assert framework.status("feed")["given_up"], "each counts as one restart"
    assert feed.starts == feed.stops


async def test_who_fails_between_its_start_and_its_work_has_failed(
    tiebeam_framework: Make,
) -> None:
    class Quick(Component):
        lives = 0

        async def start(self) -> None:
            self.lives += 1
            if self.lives == 2:
                self.fail_component("at once")

    async with tiebeam_framework(components=[Quick]) as framework:
        quick = framework.get(Quick)
        quick.fail_component("first")
        await framework.advance(60)
        assert quick.state == "running"
        assert quick.lives == 3


@pytest.mark.parametrize("overflow", ["block", "drop_oldest"])
async def test_mailboxes_stay_bounded_while_they_wait(
    tiebeam_framework: Make, overflow: str
) -> None:
    class Small(Component):
        seen: list[int]

        @subscribe("s.x", capacity=2, overflow=overflow)  # type: ignore[arg-type]
        async def take(self, event: Event) -> None:
            self.seen.append(event.payload["n"])

    small = Small()
    small.seen = []
    async with tiebeam_framework(SLOW_RESTARTS, components=[small]) as framework:
        small.fail_component("one")
        await framework.settle()
        small.fail_component("two")
        receipts = [framework.bus.publish("s.x", {"n": n}) for n in range(4)]
        await framework.advance(15)
        assert small.seen == ([0, 1, 2, 3] if overflow == "block" else [2, 3])
        for receipt in receipts:
            await receipt
        assert framework.bus.books().balanced


async def test_what_fails_as_it_comes_up_keeps_what_waits(tiebeam_framework: Make) -> None:
    """Whoever hears that it runs fails it before its events go on."""
    reader = Reader()
    async with tiebeam_framework(SLOW_RESTARTS, components=[reader]) as framework:
        await crash_twice(framework, reader)
        failures = iter(["as it comes up"])

        def on_running(event: Event) -> None:
            if event.payload["component"] == "reader":
                for failure in failures:
                    reader.fail_component(failure)

        framework.bus.subscribe("system.component.running", on_running, run_in="inline")
        framework.bus.publish("r.declared", {"n": 0})
        await framework.advance(11)
        assert reader.seen == []
        framework.bus.publish("r.declared", {"n": 1})
        await framework.advance(60)
        assert reader.state == "running"
        assert [n for _, _, n in reader.seen] == [0, 1]
        assert framework.bus.books().balanced


async def test_commands_are_served_again_after_a_failure(tiebeam_framework: Make) -> None:
    done: list[str] = []

    class Serves(Component):
        async def start(self) -> None:
            self.bus.handle("c.cmd", self.on_cmd)

        async def on_cmd(self, _event: Event) -> None:
            done.append(self.state)

    async with tiebeam_framework(SLOW_RESTARTS, components=[Serves]) as framework:
        framework.get(Serves).fail_component("one")
        await framework.settle()
        assert framework.get(Serves).state == "running"
        await framework.bus.send("c.cmd")
        await framework.settle()
        assert done == ["running"]


async def test_what_initialize_made_survives_a_start_that_fails_by_hand(
    tiebeam_framework: Make,
) -> None:
    class Stumbling(Reader):
        name = "reader"

        async def start(self) -> None:
            await super().start()
            if self.lives == 3:
                raise ConnectionError("not yet")

    reader = Stumbling()
    async with tiebeam_framework(SLOW_RESTARTS, components=[reader]) as framework:
        await crash_twice(framework, reader)
        with pytest.raises(LifecycleError, match="not yet"):
            await framework.start_component("reader")
        await framework.start_component("reader")
        framework.bus.publish("r.lasting", {"n": 0})
        await framework.settle()
        assert reader.seen == [(4, "lasting", 0)]


async def test_requests_go_to_who_is_at_work(tiebeam_framework: Make) -> None:
    class Other(Component):
        @respond("r.ask")
        async def answer(self, _event: Event) -> Any:
            return {"life": "other"}

    reader = Reader()
    async with tiebeam_framework(SLOW_RESTARTS, components=[reader, Other]) as framework:
        await crash_twice(framework, reader)
        answers = [await framework.bus.request("r.ask") for _ in range(4)]
        assert answers == [{"life": "other"}] * 4


async def test_a_start_does_not_wait_for_room_with_itself(tiebeam_framework: Make) -> None:
    class Greets(Component):
        lives = 0

        async def start(self) -> None:
            self.lives += 1
            await self.bus.publish("g.hello", {"life": self.lives})

        @subscribe("g.#", capacity=2)
        async def take(self, _event: Event) -> None: ...

    async with tiebeam_framework(SLOW_RESTARTS, components=[Greets]) as framework:
        greets = framework.get(Greets)
        greets.fail_component("one")
        await framework.settle()
        greets.fail_component("two")
        for _ in range(2):
            framework.bus.publish("g.x")
        await framework.advance(60)
        assert greets.state == "running"
        books = framework.bus.books()
        assert books.balanced
        assert books.total.dropped == 0


async def test_an_initialize_that_fails_leaves_nothing(tiebeam_framework: Make) -> None:
    class Tries(Component):
        tries = 0
        seen = 0

        async def initialize(self) -> None:
            self.tries += 1
            self.subscribe_to_events("t.x", self.take)
            if self.tries == 1:
                raise ConnectionError("not yet")

        async def take(self, _event: Event) -> None:
            self.seen += 1

    async with tiebeam_framework(components=[Tries]) as framework:
        tries = framework.get(Tries)
        framework.bus.publish("t.x")
        await framework.settle()
        assert tries.seen == 0
        await framework.start_component("tries")
        framework.bus.publish("t.x")
        await framework.settle()
        assert tries.seen == 1
