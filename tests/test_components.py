"""What a component may do: hooks, handlers, events, and its own configuration."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tiebeam import (
    Component,
    ConfigurationError,
    Event,
    Framework,
    LifecycleError,
    TopicError,
    command,
    respond,
    subscribe,
)
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]


class Ears(Component):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @subscribe("market_data.*")
    async def on_market(self, event: Event) -> None:
        self.heard.append(f"market {event.event_type}")

    @respond("ears.ask")
    async def answer(self, _event: Event) -> Any:
        return {"heard": len(self.heard)}

    @command("ears.forget")
    async def forget(self, _event: Event) -> None:
        self.heard.clear()

    async def on_event(self, event: Event) -> None:
        if event.category != "system":
            self.heard.append(f"other {event.event_type}")


async def test_hooks_may_be_sync_or_async(tiebeam_framework: Make) -> None:
    loop_thread = threading.current_thread()
    where: dict[str, threading.Thread] = {}

    class Mixed(Component):
        def initialize(self) -> None:
            where["initialize"] = threading.current_thread()

        async def configure(self, config: Any) -> None:
            where["configure"] = threading.current_thread()

        def start(self) -> None:
            where["start"] = threading.current_thread()

        async def stop(self) -> None:
            where["stop"] = threading.current_thread()

    async with tiebeam_framework(components=[Mixed]):
        pass
    assert list(where) == ["initialize", "configure", "start", "stop"]
    assert where["configure"] is where["stop"] is loop_thread
    assert loop_thread not in (where["initialize"], where["start"])


async def test_hooks_that_nobody_wrote_cost_no_thread(
    tiebeam_framework: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise AssertionError(f"{thread.name} was started")

    class Plain(Component):
        pass

    framework = tiebeam_framework(components=[Plain])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    async with framework:
        assert (await framework.check("plain"))["health"] == "pass"


async def test_a_decorated_async_hook_is_awaited(tiebeam_framework: Make) -> None:
    """Many decorators turn ``async def`` into a function that returns a coroutine."""
    started = []

    def timed(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*arguments: Any) -> Any:
            return function(*arguments)

        return wrapper

    class Decorated(Component):
        @timed
        async def start(self) -> None:
            started.append(asyncio.get_running_loop())

    async with tiebeam_framework(components=[Decorated]):
        assert started == [asyncio.get_running_loop()]


async def test_on_event_hears_what_no_handler_takes(tiebeam_framework: Make) -> None:
    ears = Ears()
    async with tiebeam_framework(components=[ears]) as framework:
        await framework.bus.publish("market_data.price_update")
        await framework.bus.publish("user.joined")
        await ears.publish_event("user.said")  # its own: no answer to oneself
        await framework.settle()
        assert sorted(ears.heard) == ["market market_data.price_update", "other user.joined"]
        # What it answers and what it is told to do is taken too.
        assert await framework.bus.request("ears.ask") == {"heard": 2}
        await framework.bus.send("ears.forget")
        await framework.settle()
        assert ears.heard == []


async def test_a_sync_on_event(tiebeam_framework: Make) -> None:
    class Plain(Component):
        heard: list[str] = []

        def on_event(self, event: Event) -> None:
            if event.category == "user":
                self.heard.append(event.event_type)

    async with tiebeam_framework(components=[Plain]) as framework:
        await framework.bus.publish("user.joined")
        await framework.settle()
        assert Plain.heard == ["user.joined"]


async def test_an_on_event_that_fails_on_errors_starts_no_storm(tiebeam_framework: Make) -> None:
    class Fragile(Component):
        async def on_event(self, event: Event) -> None:
            raise ValueError("cannot even look at errors")

    async with tiebeam_framework(components=[Fragile]) as framework:
        await framework.bus.publish("user.joined")
        await framework.advance(60)
        assert len(framework.published("system.error.*")) < 10


async def test_one_method_may_take_several_patterns(tiebeam_framework: Make) -> None:
    class Both(Component):
        heard: list[str] = []

        @subscribe("a.x")
        @subscribe("b.x")
        async def on_x(self, event: Event) -> None:
            self.heard.append(event.event_type)

    async with tiebeam_framework(components=[Both]) as framework:
        await framework.bus.publish("a.x")
        await framework.bus.publish("b.x")
        await framework.settle()
        assert sorted(Both.heard) == ["a.x", "b.x"]


async def test_options_of_a_decorated_handler(tiebeam_framework: Make) -> None:
    class Picky(Component):
        seen: list[Any] = []
        saved: list[Any] = []

        @subscribe("p.x", where={"payload.ok": True}, retry=False, fallback="save")
        async def on_x(self, event: Event) -> None:
            self.seen.append(event.payload["n"])
            raise RuntimeError("no")

        async def save(self, event: Event) -> None:
            self.saved.append(event.payload["n"])

    async with tiebeam_framework(components=[Picky]) as framework:
        await framework.bus.publish("p.x", {"ok": False, "n": 1})
        await framework.bus.publish("p.x", {"ok": True, "n": 2})
        await framework.settle()
        assert (Picky.seen, Picky.saved) == ([2], [2])
        assert len(framework.dead_letters) == 0


async def test_subscribing_and_unsubscribing_at_run_time(tiebeam_framework: Make) -> None:
    class Own(Component):
        def __init__(self) -> None:
            self.heard: list[str] = []

        async def start(self) -> None:
            self.subscribe_to_events(["a.x", "b.*"], self.hear)

        async def hear(self, event: Event) -> None:
            self.heard.append(event.event_type)

    own = Own()
    async with tiebeam_framework(components=[own]) as framework:
        for topic in ("a.x", "b.x", "c.x"):
            await framework.bus.publish(topic)
        await framework.settle()
        assert sorted(own.heard) == ["a.x", "b.x"]
        assert own.unsubscribe_from_events("b.*") == 1
        assert own.unsubscribe_from_events("b.*") == 0
        await framework.bus.publish("b.x")
        await framework.settle()
        assert sorted(own.heard) == ["a.x", "b.x"]
        await framework.stop_component("own")
        assert not any("own." in line for line in framework.bus.subscriptions)


async def test_on_event_is_the_handler_where_none_is_given(tiebeam_framework: Make) -> None:
    class Late(Component):
        heard: list[str] = []

        async def on_event(self, event: Event) -> None:
            self.heard.append(event.event_type)

    late = Late()
    async with tiebeam_framework(components=[late]) as framework:
        late.heard.clear()
        (made,) = late.subscribe_to_events("user.joined")
        assert made.pattern == "user.joined"
        await framework.bus.publish("user.joined")
        await framework.settle()
        assert "user.joined" in late.heard


async def test_an_async_handler_subscribed_in_a_sync_hook_runs_on_the_loop(
    tiebeam_framework: Make,
) -> None:
    loops = []

    class Threaded(Component):
        def start(self) -> None:
            self.subscribe_to_events("a.x", self.hear)

        async def hear(self, _event: Event) -> None:
            loops.append(asyncio.get_running_loop())

    async with tiebeam_framework(components=[Threaded]) as framework:
        await framework.bus.publish("a.x")
        await framework.settle()
        assert loops == [asyncio.get_running_loop()]


async def test_what_was_subscribed_in_initialize_outlives_a_start_that_is_not_ready(
    tiebeam_framework: Make,
) -> None:
    from tiebeam import NotReady

    class Patient(Component):
        tries = 0
        heard: list[str] = []

        async def initialize(self) -> None:
            self.subscribe_to_events("a.x", self.hear)

        async def start(self) -> None:
            Patient.tries += 1
            if Patient.tries < 3:
                raise NotReady("soon")

        async def hear(self, event: Event) -> None:
            self.heard.append(event.event_type)

    async with tiebeam_framework(components=[Patient]) as framework:
        await framework.bus.publish("a.x")
        await framework.settle()
        assert Patient.heard == ["a.x"]


async def test_events_during_start_wait_for_its_end(tiebeam_framework: Make) -> None:
    diary: list[str] = []

    class Starting(Component):
        async def start(self) -> None:
            await self.publish_event("s.hello")
            await asyncio.sleep(5)
            diary.append("started")

        @subscribe("s.hello")
        async def on_hello(self, _event: Event) -> None:
            diary.append("heard")

    async with tiebeam_framework(components=[Starting]) as framework:
        await framework.settle()
    assert diary == ["started", "heard"]


async def test_a_stopping_component_works_off_what_waits(tiebeam_framework: Make) -> None:
    done: list[int] = []

    class Worker(Component):
        @subscribe("w.item")
        async def work(self, event: Event) -> None:
            await asyncio.sleep(0.1)
            done.append(event.payload["n"])

        async def stop(self) -> None:
            done.append(-1)

    async with tiebeam_framework(components=[Worker]) as framework:
        for n in range(5):
            await framework.bus.publish("w.item", {"n": n})
    assert done == [0, 1, 2, 3, 4, -1]


async def test_the_producer_is_the_component_and_cannot_be_forged(tiebeam_framework: Make) -> None:
    class Honest(Component):
        @subscribe("h.ask")
        async def on_ask(self, _event: Event) -> None:
            await self.publish_event("h.one", metadata={"producer": "somebody"})
            await self.bus.publish("h.two")

    honest = Honest()
    async with tiebeam_framework(components=[honest]) as framework:
        await framework.bus.publish("h.ask")
        await framework.settle()
        assert {event.producer for event in framework.published("h.one")} == {"honest"}
        assert {event.producer for event in framework.published("h.two")} == {"honest"}
        with pytest.raises(TypeError, match="producer"):
            honest.publish_event("h.three", producer="somebody")


async def test_lineage_is_inherited_through_await_task_and_thread(tiebeam_framework: Make) -> None:
    class Chain(Component):
        @subscribe("c.root")
        async def on_root(self, _event: Event) -> None:
            await self.publish_event("c.await")
            await asyncio.create_task(self.publish_later("c.task"))
            await asyncio.to_thread(self.publish_event, "c.thread")

        async def publish_later(self, topic: str) -> None:
            await self.publish_event(topic)

        @subscribe("c.await")
        def on_await(self, _event: Event) -> None:
            self.publish_event("c.sync")

    async with tiebeam_framework(components=[Chain]) as framework:
        await framework.bus.publish("c.root", correlation_id="order_7")
        await framework.settle()
        (root,) = framework.published("c.root")
        for topic in ("c.await", "c.task", "c.thread"):
            (event,) = framework.published(topic)
            assert (event.correlation_id, event.causation_id) == ("order_7", root.event_id), topic
        (parent,) = framework.published("c.await")
        (child,) = framework.published("c.sync")
        assert (child.correlation_id, child.causation_id) == ("order_7", parent.event_id)


async def test_contextvars_of_one_event_do_not_reach_the_next(tiebeam_framework: Make) -> None:
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="unset")
    seen: list[str] = []

    class Marks(Component):
        @subscribe("m.x")
        async def on_x(self, _event: Event) -> None:
            seen.append(mark.get())
            mark.set("dirty")

    async with tiebeam_framework(components=[Marks]) as framework:
        await framework.bus.publish("m.x")
        await framework.bus.publish("m.x")
        await framework.settle()
    assert seen == ["unset", "unset"]


def test_a_component_without_a_framework_says_so() -> None:
    with pytest.raises(LifecycleError, match=r"'ears' does not belong to a framework yet"):
        Ears().publish_event("a.x")


def test_names_are_made_from_the_class() -> None:
    class HTTPFeedV2(Component):
        pass

    assert HTTPFeedV2.name == "http_feed_v2"
    with pytest.raises(TypeError, match=r"depends_on must be a list of names"):
        type("Wrong", (Component,), {"depends_on": "feed"})
    with pytest.raises(TypeError, match=r"write @subscribe\(\"market_data.price_update\"\)"):
        subscribe(lambda event: None)  # type: ignore[arg-type]


def test_a_name_that_was_given_is_inherited_and_one_that_was_made_is_not() -> None:
    class Feed(Component): ...

    class FastFeed(Feed): ...

    class Named(Component):
        name = "named"

    class Double(Named): ...

    assert (FastFeed.name, Double.name) == ("fast_feed", "named")


def test_what_is_written_wrong_in_a_decorator_is_refused_where_it_stands() -> None:
    with pytest.raises(TypeError, match="no option `concurency`; did you mean `concurrency`"):
        subscribe("a.x", concurency=3)
    with pytest.raises(TypeError, match="@command has no option `where`"):
        command("a.x", where={})
    with pytest.raises(TopicError, match="empty segment"):
        subscribe("a..x")
    with pytest.raises(TopicError):
        respond("a.*")

    class Wrong(Component):
        @subscribe("a.x", fallback="nowhere")
        async def on_x(self, _event: Event) -> None: ...

    with pytest.raises(ConfigurationError, match=r"Wrong\.on_x is `nowhere`"):
        Framework(components=[Wrong])


async def test_what_is_published_periodically_is_counted(tiebeam_framework: Make) -> None:
    class Clock(Component):
        async def start(self) -> None:
            self.bus.every(10, "c.tick")

    async with tiebeam_framework(components=[Clock]) as framework:
        await framework.advance(35)
        assert framework.health("clock")["metrics"]["events_published"] == 3
        assert {event.producer for event in framework.published("c.tick")} == {"clock"}
