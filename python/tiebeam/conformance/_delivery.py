"""Who gets which events, and in which order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from tiebeam._core import Event
from tiebeam.bus import EventBus
from tiebeam.conformance._case import case
from tiebeam.conformance._expect import expect
from tiebeam.conformance._site import Site


@case()
async def as_published(site: Site) -> None:
    """An event arrives as it was published."""
    here, there = site.two()
    seen: list[Event] = []
    there.subscribe("market_data.price_update", seen.append, group="g")
    await site.ready()
    payload = {
        "symbol": "BTCUSDT",
        "price": 38245.5,
        "levels": [1, None, True, "é\u2028"],
        "deep": {},
    }
    await here.publish(
        "market_data.price_update",
        payload,
        key="BTCUSDT",
        priority="high",
        correlation_id="corr_1",
        metadata={"tenant": "a"},
        event_id="evt_as_published",
        version=3,
    )
    (event,) = await site.until(lambda: seen)
    expect(event.payload == payload, event.payload)
    expect(event.event_id == "evt_as_published")
    expect(event.producer == here.name)
    expect(event.version == 3)
    expect(event.category == "market_data")
    told = event.metadata
    expect((told["key"], told["priority"]) == ("BTCUSDT", "high"), told)
    expect((told["correlation_id"], told["tenant"]) == ("corr_1", "a"), told)


@case()
async def in_order(site: Site) -> None:
    """Events arrive in the order in which they were published."""
    here, there = site.two()
    seen: list[int] = []

    @there.subscribe("order.*", group="g")
    async def note(event: Event) -> None:
        seen.append(event.payload["n"])

    await site.ready()
    for n in range(500):
        await here.publish("order.placed" if n % 2 else "order.filled", {"n": n})
    await site.until(lambda: len(seen) >= 500)
    expect(seen == list(range(500)))


@case()
async def a_group_shares(site: Site) -> None:
    """The members of a group share its events, and other groups get all of them."""
    here, there = site.two()
    shared: list[int] = []
    other: list[int] = []
    for bus in (here, there):
        bus.subscribe("work.item", lambda event: shared.append(event.payload["n"]), group="shared")
    there.subscribe("work.item", lambda event: other.append(event.payload["n"]), group="other")
    await site.ready()
    for n in range(200):
        await here.publish("work.item", {"n": n})
    await site.until(lambda: len(shared) >= 200 and len(other) >= 200)
    await site.rest()
    expect(sorted(shared) == list(range(200)), "one of the members got each")
    expect(sorted(other) == list(range(200)))


@case()
async def broadcast(site: Site) -> None:
    """Without a group, everybody gets a copy."""
    here, there = site.two()
    seen: dict[str, list[int]] = {"here": [], "there": []}
    here.subscribe("news.flash", lambda event: seen["here"].append(event.payload["n"]))
    there.subscribe("news.flash", lambda event: seen["there"].append(event.payload["n"]))
    await site.ready()
    for n in range(50):
        await here.publish("news.flash", {"n": n})
    await site.until(lambda: all(len(got) >= 50 for got in seen.values()))
    expect(seen == {"here": list(range(50)), "there": list(range(50))})


@case()
async def patterns(site: Site) -> None:
    """A star stands for one segment, a hash for any number."""
    here, there = site.two()
    seen: dict[str, list[str]] = defaultdict(list)
    for name, pattern in (("one", "a.*"), ("many", "a.#"), ("all", "#"), ("end", "*.*.c")):

        def note(event: Event, name: str = name) -> None:
            seen[name].append(event.event_type)

        there.subscribe(pattern, note)
    await site.ready()
    for topic in ("a.b", "a.b.c", "x.b.c", "a"):
        await here.publish(topic, {})
    await site.until(lambda: len([t for t in seen["all"] if not t.startswith("system.")]) >= 4)
    await site.until(lambda: len(seen["many"]) >= 3 and len(seen["end"]) >= 2)
    everything = {t for t in seen["all"] if not t.startswith("system.")}
    expect(everything == {"a.b", "a.b.c", "x.b.c", "a"})
    expect(seen["one"] == ["a.b"])
    expect(sorted(seen["many"]) == ["a", "a.b", "a.b.c"])
    expect(sorted(seen["end"]) == ["a.b.c", "x.b.c"])


@case()
async def filters(site: Site) -> None:
    """What a filter does not want is let go, and does not come again."""
    here, there = site.two()
    seen: list[int] = []
    subscription = there.subscribe(
        "trade.done",
        lambda event: seen.append(event.payload["n"]),
        where={"payload.symbol": "BTC"},
        group="g",
        name="filtered",
    )
    await site.ready()
    for n in range(20):
        await here.publish("trade.done", {"n": n, "symbol": "BTC" if n % 2 else "ETH"})
    await site.until(lambda: len(seen) >= 10)
    await site.until(lambda: there.books()["filtered"].filtered >= 10)
    expect(seen == list(range(1, 20, 2)))
    subscription.cancel()


@case()
async def overlapping(site: Site) -> None:
    """Two patterns that match are two subscriptions, each of which gets the event once."""
    here, there = site.two()
    seen: list[str] = []
    there.subscribe("a.b", lambda _event: seen.append("exact"), group="one")
    there.subscribe("a.#", lambda _event: seen.append("wide"), group="two")
    await site.ready()
    await here.publish("a.b", {})
    await site.until(lambda: len(seen) >= 2)
    await site.rest()
    expect(sorted(seen) == ["exact", "wide"])


@case()
async def by_key(site: Site) -> None:
    """Events of one key keep their order, and keys do not wait for each other."""
    here, there = site.two()
    seen: dict[str, list[int]] = defaultdict(list)
    stuck = asyncio.Event()

    @there.subscribe("tick.*", group="g", key="payload.symbol", concurrency=8)
    async def note(event: Event) -> None:
        if event.payload["symbol"] == "slow" and not stuck.is_set():
            await stuck.wait()
        seen[event.payload["symbol"]].append(event.payload["n"])

    await site.ready()
    for n in range(40):
        for symbol in ("slow", "a", "b"):
            await here.publish("tick.price", {"symbol": symbol, "n": n})
            if n >= 10 and symbol == "slow":
                break
    await site.until(lambda: len(seen["a"]) >= 10 and len(seen["b"]) >= 10)
    expect(not seen["slow"])
    stuck.set()
    await site.until(lambda: len(seen["slow"]) >= 40)
    expect(all(got == sorted(got) for got in seen.values()), seen)


@case()
async def back_pressure(site: Site) -> None:
    """A slow subscriber with a small mailbox loses nothing."""
    here, there = site.two()
    seen: list[int] = []

    @there.subscribe("slow.event", group="g", capacity=2)
    async def note(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append(event.payload["n"])

    await site.ready()
    for n in range(300):
        await here.publish("slow.event", {"n": n})
    await site.until(lambda: len(seen) >= 300)
    expect(seen == list(range(300)))


@case()
async def lineage(site: Site) -> None:
    """What a handler publishes belongs to the chain of the event that it handles."""
    here, there = site.two()
    second: list[Event] = []

    @there.subscribe("chain.first", group="g")
    async def go_on(_event: Event) -> None:
        await there.publish("chain.second", {})

    here.subscribe("chain.second", second.append)
    await site.ready()
    first = here.publish("chain.first", {})
    await first
    (event,) = await site.until(lambda: second)
    expect(event.metadata["causation_id"] == first.event_id)
    expect(event.metadata["correlation_id"] == first.event_id)


@case()
async def refusals(site: Site) -> None:
    """What the transport cannot do is refused when somebody subscribes."""
    bus = site.bus()
    can: dict[str, Any] = bus.capabilities
    asked: Any = {"fails_when_full": {"overflow": "fail"}, "replay": {"start": "first"}}
    for need, option in asked.items():
        said = _refused(bus, option)
        expect(can[need] == (said is None), said or f"{option} needs {need}")
        expect(said is None or can["name"] in said or "memory" in said, said)


def _refused(bus: EventBus, option: dict[str, Any]) -> str | None:
    """What is said against an option of a subscription."""
    try:
        bus.subscribe("a.b", lambda _event: None, group="g", **option).cancel()
    except ValueError as error:
        return str(error)
    return None
