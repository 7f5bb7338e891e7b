"""Stalls of every kind, planted wherever users' code runs: each is named, and nobody else suffers.

These run in real time: somebody has to be stuck for a while before anybody is told. Nothing here
waits for less than an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import queue
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import Component, Event, Framework, check, respond, subscribe

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks the system about threads")

LIMIT = 0.15
"""After so many seconds something is stuck here."""

HOLD = 1.2
"""For so many seconds the GIL is held, and slept where nobody can wake."""

VALUES: dict[str, Any] = {
    "health": {
        "watchdog": {"step_limit": LIMIT, "call_limit": LIMIT, "await_limit": LIMIT},
        "check_timeout": GUARD,
        "check_interval": 3600,
    },
    "event_bus": {"handler_timeout": GUARD},
    "logging": {"console": False},
}


class Ways:
    """What one can be stuck in, until the test lets go."""

    def __init__(self) -> None:
        self.end = threading.Event()
        self.lets_go: list[Callable[[], object]] = [self.end.set]
        self.locks = (threading.Lock(), threading.Lock())
        self.both_hold = threading.Barrier(2)

    def let_go(self) -> None:
        while self.lets_go:
            self.lets_go.pop()()

    # -- of code that blocks

    def sleeps(self) -> None:
        time.sleep(HOLD)

    def spins(self) -> None:
        while not self.end.is_set():
            pass

    def locks_up(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        self.lets_go.append(lock.release)
        lock.acquire()

    def waits_for_a_queue(self) -> None:
        things: queue.Queue[None] = queue.Queue()
        self.lets_go.append(lambda: things.put(None))
        things.get()

    def reads(self) -> None:
        ours, theirs = socket.socketpair()
        self.lets_go.append(lambda: theirs.send(b"x"))
        with ours, theirs:
            ours.recv(1)

    def waits_for_a_process(self) -> None:
        with subprocess.Popen(["sleep", str(GUARD)]) as process:
            self.lets_go.append(process.kill)
            process.wait()

    def keeps_the_gil(self) -> None:
        ctypes.PyDLL(None).usleep(int(HOLD * 1e6))

    def matches(self) -> None:
        catastrophe(HOLD)

    def embraces(self, first: int) -> None:
        """Takes two locks, in the order that somebody else does not."""
        with self.locks[first]:
            self.both_hold.wait(GUARD)
            if self.locks[1 - first].acquire(timeout=HOLD + first):  # a real one would never end
                self.locks[1 - first].release()

    # -- of code that awaits

    async def itself(self) -> None:
        mine = asyncio.current_task()
        assert mine is not None
        loop = asyncio.get_running_loop()

        async def waits_for_me() -> None:
            await mine

        other = loop.create_task(waits_for_me(), name="other")
        self.lets_go.append(lambda: loop.call_soon_threadsafe(other.cancel))
        with contextlib.suppress(asyncio.CancelledError):
            await other

    async def nobody(self) -> None:
        loop = asyncio.get_running_loop()
        never: asyncio.Future[None] = loop.create_future()
        self.lets_go.append(lambda: loop.call_soon_threadsafe(never.set_result, None))
        await never


def catastrophe(seconds: float) -> None:
    """A regular expression that backtracks, in C code that keeps the GIL; by the time of its own
    thread, for whatever else the machine does must not make it shorter."""
    length, began = 12, time.thread_time()
    while True:
        re.match(r"(a+)+$", "a" * length + "b")
        took = time.thread_time() - began
        if took > 0.01:
            break
        length, began = length + 1, time.thread_time()
    while took < seconds:  # each letter doubles it
        took, length = took * 2, length + 1
    re.match(r"(a+)+$", "a" * length + "b")


class Bystander(Component):
    """Somebody else, who handles on a thread, and on whose time the core's timers are seen."""

    def __init__(self) -> None:
        self.heard: queue.Queue[Event] = queue.Queue()

    @subscribe("bystander.*")
    def on_any(self, event: Event) -> None:
        self.heard.put(event)


CHECKS = ("health_check", "awaiting_health_check", "exchange")


class Planted(Component):
    """A component in which everything may be stuck; only the place that is meant is."""

    def __init__(self, place: str, ways: Ways, way: str) -> None:
        self.place, self.ways, self.way = place, ways, way
        # Checks are asked at the start, too, and are stuck only when the test asks for them.
        self.armed = place not in CHECKS

    def block(self, place: str) -> None:
        if place == self.place and self.armed:
            getattr(self.ways, self.way)()

    async def wait(self, place: str) -> None:
        if place == self.place and self.armed:
            await getattr(self.ways, self.way)()


class InHandlers(Planted):
    def start(self) -> None:
        self.bus.subscribe("planted.inline", self.inline, run_in="inline", name="inline")

    @subscribe("planted.async_handler")
    async def async_handler(self, _event: Event) -> None:
        self.block("async_handler")

    @subscribe("planted.awaiting_handler")
    async def awaiting_handler(self, _event: Event) -> None:
        await self.wait("awaiting_handler")

    @subscribe("planted.sync_handler")
    def sync_handler(self, _event: Event) -> None:
        self.block("sync_handler")

    @subscribe("planted.loop_handler", run_in="loop")
    def loop_handler(self, _event: Event) -> None:
        self.block("loop_handler")

    def inline(self, _event: Event) -> None:
        self.block("inline")

    @respond("planted.async_responder")
    async def async_responder(self, _event: Event) -> None:
        self.block("async_responder")

    @respond("planted.awaiting_responder")
    async def awaiting_responder(self, _event: Event) -> None:
        await self.wait("awaiting_responder")

    @respond("planted.sync_responder")
    def sync_responder(self, _event: Event) -> None:
        self.block("sync_responder")


class InAsyncHooks(Planted):
    async def start(self) -> None:
        self.block("start")
        await self.wait("awaiting_start")

    async def health_check(self) -> None:
        self.block("health_check")
        await self.wait("awaiting_health_check")

    @check(kind="dependency", critical=False)
    async def exchange(self) -> None:
        self.block("exchange")


class InSyncHooks(Planted):
    def initialize(self) -> None:
        self.block("initialize")

    def start(self) -> None:
        self.block("start")

    def health_check(self) -> None:
        self.block("health_check")

    @check(kind="dependency", critical=False)
    def exchange(self) -> None:
        self.block("exchange")


for kind in (InHandlers, InAsyncHooks, InSyncHooks):
    kind.name = "planted"


@dataclass
class World:
    """A system on a loop of its own thread, and what is heard of it."""

    framework: Framework
    bystander: Bystander
    stalled: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    recovered: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    loop: asyncio.AbstractEventLoop | None = None
    running: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    async def main(self) -> None:
        self.loop = asyncio.get_running_loop()
        async with self.framework:
            self.running.set()
            assert await asyncio.to_thread(self.over.wait, GUARD)

    def next_of(self, heard: queue.Queue[dict[str, Any]]) -> dict[str, Any]:
        """The next that is about what was planted."""
        while True:
            told = heard.get(timeout=GUARD)
            if told["component"] == "planted":
                return told

    def ask(self, question: Callable[[], Any]) -> None:
        """Has something awaited on the system's own loop."""
        assert self.loop is not None

        async def answer() -> None:
            await question()

        asyncio.run_coroutine_threadsafe(answer(), self.loop)

    def go(self, place: str) -> None:
        """Has the code run that is stuck at ``place``."""
        bus = self.framework.bus
        if place.endswith("responder"):
            self.ask(lambda: bus.request(f"planted.{place}", timeout=GUARD))
        elif place in CHECKS:
            self.framework.get(Planted).armed = True
            self.ask(lambda: self.framework.check("planted"))
        elif place == "inline":
            threading.Thread(target=bus.publish, args=("planted.inline",), name="mine").start()
        elif place.endswith("handler"):
            bus.publish(f"planted.{place}")

    def ping(self) -> None:
        """Somebody else is served at once."""
        self.framework.bus.publish("bystander.ping", event_id="ping")
        assert self.bystander.heard.get(timeout=GUARD).event_type == "bystander.ping"


@contextlib.contextmanager
def world(planted: Component, *others: Component, values: Any = VALUES) -> Iterator[World]:
    bystander, place = Bystander(), getattr(planted, "place", "")
    early = place in ("start", "awaiting_start", "initialize")
    listens = [] if early else [bystander]
    made = World(Framework(values, components=[*listens, planted, *others]), bystander)
    if early:  # no component is there yet
        made.framework.bus.subscribe("bystander.*", bystander.on_any)
    for name in ("stalled", "recovered"):
        put = getattr(made, name).put
        made.framework.bus.subscribe(
            f"system.handler_{name}", lambda event, put=put: put(event.payload)
        )
    thread = threading.Thread(target=lambda: asyncio.run(made.main()), name=f"loop-{planted.name}")
    thread.start()
    try:
        if not early:
            assert made.running.wait(GUARD)
        yield made
    finally:
        if isinstance(planted, Planted):
            planted.ways.let_go()
        made.over.set()
        thread.join(GUARD)
    assert not thread.is_alive()


LOOP, THREAD, TASK = "blocks_loop", "keeps_thread", "waits"

PLANTED: list[tuple[type[Planted], str, str, str, str]] = [
    (InHandlers, "async_handler", "sleeps", LOOP, "sleeps"),
    (InHandlers, "async_handler", "spins", LOOP, "spins"),
    (InHandlers, "async_handler", "locks_up", LOOP, "waits_for_lock"),
    (InHandlers, "async_handler", "reads", LOOP, "sleeps"),
    (InHandlers, "async_handler", "waits_for_a_process", LOOP, "sleeps"),
    (InHandlers, "async_handler", "keeps_the_gil", LOOP, "holds_gil"),
    (InHandlers, "async_handler", "matches", LOOP, "holds_gil"),
    (InHandlers, "loop_handler", "waits_for_a_queue", LOOP, "waits_for_lock"),
    (InHandlers, "awaiting_handler", "itself", TASK, "awaits"),
    (InHandlers, "awaiting_handler", "nobody", TASK, "awaits"),
    (InHandlers, "sync_handler", "sleeps", THREAD, "sleeps"),
    (InHandlers, "sync_handler", "spins", THREAD, "spins"),
    (InHandlers, "sync_handler", "locks_up", THREAD, "waits_for_lock"),
    (InHandlers, "sync_handler", "reads", THREAD, "sleeps"),
    (InHandlers, "sync_handler", "keeps_the_gil", THREAD, "holds_gil"),
    (InHandlers, "sync_handler", "matches", THREAD, "holds_gil"),
    (InHandlers, "inline", "sleeps", THREAD, "sleeps"),
    (InHandlers, "inline", "spins", THREAD, "spins"),
    (InHandlers, "inline", "locks_up", THREAD, "waits_for_lock"),
    (InHandlers, "inline", "keeps_the_gil", THREAD, "holds_gil"),
    (InHandlers, "async_responder", "sleeps", LOOP, "sleeps"),
    (InHandlers, "awaiting_responder", "nobody", TASK, "awaits"),
    (InHandlers, "sync_responder", "waits_for_a_queue", THREAD, "waits_for_lock"),
    (InAsyncHooks, "start", "sleeps", LOOP, "sleeps"),
    (InAsyncHooks, "awaiting_start", "nobody", TASK, "awaits"),
    (InAsyncHooks, "health_check", "locks_up", LOOP, "waits_for_lock"),
    (InAsyncHooks, "awaiting_health_check", "nobody", TASK, "awaits"),
    (InAsyncHooks, "exchange", "spins", LOOP, "spins"),
    (InSyncHooks, "initialize", "waits_for_a_process", THREAD, "sleeps"),
    (InSyncHooks, "start", "reads", THREAD, "sleeps"),
    (InSyncHooks, "health_check", "spins", THREAD, "spins"),
    (InSyncHooks, "exchange", "keeps_the_gil", THREAD, "holds_gil"),
]


@pytest.mark.parametrize(
    ("component", "place", "way", "action", "kind"),
    PLANTED,
    ids=[f"{component.__name__}-{place}-{way}" for component, place, way, *_ in PLANTED],
)
def test_a_planted_stall(
    component: type[Planted], place: str, way: str, action: str, kind: str
) -> None:
    ways = Ways()
    planted = component(place, ways, way)
    function = place.removeprefix("awaiting_") if component is InAsyncHooks else place
    with world(planted) as made:
        if kind == "holds_gil":
            made.framework.bus.every(0.02, "bystander.tick")
            first = made.bystander.heard.get(timeout=GUARD)
        made.go(place)
        if kind != "holds_gil":
            # While it is stuck, and before it is told of, and after.
            made.ping()
        told = made.next_of(made.stalled)
        assert (told["handler"], told["kind"], told["action"]) == (function, kind, action), told
        assert told["seconds"] >= LIMIT
        of_handler = f"planted.{function}" if component is InHandlers else None
        assert told["subscription"] == of_handler
        assert_stack(told, component, function, way)
        if kind != "holds_gil":
            made.ping()
            (health,) = (
                report
                for report in made.framework.health()["components"]
                if report["component_id"] == "planted"
            )
            reasons = health["details"]["reasons"]
            assert any(f"planted.{function} has " in reason for reason in reasons), reasons
        ways.let_go()
        back = made.next_of(made.recovered)
        assert (back["handler"], back["action"]) == (function, "came_back")
        assert back["seconds"] >= told["seconds"]
        if kind == "holds_gil":
            assert_on_time(made.bystander, first, back["seconds"])


def assert_stack(told: dict[str, Any], component: type, function: str, way: str) -> None:
    first, *inner = told["stack"]
    assert first.rpartition(".")[2].rpartition(" in ")[2] == function, told
    assert f"{__file__}:" in first
    if told.get("stack_from") == "last_known":
        return  # the interpreter shows nobody more
    deeper = "catastrophe" if way == "matches" else way
    assert any(step.endswith(deeper) for step in inner), told
    if told["kind"] == "awaits":
        assert told["thread"] is None
        assert ("itself" if way == "itself" else "nobody has completed") in told["waits_for"]
    elif told["action"] == LOOP:
        assert told["thread"].startswith("loop-planted")
        assert "waits_for" not in told
    elif function == "inline":
        assert told["thread"] in ("mine", None)
    else:
        assert told["thread"].startswith("tiebeam-")


def assert_on_time(bystander: Bystander, first: Event, held: float) -> None:
    """The core's timers went on while the GIL was held, and the rest goes on after it."""
    times = [first.timestamp / 1000]
    while times[-1] < times[0] + held + 0.1:
        times.append(bystander.heard.get(timeout=GUARD).timestamp / 1000)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(gaps) < held / 2, f"{max(gaps)} of {held}"


def test_two_locks_in_two_orders() -> None:
    ways = Ways()

    class Embrace(Planted):
        name = "planted"

        @subscribe("planted.go")
        def one(self, _event: Event) -> None:
            ways.embraces(0)

        @subscribe("planted.go")
        def other(self, _event: Event) -> None:
            ways.embraces(1)

    with world(Embrace("both", ways, "embraces")) as made:
        made.framework.bus.publish("planted.go")
        told = [made.next_of(made.stalled) for _ in range(2)]
        made.ping()
        assert {one["handler"] for one in told} == {"one", "other"}
        for one in told:
            assert (one["kind"], one["action"]) == ("waits_for_lock", THREAD)
            assert one["stack"][-1].endswith("embraces")


def test_who_waits_for_a_blocked_loop_is_named() -> None:
    ways = Ways()

    class Waiting(Component):
        @subscribe("waiting.go")
        async def on_go(self, _event: Event) -> None: ...

    planted = InHandlers("async_handler", ways, "locks_up")
    entered = threading.Event()
    ways.locks_up = lambda: (entered.set(), Ways.locks_up(ways))[1]  # type: ignore[method-assign]
    with world(planted, Waiting()) as made:
        made.go("async_handler")
        assert entered.wait(GUARD)
        made.framework.bus.publish("waiting.go")
        assert made.next_of(made.stalled)["waiting"] == ["waiting.on_go"]


def test_a_watchdog_that_is_off_says_nothing() -> None:
    values = {**VALUES, "health": {"watchdog": {"enabled": False, "step_limit": 0.01}}}
    with world(InHandlers("sync_handler", Ways(), "sleeps"), values=values) as made:
        made.go("sync_handler")
        made.framework.bus.drain_sync(GUARD)
        assert made.stalled.empty()


def test_a_handler_that_awaits_itself_is_ended_by_its_time_limit() -> None:
    """asyncio alone would pass the cancellation round the circle until the stack is used up."""
    ways, ended = Ways(), threading.Event()

    class Circle(Component):
        name = "planted"

        @subscribe("planted.go", timeout=0.3, retry=False)
        async def go(self, _event: Event) -> None:
            try:
                await ways.itself()
            finally:
                ended.set()

    with world(Circle()) as made:
        made.framework.bus.publish("planted.go")
        assert made.next_of(made.stalled)["waits_for"] == "the task other which awaits itself"
        assert ended.wait(GUARD)
        assert made.next_of(made.recovered)["handler"] == "go"
