"""Commands: exactly one handler."""

from __future__ import annotations

from tiebeam.conformance._case import case
from tiebeam.conformance._expect import expect
from tiebeam.conformance._site import Site
from tiebeam.exceptions import DuplicateHandler, NoHandler


@case()
async def one_handler(site: Site) -> None:
    """A command is done once, by its handler."""
    here, there = site.two()
    done: list[int] = []
    there.handle("order.place", lambda event: done.append(event.payload["n"]), name="desk")
    await site.ready()
    for n in range(20):
        await here.send("order.place", {"n": n})
    await site.until(lambda: len(done) >= 20)
    await site.rest()
    expect(done == list(range(20)))


@case()
async def no_handler(site: Site) -> None:
    """A command that nobody handles is an error of who sends it."""
    here = site.bus()
    try:
        await here.send("order.unknown", {})
    except NoHandler as error:
        expect("order.unknown" in str(error))
    else:
        raise AssertionError("somebody handled it")


@case("one_handler")
async def second_handler(site: Site) -> None:
    """A command has one handler, wherever the second one is."""
    here, there = site.two()
    there.handle("order.cancel", lambda _event: None, name="first")
    await site.ready()
    try:
        here.handle("order.cancel", lambda _event: None, name="second")
        await here.ready(site.guard)
    except DuplicateHandler as error:
        expect("order.cancel" in str(error) or "first" in str(error), error)
    else:
        raise AssertionError("there are two handlers")
