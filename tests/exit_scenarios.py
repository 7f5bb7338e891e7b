"""Programs that end in the middle of their work, each at a moment that its seed chooses.

    python tests/exit_scenarios.py sys_exit --kind framework --loop uvloop --seed 7

None of them tidies up: what is left open, the end of the process has to close. ``exit_matrix.py``
runs them in great numbers, ``test_exit.py`` in small ones.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tiebeam import Component, Event, EventBus, Framework, TiebeamError, subscribe

ENDINGS = {
    "in_flight": 0,  # the main coroutine returns, and `asyncio.run` cancels what is left
    "no_shutdown": 0,  # the loop is left as it is: not closed, nothing cancelled
    "daemon_threads": 0,  # other threads go on publishing
    "stuck_threads": 0,  # sync handlers that never return
    "uncaught": 1,
    "sys_exit": 7,
}
"""Each ending, and the exit code it must have."""

KINDS = ("bus", "framework")
LOOPS = ("asyncio", "uvloop", "none")

EACH = 100
"""Suspended handlers, requests without an answer, and publishers that wait for room."""

QUIET = {
    "logging": {"console": False},
    "service_registry": {"shutdown_timeout": 0.5},
}


class OnPurpose(Exception):
    """What ends the program in ``uncaught``."""


def subscribe_all(bus: EventBus, ending: str) -> None:
    """Handlers of every kind; most never come to their end."""

    async def for_ever(_event: Event) -> None:
        await asyncio.Event().wait()

    async def a_while(event: Event) -> None:
        await asyncio.sleep(event.payload.get("n", 0) % 3 / 1000)

    def fails(_event: Event) -> None:
        raise ConnectionError("on purpose")

    def works(event: Event) -> Any:
        return event.payload

    def never_returns(_event: Event) -> None:
        while True:
            time.sleep(0.0005)  # takes the GIL again and again, also while the interpreter ends

    bus.subscribe("hold", for_ever, concurrency=EACH)
    bus.subscribe("full", for_ever, capacity=1)
    bus.respond("unanswered", for_ever, concurrency=EACH)
    bus.respond("answered", works)
    bus.subscribe("tick", a_while, concurrency=4, overflow="drop_oldest")
    bus.subscribe("tick", works, overflow="drop_oldest")
    bus.subscribe("tick", works, run_in="inline")
    bus.subscribe("fails", fails, retry={"max_attempts": 50, "initial_delay": 0.001})
    if ending == "stuck_threads":
        bus.subscribe("stuck", never_returns, concurrency=3)


def set_off(bus: EventBus, ending: str, rng: random.Random) -> None:
    """Events for all of them, now and later on."""
    for n in range(EACH):
        bus.publish("hold", {"n": n})
    for n in range(20):
        bus.publish("tick", {"n": n})
        bus.publish("fails", {"n": n})
        bus.publish("tick", {"n": n}, delay=rng.random() * 0.05)
    bus.every(0.001, "tick")
    if ending == "stuck_threads":
        for _ in range(3):
            bus.publish("stuck")


async def request(bus: EventBus, what: str) -> None:
    await bus.request(what, timeout=60)


async def publish(bus: EventBus) -> None:
    await bus.publish("full")


def wait_for_reply(bus: EventBus) -> None:
    bus.request("unanswered", timeout=60).wait()


def wait_for_room(bus: EventBus) -> None:
    bus.publish("full").wait()


def publish_until_closed(bus: EventBus) -> None:
    n = 0
    while True:
        n += 1
        bus.publish("tick", {"n": n})
        bus.request("answered", {"n": n}, timeout=60).wait()


def publish_for_ever(bus: EventBus) -> None:
    """Does not listen, and is overtaken by the end of the interpreter."""
    while True:
        with contextlib.suppress(TiebeamError):
            publish_until_closed(bus)


def guarded(target: Callable[[EventBus], None], bus: EventBus) -> None:
    """A thread that outlives the bus is told so; what it makes of that is its own affair."""
    with contextlib.suppress(TiebeamError):
        target(bus)


def start_thread(target: Callable[[EventBus], None], bus: EventBus) -> None:
    threading.Thread(target=guarded, args=(target, bus), daemon=True).start()


class Source(Component):
    """Sets everything off when it starts, and works in the background."""

    def __init__(self, ending: str, rng: random.Random) -> None:
        self.ending, self.rng = ending, rng

    async def start(self) -> None:
        subscribe_all(self.bus, self.ending)
        set_off(self.bus, self.ending, self.rng)
        self.task = asyncio.ensure_future(self.work())

    async def work(self) -> None:
        while True:
            await self.publish_event("work", {"n": 1})
            await asyncio.sleep(0.0005)


class Sink(Component):
    """Works for the source; its hooks run on threads."""

    depends_on = ["source"]

    def start(self) -> None:
        self.seen = 0

    def stop(self) -> None: ...

    @subscribe("work", overflow="drop_oldest")
    def on_work(self, _event: Event) -> None:
        self.seen += 1

    @subscribe("work", overflow="drop_oldest")
    async def on_work_too(self, _event: Event) -> None:
        await asyncio.sleep(0.001)


KEPT: list[Any] = []
"""What a program keeps in its globals until the very end."""


async def begin(kind: str, ending: str, rng: random.Random) -> EventBus:
    if kind == "bus":
        bus = EventBus()
        subscribe_all(bus, ending)
        set_off(bus, ending, rng)
    else:
        framework = Framework(QUIET, components=[Source(ending, rng), Sink()])
        await framework.start()
        KEPT.append(framework)
        bus = framework.bus
    return bus


def end(ending: str) -> None:
    if ending == "uncaught":
        raise OnPurpose("the program fails")
    if ending == "sys_exit":
        sys.exit(ENDINGS["sys_exit"])


async def on_a_loop(kind: str, ending: str, rng: random.Random) -> None:
    bus = await begin(kind, ending, rng)
    for _ in range(EACH):
        KEPT.append(asyncio.ensure_future(request(bus, "unanswered")))
        KEPT.append(asyncio.ensure_future(publish(bus)))
    if ending == "daemon_threads":
        for target in (publish_until_closed, publish_until_closed, publish_for_ever):
            start_thread(target, bus)
    await asyncio.sleep(rng.random() * 0.03)
    if rng.random() < 0.5:
        KEPT.append(bus)
    end(ending)


def without_a_loop(ending: str, rng: random.Random) -> None:
    bus = EventBus()
    subscribe_all(bus, ending)
    set_off(bus, ending, rng)
    KEPT.extend(bus.request("unanswered", timeout=60) for _ in range(EACH))
    KEPT.extend(bus.publish("full") for _ in range(EACH))
    for _ in range(3):
        start_thread(wait_for_reply, bus)
        start_thread(wait_for_room, bus)
    if ending == "daemon_threads":
        for target in (publish_until_closed, publish_until_closed, publish_for_ever):
            start_thread(target, bus)
    time.sleep(rng.random() * 0.03)
    end(ending)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ending", choices=ENDINGS)
    parser.add_argument("--kind", choices=KINDS, default="bus")
    parser.add_argument("--loop", choices=LOOPS, default="asyncio")
    parser.add_argument("--seed", type=int, default=0)
    how = parser.parse_args()
    rng = random.Random(how.seed)
    sys.setswitchinterval(rng.choice([5e-3, 5e-4, 5e-5]))

    if how.loop == "none":
        if how.kind != "bus":
            parser.error("a framework runs on a loop")
        without_a_loop(how.ending, rng)
        return
    if how.loop == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    if how.ending == "no_shutdown":
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(on_a_loop(how.kind, how.ending, rng))
    else:
        asyncio.run(on_a_loop(how.kind, how.ending, rng))


if __name__ == "__main__":
    main()
