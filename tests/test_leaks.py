"""Nothing stays behind: memory is flat while subscriptions, components and failures come and go.

The sizes are those of every run; ``TIEBEAM_LEAKS=100000`` asks for more.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

COUNT = int(os.environ.get("TIEBEAM_LEAKS", "10000"))

BOUND_MIB = 4.0
"""What may be added between the warm-up and the end.

A leak of one handler, event or subscription in each round is at least some hundred bytes, so many
times that this is a MiB and more; mimalloc and CPython keep freed pages, which the warm-up, as
long as what is measured, has made them take before."""

PRELUDE = """
import asyncio, gc, sys, weakref
from tiebeam import Component, Event, EventBus, Framework, subscribe

COUNT = int(sys.argv[1])

def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096 / 2**20

def dead(references):
    gc.collect()
    alive = [reference() for reference in references]
    assert not any(what is not None for what in alive), [what for what in alive if what][:3]

def flat(work, bound):
    work(COUNT)
    work(COUNT)  # the warm-up: pages come 2 MiB at a time, and not all of them in the first
    added = []
    while len(added) < 3:  # what leaks is added each time; pages come now and then
        before = resident()
        work(COUNT)
        added.append(resident() - before)
        if added[-1] < bound:
            break
    assert min(added) < bound, f"{added} MiB were added by {COUNT} rounds each"
    print(added)
"""

SUBSCRIPTIONS = """
class Owner:
    def __init__(self):
        self.seen = 0
    def on(self, event):
        self.seen += event.payload["n"]
    async def later(self, event):
        await asyncio.sleep(0)
        self.seen += event.payload["n"]

async def rounds(count):
    references = []
    async with EventBus() as bus:
        for n in range(count):
            owner = Owner()
            how = n % 3
            handler = owner.later if how == 0 else owner.on
            place = {} if how == 0 else {"run_in": ("inline", "thread")[how - 1]}
            with bus.subscribe(f"a.{n % 7}.*", handler, **place):
                receipt = bus.publish(f"a.{n % 7}.x", {"n": 1})
                if n % 10 == 0:
                    references += [weakref.ref(owner), weakref.ref(handler.__func__.__self__)
                                   if hasattr(handler.__func__, "__self__") else weakref.ref(owner)]
                    await receipt
                    await bus.drain()
                    assert owner.seen == 1
        del owner, handler, receipt
        await bus.drain()
        assert bus.subscriptions == []
        books = bus.books()
        assert books.balanced and books.total.in_flight == 0, str(books)
        assert books.total.published == count, str(books)
        assert list(books.subscriptions) == []
    dead(references)

flat(lambda count: asyncio.run(rounds(count)), float(sys.argv[2]))
"""

FAILURES = """
class Payload:
    pass

references = []

def raises(event):
    local = Payload()  # alive as long as the traceback is
    if event.payload["n"] % 10 == 0:
        references.append(weakref.ref(local))
    raise ValueError(f"on purpose {event.payload['n']}")

async def raises_later(event):
    await asyncio.sleep(0)
    raises(event)

async def rounds(count):
    references.clear()
    async with EventBus() as bus:
        bus.subscribe("a", raises, run_in="inline")
        bus.subscribe("a", raises)
        bus.subscribe("a", raises_later)
        for n in range(count // 3):
            await bus.publish("a", {"n": n})
            if n % 100 == 0:
                await bus.drain()
                bus.dead_letters.purge()
        await bus.drain()
        bus.dead_letters.purge()
        assert bus.books().balanced
    assert references
    dead(references)

import logging
logging.disable(logging.CRITICAL)
flat(lambda count: asyncio.run(rounds(count)), float(sys.argv[2]))
"""

COMPONENTS = """
async def rounds(count):
    references = []
    for n in range(count // 50):
        class Agent(Component):
            name = "agent"
            @subscribe("a")
            async def on_a(self, event):
                await self.publish_event("b", {"n": event.payload["n"]})
            @subscribe("b", run_in="inline")
            def on_b(self, event):
                references.append(weakref.ref(event))
        agent = Agent()
        framework = Framework({"logging": {"console": False}}, components=[agent])
        async with framework:
            await framework.bus.publish("a", {"n": n})
            await framework.bus.drain()
        references += [weakref.ref(agent), weakref.ref(framework), weakref.ref(framework.bus)]
        del agent, framework, Agent
    dead(references)

flat(lambda count: asyncio.run(rounds(count)), float(sys.argv[2]))
"""

BUSES = """
def rounds(count):
    references = []
    for n in range(count // 20):
        bus = EventBus("x")
        class Owner:
            def on(self, event):
                self.event = event
        owner = Owner()
        bus.subscribe("a.*", owner.on, run_in="inline")
        bus.subscribe("a.#", owner.on)
        bus.publish("a.b", {"n": n})
        assert bus.wait_for("c") is not None
        if n % 2:
            bus.close_sync()
        else:
            bus.drain_sync()
        references += [weakref.ref(bus), weakref.ref(owner), weakref.ref(owner.event)]
        del bus, owner, Owner
    dead(references)

flat(rounds, float(sys.argv[2]))
"""

REQUESTS = """
async def rounds(count):
    async with EventBus() as bus:
        async def answer(event):
            await asyncio.sleep(0)
            return event.payload
        bus.respond("ask", answer)
        for n in range(count):
            if n % 5 == 0:
                bus.request("ask", {"n": n})  # nobody waits for it
            elif n % 5 == 1:
                waiting = asyncio.ensure_future(asyncio.wait_for(bus.request("ask", {"n": n}), 5))
                await asyncio.sleep(0)
                waiting.cancel()
            else:
                assert await bus.request("ask", {"n": n}) == {"n": n}
        await bus.drain()
        books = bus.books()
        assert books.pending_requests == 0 and books.balanced

import warnings
warnings.simplefilter("ignore")
flat(lambda count: asyncio.run(rounds(count)), float(sys.argv[2]))
"""

WORK = {
    "subscriptions": SUBSCRIPTIONS,
    "failures": FAILURES,
    "components": COMPONENTS,
    "buses": BUSES,
    "requests": REQUESTS,
}


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux' /proc")
@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_memory_is_flat_and_what_is_gone_is_dead(work: str) -> None:
    program = PRELUDE + textwrap.dedent(work)
    arguments = [sys.executable, "-c", program, str(COUNT), str(BOUND_MIB)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
