"""Events that are published later, and what is too late."""

from __future__ import annotations

import time

from tiebeam.conformance._case import case
from tiebeam.conformance._expect import expect
from tiebeam.conformance._site import Site


@case()
async def delayed(site: Site) -> None:
    """A delayed event does not come before its time."""
    here, there = site.two()
    came: list[float] = []
    there.subscribe("later.event", lambda _event: came.append(time.time()), group="g")
    await site.ready()
    begun = time.time()
    await here.publish("later.event", {}, delay=0.3)
    await site.until(lambda: came)
    expect(came[0] - begun >= 0.299, came[0] - begun)


@case("exact_delays")
async def exactly(site: Site) -> None:
    """Delayed events come in the order in which they are due, and soon after that."""
    here, there = site.two()
    came: list[tuple[int, float]] = []
    there.subscribe(
        "due.event", lambda event: came.append((event.payload["n"], time.time())), group="g"
    )
    await site.ready()
    begun = time.time()
    for n in (3, 1, 2):
        await here.publish("due.event", {"n": n}, delay=n * 0.2)
    await site.until(lambda: len(came) >= 3)
    expect([n for n, _at in came] == [1, 2, 3])
    expect(all(0 <= at - begun - n * 0.2 + 0.001 < 0.5 for n, at in came), came)


@case()
async def periodic(site: Site) -> None:
    """A periodic event comes again and again until it is cancelled."""
    here, there = site.two()
    came: list[int] = []
    there.subscribe("beat.event", lambda event: came.append(event.payload["n"]), group="g")
    await site.ready()
    beat = here.every(0.02, "beat.event", {"n": 1})
    await site.until(lambda: len(came) >= 3)
    beat.cancel()


@case()
async def expired(site: Site) -> None:
    """An event whose deadline has passed is not handled, and is counted."""
    here, there = site.two()
    seen: list[str] = []
    there.subscribe(
        "offer.made", lambda event: seen.append(event.payload["name"]), group="g", name="late"
    )
    await site.ready()

    async def offer(name: str, deadline: float | None) -> None:
        await here.publish("offer.made", {"name": name}, deadline=deadline)

    await offer("good", None)
    await site.until(lambda: seen)
    await offer("old", 0.000_001)
    await offer("last", None)
    await site.until(lambda: "last" in seen)
    expect(seen == ["good", "last"])
