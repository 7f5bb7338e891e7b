"""What the watchdog sees beside handlers, and what it does not do to what it looks at.

These run in real time, as the planted stalls do.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import queue
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import GUARD
from test_planted_stalls import HOLD, THREAD, VALUES, Planted, Ways, world
from tiebeam import Component, Event, EventBus, subscribe

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks the system about threads")

PATIENCE = {"step_limit": 0.15, "call_limit": 0.15, "await_limit": 0.15}


class Fails(Planted):
    """Its handlers fail, and their fallbacks are stuck."""

    name = "planted"

    def start(self) -> None:
        how: dict[str, Any] = {"fallback": self.instead, "retry": False}
        self.bus.subscribe("planted.thread", self.fails, name="thread", **how)
        self.bus.subscribe("planted.inside", self.fails, name="inside", run_in="inline", **how)
        self.bus.subscribe("planted.loop", self.fails, name="loop", run_in="loop", **how)
        how["timeout"] = 0.05
        self.bus.subscribe("planted.late", self.is_late, name="late", **how)

    def fails(self, _event: Event) -> None:
        raise ValueError("no")

    def is_late(self, _event: Event) -> None:
        self.ways.end.wait(GUARD)

    def instead(self, _event: Event) -> None:
        self.block("instead")


@pytest.mark.parametrize("place", ["thread", "inside", "loop", "late"])
def test_a_fallback_that_is_stuck_is_named_like_a_handler(place: str) -> None:
    ways = Ways()
    with world(Fails("instead", ways, "locks_up")) as made:
        publish = functools.partial(made.framework.bus.publish, f"planted.{place}", event_id="e1")
        if place == "inside":
            threading.Thread(target=publish, name="mine").start()
        else:
            publish()
        while (told := made.next_of(made.stalled))["action"] == "abandoned":
            pass
        assert (told["handler"], told["subscription"]) == (place, f"planted.{place}")
        assert (told["kind"], told["event_id"]) == ("waits_for_lock", "e1")
        assert told["action"] == ("blocks_loop" if place == "loop" else THREAD)
        assert told["stack"][0].endswith("instead"), told
        made.ping()
        ways.let_go()
        assert made.next_of(made.recovered)["handler"] == place


@pytest.mark.parametrize("way", ["async", "sync", "validates"])
def test_who_is_told_of_configuration_and_is_stuck_is_named(way: str) -> None:
    ways = Ways()

    class Listens(Planted):
        def start(self) -> None:
            if way == "sync":
                self.on_configuration_change("components.planted.rate", self.on_rate)
            elif way == "async":
                self.on_configuration_change("components.planted.rate", self.on_rate_async)

        def on_rate(self, _path: str, _old: Any, _new: Any) -> None:
            self.block("on_rate")

        async def on_rate_async(self, _path: str, _old: Any, _new: Any) -> None:
            await self.wait("on_rate_async")

        def validate_configuration(self, config: Any) -> None:
            if config.get("rate") == 2:
                self.block("validate_configuration")

    Listens.name = "planted"
    place, how, action = {
        "async": ("on_rate_async", "nobody", "waits"),
        "sync": ("on_rate", "locks_up", THREAD),
        "validates": ("validate_configuration", "locks_up", "blocks_loop"),
    }[way]
    with world(Listens(place, ways, how)) as made:
        made.ask(lambda: made.framework.configure({"components.planted.rate": 2}))
        told = made.next_of(made.stalled)
        assert (told["handler"], told["action"], told["subscription"]) == (place, action, None)
        assert told["stack"][0].rpartition(".")[2].rpartition(" in ")[2] == place
        ways.let_go()
        assert made.next_of(made.recovered)["handler"] == place


def test_an_inline_handler_that_is_stuck_while_others_get_through() -> None:
    ways = Ways()

    class Inside(Planted):
        def start(self) -> None:
            self.bus.subscribe("planted.inside", self.inside, name="inside", run_in="inline")

        def inside(self, event: Event) -> None:
            if event.payload == "stuck":
                self.block("inside")

    Inside.name = "planted"
    with world(Inside("inside", ways, "locks_up")) as made:
        publish = made.framework.bus.publish
        stuck = functools.partial(publish, "planted.inside", "stuck", event_id="e1")
        threading.Thread(target=stuck, name="mine").start()
        give_up = time.monotonic() + GUARD
        while made.stalled.empty() and time.monotonic() < give_up:
            publish("planted.inside", "well")
        told = made.next_of(made.stalled)
        assert (told["handler"], told["event_id"], told["thread"]) == ("inside", "e1", "mine")
        ways.let_go()
        assert made.next_of(made.recovered)["handler"] == "inside"


def test_who_blocks_a_loop_from_inside_a_publish_is_named_for_it() -> None:
    """The publisher, and what is theirs, is only kept; and the loop's own limit counts."""
    ways = Ways()

    class Publishes(Component):
        name = "publishes"

        @subscribe("publishes.now")
        async def on_now(self, _event: Event) -> None:
            self.bus.publish("planted.first")

        def start(self) -> None:
            self.bus.subscribe("planted.first", self.first, name="first", run_in="inline")

        def first(self, _event: Event) -> None:
            self.bus.publish("planted.inside", event_id="e1")

    class Inside(Planted):
        def start(self) -> None:
            self.bus.subscribe("planted.inside", self.inside, name="inside", run_in="inline")

        def inside(self, _event: Event) -> None:
            self.block("inside")

    Inside.name = "planted"
    limits = {**PATIENCE, "call_limit": 2 * GUARD}
    values = {**VALUES, "health": {**VALUES["health"], "watchdog": limits}}
    with world(Inside("inside", ways, "locks_up"), Publishes(), values=values) as made:
        made.framework.bus.publish("publishes.now")
        told = made.stalled.get(timeout=GUARD)
        assert (told["component"], told["handler"], told["event_id"]) == ("planted", "inside", "e1")
        assert (told["action"], told["kind"]) == ("blocks_loop", "waits_for_lock")
        assert told["waiting"] == ["publishes.on_now"]
        ways.let_go()
        assert made.recovered.get(timeout=GUARD)["handler"] == "inside"
        assert made.stalled.empty()


def test_a_bare_bus_is_told_in_python_of_who_held_the_gil(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While it was held, nobody could be told there."""
    came_back = threading.Event()
    with EventBus(watchdog=PATIENCE) as bus:
        bus.subscribe("system.handler_recovered", lambda _event: came_back.set())
        bus.subscribe("hold", lambda _event: hold_the_gil(HOLD), name="h")
        bus.publish("hold")
        assert came_back.wait(GUARD)

        def said() -> list[str]:
            told = [record.getMessage() for record in caplog.records]
            return [message for message in told if "came back" in message]

        give_up = time.monotonic() + GUARD
        while not said() and time.monotonic() < give_up:
            came_back.wait(0)
    (message,) = said()
    assert message.startswith("the handler h came back after ")
    assert ": it held the GIL, at " in message
    assert "test_watchdog.py" in message


class Touchy:
    """Runs the user's code, which is not to be run, whatever it is asked for."""

    touched: list[str] = []

    def __getattr__(self, name: str) -> Any:
        Touchy.touched.append(name)
        raise RuntimeError(f"who asks for {name}?")

    @property
    def __class__(self) -> Any:
        Touchy.touched.append("__class__")
        raise RuntimeError("who asks what I am?")

    @__class__.setter
    def __class__(self, _kind: Any) -> None: ...

    def __call__(self) -> None: ...

    def __await__(self) -> Iterator[Any]:
        never = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1.0, never.set_result, None)
        yield from never


@pytest.mark.parametrize("way", ["closure", "argument", "awaits"])
def test_nothing_of_the_users_is_run_by_a_look(way: str) -> None:
    touchy, end = Touchy(), threading.Event()

    def around(function: Any, _more: Any) -> Any:
        if way == "awaits":

            async def awaiting(_event: Event) -> None:
                await _more

            return awaiting

        def wrapper(event: Event) -> Any:
            return function(event, _more)

        return wrapper

    def handler(_event: Event, _held: Any) -> None:
        assert end.wait(GUARD)

    stalled: queue.Queue[dict[str, Any]] = queue.Queue()
    bus = EventBus(watchdog=PATIENCE)
    with bus:
        bus.subscribe("system.handler_stalled", lambda event: stalled.put(event.payload))
        run = functools.partial(handler, _held=touchy) if way == "argument" else None
        bus.subscribe("a", run or around(handler, touchy), name="mine", timeout=GUARD)
        Touchy.touched.clear()
        bus.publish("a", event_id="e1")
        told = stalled.get(timeout=GUARD)
        touched = list(Touchy.touched)
        end.set()
        bus.drain_sync(GUARD)
    assert (told["subscription"], told["event_id"]) == ("mine", "e1")
    assert touched == []


class Thing:
    """Can be referred to weakly."""


def test_a_look_keeps_nothing_alive() -> None:
    end, seen, kept = threading.Event(), queue.Queue[Any](), []

    def on_a_thread(_event: Event) -> None:
        thing = Thing()
        refers = weakref.ref(thing)
        assert end.wait(GUARD)
        del thing
        kept.append(refers())

    async def on_a_loop(event: Event) -> None:
        on_a_thread(event)

    async def suspended(_event: Event) -> None:
        thing = Thing()
        refers = weakref.ref(thing)
        await asyncio.to_thread(end.wait, GUARD)
        del thing
        kept.append(refers())

    for handler in (on_a_thread, on_a_loop, suspended):
        end.clear()
        with EventBus(watchdog=PATIENCE) as bus:
            bus.subscribe("system.handler_stalled", lambda event: seen.put(event.payload))
            bus.subscribe("a", handler, timeout=GUARD)
            bus.publish("a", event_id="e1")
            assert seen.get(timeout=GUARD)["event_id"] == "e1"
            end.set()
            bus.drain_sync(GUARD)
    assert kept == [None, None, None]


@pytest.fixture
def patient_threads() -> Iterator[None]:
    """Threads that want the GIL ask for it ten times a second."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.1)
    yield
    sys.setswitchinterval(before)


def test_who_is_stuck_is_named_where_many_want_the_gil(patient_threads: None) -> None:
    """Whoever looks has to wait for it as long as one that holds it would keep it."""
    ways, over = Ways(), threading.Event()

    class Stuck(Planted):
        @subscribe("planted.go")
        def stuck(self, _event: Event) -> None:
            self.block("stuck")

    Stuck.name = "planted"

    def works() -> None:
        while not over.is_set():
            pass

    threads = [threading.Thread(target=works) for _ in range(6)]
    try:
        with world(Stuck("stuck", ways, "locks_up")) as made:
            made.framework.bus.publish("planted.go")
            for thread in threads:
                thread.start()
            told = made.next_of(made.stalled)
            over.set()
            ways.let_go()
        assert (told["handler"], told["kind"]) == ("stuck", "waits_for_lock")
    finally:
        over.set()
    for thread in threads:
        thread.join()


def hold_the_gil(seconds: float) -> None:
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def test_who_asks_for_the_gil_now_and_then_does_not_hold_it(patient_threads: None) -> None:
    class Holds(Planted):
        @subscribe("planted.go")
        def holds(self, _event: Event) -> None:
            time.sleep(0.05)  # until the other one is under way
            hold_the_gil(2.5)

        @subscribe("planted.go")
        def asks(self, _event: Event) -> None:
            time.sleep(0.08)

    Holds.name = "planted"
    ways = Ways()
    with world(Holds("", ways, "")) as made:
        made.framework.bus.publish("planted.go")
        while (told := made.next_of(made.stalled))["kind"] != "holds_gil":
            pass
        assert told["handler"] == "holds"


def test_names_that_are_not_ascii_and_very_many_threads() -> None:
    ways = Ways()

    class Größe(Planted):
        @subscribe("planted.go")
        def größe(self, event: Event) -> None:
            if event.payload == "holds":
                self.hält()

        def hält(self) -> None:
            hold_the_gil(HOLD)

    Größe.name = "planted"
    with world(Größe("", ways, "")) as made:
        made.framework.bus.publish("planted.go").wait()  # its thread is older than these
        for _ in range(120):
            threading.Thread(target=ways.end.wait, args=(GUARD,), daemon=True).start()
        made.framework.bus.publish("planted.go", "holds")
        while (told := made.next_of(made.stalled))["kind"] != "holds_gil":
            pass
        assert told["stack"][0].endswith("größe"), told
        if told["stack_from"] == "dump":
            assert [step.rpartition(".")[2].rpartition(" in ")[2] for step in told["stack"]] == [
                "größe",
                "hält",
                "hold_the_gil",
            ]
