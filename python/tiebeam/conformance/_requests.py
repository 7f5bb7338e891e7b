"""Requests and their replies."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tiebeam._core import Event
from tiebeam.conformance._case import case
from tiebeam.conformance._expect import expect
from tiebeam.conformance._site import Site
from tiebeam.exceptions import NoResponder, RequestFault, RequestTimeout


@case()
async def replies(site: Site) -> None:
    """A request gets its own reply, of many at once."""
    here, there = site.two()

    @there.respond("math.double", concurrency=16)
    async def double(event: Event) -> Any:
        await asyncio.sleep(0)
        return {"result": event.payload["n"] * 2}

    await site.ready()

    async def ask(n: int) -> Any:
        return await here.request("math.double", {"n": n}, timeout=site.guard)

    got = await asyncio.gather(*(ask(n) for n in range(100)))
    expect(got == [{"result": n * 2} for n in range(100)])
    expect(here.books().pending_requests == 0)


@case()
async def faults(site: Site) -> None:
    """What a responder raises, the requester gets as a fault."""
    here, there = site.two()

    @there.respond("math.fail")
    async def fail(_event: Event) -> Any:
        raise ZeroDivisionError("by nothing")

    await site.ready()
    try:
        await here.request("math.fail", {}, timeout=site.guard)
    except RequestFault as fault:
        expect((fault.remote_type, fault.remote_message) == ("ZeroDivisionError", "by nothing"))
        expect("by nothing" in fault.remote_traceback)
    else:
        raise AssertionError("the fault did not come")


@case("knows_responders")
async def nobody(site: Site) -> None:
    """A request that nobody answers fails at once."""
    here, there = site.two()
    there.respond("math.other", lambda _event: None)
    await site.ready()
    begun = time.monotonic()
    try:
        await here.request("math.nobody", {}, timeout=site.guard)
    except NoResponder as error:
        expect("math.nobody" in str(error))
    else:
        raise AssertionError("somebody answered")
    expect(time.monotonic() - begun < site.guard / 4)


@case()
async def too_late(site: Site) -> None:
    """A reply that comes too late is counted, and never delivered."""
    here, there = site.two()
    go, asked = asyncio.Event(), asyncio.Event()

    @there.respond("slow.answer")
    async def answer(_event: Event) -> str:
        asked.set()
        await go.wait()
        return "late"

    await site.ready()
    pending = here.request("slow.answer", {}, timeout=0.2)
    try:
        await pending
    except RequestTimeout:
        pass
    else:
        raise AssertionError("the reply came in time")
    await asyncio.wait_for(asked.wait(), site.guard)
    go.set()
    await site.until(lambda: here.books().late_replies == 1)
    expect(here.books().pending_requests == 0)


@case()
async def responders_share(site: Site) -> None:
    """Several responders share the requests."""
    here, there = site.two()
    third = site.bus("third")
    served: set[str] = set()

    def serve(name: str) -> Any:
        async def answer(_event: Event) -> str:
            served.add(name)
            await asyncio.sleep(0.001)
            return name

        return answer

    there.respond("who.is", serve("there"))
    third.respond("who.is", serve("third"))
    await site.ready()

    async def ask() -> Any:
        return await here.request("who.is", {}, timeout=site.guard)

    got = await asyncio.gather(*(ask() for _ in range(100)))
    expect(set(got) == served == {"there", "third"})
