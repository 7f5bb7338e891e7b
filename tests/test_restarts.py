"""What a component makes ends with it, once, and is there again after a restart."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import Component, Event, Framework, check, command, respond, subscribe
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]


class Busy(Component):
    """Makes everything that can be made on a bus, in one hook."""

    hook = "start"

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def initialize(self) -> None:
        await self.make("initialize")

    async def start(self) -> None:
        await self.make("start")

    async def make(self, hook: str) -> None:
        if hook != self.hook:
            return
        self.subscribe_to_events("b.one", self.hear)
        self.subscription = self.bus.subscribe("b.two", self.hear)
        self.bus.respond("b.ask", self.answer)
        self.bus.handle("b.do", self.hear)
        self.bus.every(10, "b.tick")

    @subscribe("b.three")
    async def hear(self, event: Event) -> None:
        self.heard.append(event.event_type)

    async def answer(self, _event: Event) -> Any:
        return {"ok": True}


async def use_everything(framework: TestFramework) -> None:
    for topic in ("b.one", "b.two", "b.three"):
        await framework.bus.publish(topic)
    await framework.bus.send("b.do")
    assert await framework.bus.request("b.ask") == {"ok": True}
    await framework.settle()


@pytest.mark.parametrize("hook", ["initialize", "start"])
async def test_everything_is_there_once_after_each_restart(
    tiebeam_framework: Make, hook: str
) -> None:
    busy = Busy()
    busy.hook = hook
    async with tiebeam_framework(components=[busy]) as framework:
        for _ in range(3):
            busy.heard.clear()
            ticks = len(framework.published("b.tick"))
            await use_everything(framework)
            assert sorted(busy.heard) == ["b.do", "b.one", "b.three", "b.two"]
            await framework.advance(10)
            assert len(framework.published("b.tick")) - ticks == 1
            await framework.restart_component("busy")
        await framework.stop_component("busy")
        assert not any("busy." in line for line in framework.bus.subscriptions)
        ticks = len(framework.published("b.tick"))
        await framework.advance(60)
        assert len(framework.published("b.tick")) == ticks
        assert framework.bus.books().balanced


async def test_what_the_component_ended_itself_stays_ended(tiebeam_framework: Make) -> None:
    busy = Busy()
    busy.hook = "initialize"
    async with tiebeam_framework(components=[busy]) as framework:
        busy.subscription.cancel()
        assert busy.unsubscribe_from_events("b.one") == 1
        await framework.restart_component("busy")
        for topic in ("b.one", "b.two", "b.three"):
            await framework.bus.publish(topic)
        await framework.settle()
        assert busy.heard == ["b.three"]


async def test_what_is_there_again_can_be_ended(tiebeam_framework: Make) -> None:
    busy = Busy()
    busy.hook = "initialize"
    async with tiebeam_framework(components=[busy]) as framework:
        await framework.restart_component("busy")
        assert busy.unsubscribe_from_events("b.one") == 1
        await framework.bus.publish("b.one")
        await framework.settle()
        assert busy.heard == []


async def test_subscribing_and_cancelling_leaves_no_trail(tiebeam_framework: Make) -> None:
    busy = Busy()
    async with tiebeam_framework(components=[busy]):
        for _ in range(1_000):
            busy.bus.subscribe("b.some", busy.hear).cancel()
            busy.subscribe_to_events("b.other", busy.hear)
            busy.unsubscribe_from_events("b.other")
        assert busy._host is not None
        assert len(busy._host.bus.made) < 150
        assert len(busy._host._own) < 5


async def test_a_component_changed_while_it_was_stopped_starts_with_the_change(
    tiebeam_framework: Make,
) -> None:
    class Configured(Component):
        async def configure(self, config: Any) -> None:
            self.window = config["window"]

    values = {"components": {"configured": {"window": 1}}}
    async with tiebeam_framework(values, components=[Configured]) as framework:
        component = framework.get(Configured)
        await framework.stop_component("configured")
        await framework.configure({"components.configured.window": 2})
        assert component.window == 1
        await framework.start_component("configured")
        assert component.window == 2


async def test_figures_outlive_a_restart(tiebeam_framework: Make) -> None:
    busy = Busy()
    async with tiebeam_framework(components=[busy]) as framework:
        await framework.bus.publish("b.three")
        await framework.settle()
        await framework.restart_component("busy")
        await framework.bus.publish("b.three")
        await framework.settle()
        assert framework.health("busy")["metrics"]["events_processed"] == 2


def own_threads() -> set[threading.Thread]:
    """Those that Python started; the core's own serve the whole process."""
    return {t for t in threading.enumerate() if not isinstance(t, threading._DummyThread)}


def test_a_stopped_framework_leaves_no_thread_and_no_component(run: Any) -> None:
    class Everything(Component):
        kept: list[Any]

        def start(self) -> None: ...

        def stop(self) -> None: ...

        @subscribe("e.x")
        def on_x(self, _event: Event) -> None: ...

        @subscribe("e.y")
        async def on_y(self, _event: Event) -> None: ...

        @respond("e.ask")
        def answer(self, _event: Event) -> Any:
            return {}

        @command("e.do")
        def do(self, _event: Event) -> None: ...

        @check(kind="dependency")
        def ping(self) -> None: ...

        async def on_event(self, event: Event) -> None: ...

    async def main() -> weakref.ref[Component]:
        component = Everything()
        component.kept = []
        async with Framework({"logging": {"console": False}}, components=[component]) as framework:
            component.kept += component.subscribe_to_events("e.z", component.on_y)
            await framework.bus.publish("e.x")
            await framework.bus.publish("e.y")
            await framework.bus.send("e.do")
            await framework.bus.request("e.ask")
            await framework.bus.drain()
            await framework.check("everything")
        return weakref.ref(component)

    before = own_threads()
    reference = run(main())
    for thread in own_threads() - before:
        thread.join(GUARD)
    assert own_threads() <= before
    gc.collect()
    gc.collect()
    assert reference() is None


async def test_a_check_never_runs_twice_at_once(tiebeam_framework: Make) -> None:
    running: list[int] = []
    most: list[int] = []

    class Slow(Component):
        async def health_check(self) -> None:
            running.append(1)
            most.append(len(running))
            await asyncio.sleep(0.5)
            running.pop()

    async with tiebeam_framework(components=[Slow]) as framework:
        asked = [asyncio.ensure_future(framework.check("slow")) for _ in range(4)]
        await framework.advance(12)
        assert [(await report)["health"] for report in asked] == ["pass"] * 4
        assert set(most) == {1}
        assert len(most) == 6  # as it began, four times by hand, and after a period


def test_a_framework_that_never_started_is_collected() -> None:
    component = Busy()
    reference = weakref.ref(component)
    framework = Framework(components=[component])
    assert component.framework is framework
    del component, framework
    gc.collect()
    assert reference() is None
