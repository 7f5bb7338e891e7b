"""Handlers that block the event loop they run on: who is told, when, and where they stand.

These run in real time: a handler has to block for a second before anybody is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import functools
import inspect
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import Component, Event, EventBus, Framework

HERE = __file__


class Block:
    """What a handler blocks its loop with, until the test has seen what it wants to see."""

    def __init__(self) -> None:
        self.end = threading.Event()

    def hold(self) -> None:
        assert self.end.wait(GUARD)


class Told:
    """What is told of stalled handlers, heard on threads; warnings of the logs too."""

    def __init__(self) -> None:
        self.stalled: queue.Queue[dict[str, Any]] = queue.Queue()
        self.recovered: queue.Queue[dict[str, Any]] = queue.Queue()
        self.logged: queue.Queue[logging.LogRecord] = queue.Queue()

    def listen(self, bus: EventBus) -> None:
        for name in ("stalled", "recovered"):
            put = getattr(self, name).put
            bus.subscribe(f"system.handler_{name}", lambda event, put=put: put(event.payload))

    @property
    def nothing(self) -> bool:
        return self.stalled.empty() and self.recovered.empty() and self.logged.empty()


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # Not those of an earlier test, which may come late.
            if getattr(record, "subscription", None) in ("mine", None):
                told.logged.put(record)

    handler = Handler(logging.WARNING)
    logging.getLogger("tiebeam").addHandler(handler)
    yield told
    logging.getLogger("tiebeam").removeHandler(handler)


@contextlib.contextmanager
def on_a_thread(work: Callable[[], None]) -> Iterator[None]:
    """Runs ``work`` beside the body, and raises what it raised."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(GUARD)
        if failed:
            raise failed[0]


def line_of(function: Any, text: str) -> int:
    """The line of a function's source that has ``text``."""
    lines, first = inspect.getsourcelines(function)
    return next(first + number for number, line in enumerate(lines) if text in line)


def uvloop() -> asyncio.AbstractEventLoop:
    return pytest.importorskip("uvloop").new_event_loop()  # type: ignore[no-any-return]


def run_on(new_loop: Callable[[], asyncio.AbstractEventLoop], main: Any) -> None:
    """``asyncio.run`` on a loop of that kind; a hang becomes a failure."""
    loop = new_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(main, GUARD))
    finally:
        loop.close()


@pytest.mark.parametrize(
    ("new_loop", "place"), [(asyncio.new_event_loop, "here"), (uvloop, "thread")]
)
def test_a_handler_that_blocks_its_loop_is_named(
    told: Told, new_loop: Callable[[], asyncio.AbstractEventLoop], place: str
) -> None:
    block = Block()

    async def handler(event: Event) -> None:
        if event.payload["n"] == 1:
            block.hold()

    def publish(bus: EventBus) -> None:
        for n in range(3):
            bus.publish("a.b", {"n": n}, event_id=f"e{n}")

    stalled: dict[str, Any] = {}
    recovered: dict[str, Any] = {}

    def watch() -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(block.end.set)
            stalled.update(told.stalled.get(timeout=GUARD))

    async def main() -> None:
        async with EventBus() as bus:
            told.listen(bus)
            bus.subscribe("a.b", handler, name="mine")
            with on_a_thread(watch):
                if place == "here":
                    publish(bus)
                else:
                    await asyncio.to_thread(publish, bus)
                await bus.drain()
            recovered.update(await asyncio.to_thread(told.recovered.get, timeout=GUARD))
            books = bus.books()
            assert books["mine"].delivered == 3
            assert 1 <= books.longest_loop_lag < GUARD
            assert 0 <= books.loop_lag <= books.longest_loop_lag

    run_on(new_loop, main())
    where = f"{HERE}:{line_of(handler, 'block.hold()')} in handler"
    assert stalled["subscription"] == recovered["subscription"] == "mine"
    assert stalled["component"] is None
    assert (stalled["event_id"], stalled["event_type"]) == ("e1", "a.b")
    assert (stalled["action"], recovered["action"]) == ("blocks_loop", "came_back")
    assert 1 <= stalled["seconds"] <= recovered["seconds"] < GUARD
    inner = f"{HERE}:{line_of(Block.hold, 'end.wait')} in "
    assert stalled["stack"][0] == where
    assert stalled["stack"][1].startswith(inner)
    assert "threading.py" in stalled["stack"][-1]
    first, second = (told.logged.get(timeout=GUARD) for _ in range(2))
    assert first.levelno == logging.WARNING
    assert "the handler mine has blocked its event loop for 1." in first.getMessage()
    assert f", at {' -> '.join(stalled['stack'])}; nothing else" in first.getMessage()
    assert vars(first)["subscription"] == "mine"
    assert "the handler mine gave its event loop back after " in second.getMessage()
    assert told.nothing


@dataclasses.dataclass
class Order:
    n: int


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


def bare(function: Any) -> Any:
    async def wrapper(event: Event) -> Any:
        return await function(event)

    return wrapper


class Kinds:
    """Handlers of all kinds, which block in `block.hold()`; each with a bus and a loop."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.bus = EventBus()
        self.stalled: queue.Queue[dict[str, Any]] = queue.Queue()

    def sync(self, _event: Event) -> None:
        self.block.hold()

    async def at_once(self, _event: Event) -> None:
        self.block.hold()

    async def resumed(self, _event: Event) -> None:
        await asyncio.sleep(0.01)
        self.block.hold()

    async def typed(self, _order: Order) -> None:
        self.block.hold()

    async def told_more(self, _more: int, _event: Event) -> None:
        self.block.hold()

    async def publishes(self, _event: Event) -> None:
        self.bus.publish("inside")

    def fails(self, _event: Event) -> None:
        raise ValueError("no")

    async def run(self, handler: Any, **how: Any) -> None:
        async with self.bus as bus:
            bus.subscribe("system.handler_stalled", lambda e: self.stalled.put(e.payload))
            bus.subscribe("a", handler, name="kind", timeout=GUARD, **how)
            if handler == self.publishes:
                bus.subscribe("inside", self.sync, run_in="inline")
            await bus.publish("a", Order(1), event_id="e1")
            await bus.drain()

    async def ask(self) -> None:
        async with self.bus as bus:
            bus.subscribe("system.handler_stalled", lambda e: self.stalled.put(e.payload))
            bus.respond("a", self.at_once, name="kind", timeout=GUARD)
            await bus.request("a", Order(1), timeout=GUARD, event_id="e1")


def test_whatever_kind_of_handler_it_is() -> None:
    block = Block()
    on_loop: dict[str, Any] = {"run_in": "loop"}
    cases: list[tuple[str, Callable[[Kinds], Any]]] = [
        ("sync", lambda kinds: kinds.run(kinds.sync, **on_loop)),
        ("at_once", lambda kinds: kinds.run(kinds.at_once)),
        ("resumed", lambda kinds: kinds.run(kinds.resumed)),
        ("typed", lambda kinds: kinds.run(kinds.typed)),
        ("sync", lambda kinds: kinds.run(decorated(kinds.sync), **on_loop)),
        ("at_once", lambda kinds: kinds.run(bare(kinds.at_once))),
        ("told_more", lambda kinds: kinds.run(functools.partial(kinds.told_more, 1))),
        ("publishes", lambda kinds: kinds.run(kinds.publishes)),
        (
            "at_once",
            lambda kinds: kinds.run(kinds.fails, fallback=kinds.at_once, retry=False, **on_loop),
        ),
        ("at_once", lambda kinds: kinds.ask()),
    ]
    with contextlib.ExitStack() as stack:
        running = []
        for function, run in cases:
            kinds = Kinds(block)
            running.append((function, kinds))
            main = functools.partial(run, kinds)
            stack.enter_context(
                on_a_thread(lambda main=main: run_on(asyncio.new_event_loop, main()))
            )
        stack.callback(block.end.set)
        for function, kinds in running:
            told = kinds.stalled.get(timeout=GUARD)
            assert told["action"] == "blocks_loop"
            if function == "publishes":  # it is kept by the one that it calls, and waits for it
                function = "sync"
                assert (told["subscription"], told["event_type"]) == ("Kinds.sync", "inside")
                assert told["waiting"] == ["kind"]
            else:
                assert (told["subscription"], told["event_type"]) == ("kind", "a")
                assert told["event_id"] == "e1"
            line = line_of(getattr(Kinds, function), "hold()")
            assert told["stack"][0].startswith(f"{HERE}:{line} in "), (function, told)
            assert told["stack"][0].endswith(function)


def test_no_alarm_for_a_loop_that_is_busy(told: Told) -> None:
    """A single turn of the loop takes more than a second, but no handler does."""
    begun: list[float] = []

    def short(event: Event) -> None:
        begun.append(time.monotonic())
        time.sleep(0.012)

    async def waits(_event: Event) -> None:
        await finished.wait()

    async def ends(_event: Event) -> None:
        last.set()

    async def main() -> None:
        async with EventBus() as bus:
            told.listen(bus)
            bus.subscribe("a", short, run_in="loop", name="mine")
            bus.subscribe("c", ends)
            bus.subscribe("d", lambda event: None, run_in="loop")
            bus.subscribe("b", waits)
            bus.publish("b")
            for n in range(125):
                bus.publish("a", {"n": n})
            bus.publish("c")
            await last.wait()
            for _ in range(2000):
                await bus.publish("d")
            finished.set()
            await bus.drain()

    finished, last = asyncio.Event(), asyncio.Event()
    run_on(asyncio.new_event_loop, main())
    assert begun[-1] - begun[0] > 1.4
    assert told.nothing


def test_a_loop_that_is_blocked_by_something_else(told: Told) -> None:
    block = Block()
    handled: list[Event] = []

    async def handler(event: Event) -> None:
        handled.append(event)

    async def careless() -> None:
        block.hold()

    def watch() -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(block.end.set)
            said.append(told.logged.get(timeout=GUARD).getMessage())

    async def main() -> None:
        async with EventBus() as bus:
            told.listen(bus)
            bus.subscribe("a", handler)
            bus.publish("a")
            await careless()
            await bus.drain()
            assert len(handled) == 1

    said: list[str] = []
    with on_a_thread(watch):
        run_on(asyncio.new_event_loop, main())
    (message,) = said
    assert "an event loop has not come to its handlers for 1." in message
    assert f" -> {HERE}:{line_of(careless, 'hold()')} in careless -> {HERE}" in message
    assert told.nothing


@pytest.mark.skipif(sys.platform == "win32", reason="needs usleep")
def test_a_handler_that_keeps_the_gil_is_named_too(told: Told) -> None:
    usleep = ctypes.PyDLL(None).usleep  # a call that keeps the GIL

    async def handler(_event: Event) -> None:
        usleep(2_700_000)

    async def main() -> None:
        async with EventBus() as bus:
            told.listen(bus)
            bus.subscribe("a", handler, name="keeps")
            await bus.publish("a")
            await bus.drain()
            found.append(await asyncio.to_thread(told.recovered.get, timeout=GUARD))

    found: list[dict[str, Any]] = []
    run_on(asyncio.new_event_loop, main())
    stalled, recovered = told.stalled.get(timeout=GUARD), found[0]
    assert stalled["subscription"] == "keeps"
    assert stalled["kind"] == "holds_gil"
    assert stalled["stack_from"] in ("dump", "last_known")
    assert stalled["stack"][0].startswith(f"{HERE}:")
    assert stalled["stack"][0].endswith("handler")
    assert 1.9 < stalled["seconds"] < recovered["seconds"]


def test_the_health_of_a_component_whose_handler_blocks(told: Told) -> None:
    block = Block()

    class Careless(Component):
        def start(self) -> None:
            self.bus.subscribe("a", self.on_a)

        async def on_a(self, _event: Event) -> None:
            block.hold()

    def watch() -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(block.end.set)
            stalled.append(told.stalled.get(timeout=GUARD))
            health.append(framework.health())

    async def main() -> None:
        async with framework:
            told.listen(framework.bus)
            with on_a_thread(watch):
                await framework.bus.publish("a")
                await framework.bus.drain()
            health.append(framework.health())

    framework = Framework(components=[Careless()])
    stalled: list[dict[str, Any]] = []
    health: list[dict[str, Any]] = []
    run_on(asyncio.new_event_loop, main())
    assert stalled[0]["component"] == "careless"
    during, after = (report["components"][0] for report in health)
    assert (during["health"], after["health"]) == ("warn", "pass")
    (reason,) = during["details"]["reasons"]
    assert "on_a has blocked its event loop for 1." in reason
    assert after["details"]["longest_loop_lag"] >= 1000
    assert after["details"]["loop_lag"] <= after["details"]["longest_loop_lag"]
