"""What outlives a subscription, a bus and a repetition."""

from __future__ import annotations

import asyncio

from tiebeam._core import Event
from tiebeam.bus import EventBus
from tiebeam.conformance._case import case
from tiebeam.conformance._expect import expect
from tiebeam.conformance._site import Site


@case()
async def copies(site: Site) -> None:
    """An event that is published twice is handled once."""
    here, there = site.two()
    seen: list[int] = []
    there.subscribe("twice.event", lambda event: seen.append(event.payload["n"]), group="g")
    await site.ready()
    for _ in range(3):
        await here.publish("twice.event", {"n": 1}, event_id="evt_the_same")
    await here.publish("twice.event", {"n": 2})
    await site.until(lambda: 2 in seen)
    await site.rest()
    expect(seen == [1, 2])
    expect(sum(bus.books().duplicates for bus in {here, there}) == 2)


@case("durable_dedup")
async def copies_after_a_restart(site: Site) -> None:
    """An event that is published again after a restart is handled once."""
    here = site.bus("here")
    seen: list[int] = []
    for last in (2, 3):
        bus = site.bus(f"before {last}")
        bus.subscribe("again.event", lambda event: seen.append(event.payload["n"]), group="g")
        await site.ready()
        await here.publish("again.event", {"n": 1}, event_id="evt_again")
        await here.publish("again.event", {"n": last})
        await site.until(lambda: seen and seen[-1] == last)  # noqa: B023
        await bus.close()
    expect(seen == [1, 2, 3], seen)


@case("durable")
async def meanwhile(site: Site) -> None:
    """What is published while nobody of a group is there is handled later."""
    here = site.bus("here")
    seen: list[int] = []
    first = site.bus("first")
    first.subscribe("kept.event", lambda event: seen.append(event.payload["n"]), group="g")
    await site.ready()
    await here.publish("kept.event", {"n": 0})
    await site.until(lambda: seen)
    await first.close()
    for n in range(1, 20):
        await here.publish("kept.event", {"n": n})
    second = site.bus("second")
    second.subscribe("kept.event", lambda event: seen.append(event.payload["n"]), group="g")
    await site.until(lambda: len(seen) >= 20)
    expect(seen == list(range(20)))


@case("replay")
async def from_the_first(site: Site) -> None:
    """A group may begin with events that were published before it."""
    here = site.bus("here")
    for n in range(10):
        await here.publish("old.event", {"n": n})
    seen: list[int] = []
    late: list[int] = []
    there = site.bus("there")
    there.subscribe(
        "old.event", lambda event: seen.append(event.payload["n"]), group="all", start="first"
    )
    there.subscribe("old.event", lambda event: late.append(event.payload["n"]), group="new")
    await site.ready()
    await here.publish("old.event", {"n": 10})
    await site.until(lambda: len(seen) >= 11 and late)
    expect((seen, late) == (list(range(11)), [10]))


@case()
async def handed_over(site: Site) -> None:
    """What a member of a group leaves unhandled goes to another."""
    here, there = site.two()
    begun, never = asyncio.Event(), asyncio.Event()
    held: list[int] = []
    seen: list[int] = []

    async def hold(event: Event) -> None:
        held.append(event.payload["n"])
        begun.set()
        await never.wait()

    first = here.subscribe("left.event", hold, group="g", name="first")
    await site.ready()
    for n in range(10):
        await here.publish("left.event", {"n": n})
    await asyncio.wait_for(begun.wait(), site.guard)
    there.subscribe(
        "left.event", lambda event: seen.append(event.payload["n"]), group="g", name="second"
    )
    await site.ready()
    first.cancel()
    never.set()
    # What had begun when its subscription was cancelled may end there, or begin again elsewhere.
    await site.until(lambda: {*seen, *held} == set(range(10)))
    await site.rest()
    expect(sorted({*seen, *held}) == list(range(10)))
    expect(len(seen) == len(set(seen)))


@case("shared", "keyed_order")
async def keyed_across_members(site: Site) -> None:
    """Events of one key keep their order while members of their group come and go."""
    feed = site.bus("feed")
    keys, rounds = [f"key{n}" for n in range(6)], 30
    begun: list[tuple[str, int]] = []
    at_work: set[str] = set()

    def member(name: str) -> EventBus:
        bus = site.bus(name)

        @bus.subscribe("keyed.*", group="g", key="metadata.key", concurrency=4)
        async def handle(event: Event) -> None:
            key = event.metadata["key"]
            expect(key not in at_work, f"two events of {key} at once")
            at_work.add(key)
            begun.append((key, event.payload["n"]))
            await asyncio.sleep(0.002)
            at_work.discard(key)

        return bus

    first = member("first")
    await site.ready()
    for n in range(rounds):
        for key in keys:
            await feed.publish("keyed.event", {"n": n}, key=key)
        if n == rounds // 3:
            member("second")
            await site.ready()
        if n == 2 * rounds // 3:
            await first.close()
    await site.until(lambda: len(begun) >= rounds * len(keys))
    await site.rest()
    for key in keys:
        expect([n for of, n in begun if of == key] == list(range(rounds)), key)
