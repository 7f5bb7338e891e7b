"""Typed events: what a class says about them, handlers that take instances, old versions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar, Literal, Optional
from uuid import UUID

import msgspec
import pydantic
import pytest
from conftest import GUARD
from tiebeam import (
    Component,
    Event,
    EventBus,
    Upcasters,
    command,
    event,
    respond,
    subscribe,
    upcast,
)
from tiebeam.exceptions import ConfigurationError, PayloadError, TopicError
from tiebeam.testing import TestBus, TestFramework, run


class Side(Enum):
    BUY = "buy"
    SELL = "sell"


@dataclass
class Leg:
    symbol: str
    amount: Decimal


@dataclass
class Order:
    event_type: ClassVar[str] = "trading.order_placed"
    version: ClassVar[int] = 2

    id: UUID
    at: datetime
    day: date
    side: Side
    legs: list[Leg]
    note: str | None = None
    tags: dict[str, tuple[int, float]] = field(default_factory=dict)
    kind: Literal["limit", "market"] = "limit"
    parent: Optional[Order] = None  # noqa: UP045 - both forms are read


class PriceModel(pydantic.BaseModel):
    event_type: ClassVar[str] = "market_data.price"

    symbol: str = pydantic.Field(alias="sym")
    price: float = pydantic.Field(gt=0)
    at: datetime | None = None


class PriceStruct(msgspec.Struct, rename="camel"):
    event_type: ClassVar[str] = "market_data.price"

    last_price: float
    at: datetime | None = None


@event("user.joined", version=3)
@dataclass(slots=True)
class Joined:
    name: str


@dataclass
class Plain:
    name: str


ORDER = Order(
    id=UUID(int=7),
    at=datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=1))),
    day=date(2026, 1, 2),
    side=Side.SELL,
    legs=[Leg("BTC", Decimal("0.10")), Leg("ETH", Decimal("2"))],
    tags={"a": (1, 2.0)},
)


@pytest.fixture
def steps() -> Upcasters:
    return Upcasters()


@pytest.fixture
def bus(steps: Upcasters) -> Iterator[EventBus]:
    with EventBus("typed", upcasters=steps) as bus:
        yield bus
        bus.drain_sync(GUARD)
    assert bus.books().balanced


def deliver(bus: EventBus, *what: Any, **how: Any) -> None:
    bus.publish(*what, **how)
    bus.drain_sync(GUARD)


# -- there and back -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        ORDER,
        Order(**{**vars(ORDER), "parent": ORDER, "note": "x", "kind": "market"}),
        PriceModel(sym="BTC", price=1.5, at=datetime(2026, 1, 2)),
        PriceStruct(1.5, datetime(2026, 1, 2)),
        Joined("Ada"),
    ],
    ids=lambda given: type(given).__name__,
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_instance_arrives_as_it_was(bus: EventBus, given: Any, asynchronous: bool) -> None:
    kind = type(given)
    seen: list[Any] = []
    envelopes: list[Event] = []

    async def later(instance: Any, event: Event) -> None:
        seen.append(instance)
        envelopes.append(event)

    bus.subscribe(kind, later if asynchronous else seen.append)
    deliver(bus, given)
    assert seen == [given]
    assert type(seen[0]) is kind
    for envelope in envelopes:
        assert envelope.version == getattr(kind, "version", 3 if kind is Joined else 1)


def test_a_handler_gets_what_it_is_annotated_with(bus: EventBus) -> None:
    seen: list[Any] = []

    @bus.subscribe(Joined)
    def by_class(joined: Joined) -> None:
        seen.append(joined)

    @bus.subscribe(Joined)
    def bare(joined):  # type: ignore[no-untyped-def]
        seen.append(joined)

    @bus.subscribe("user.*")
    def by_pattern(joined: Joined) -> None:
        seen.append(joined)

    @bus.subscribe("user.#")
    def both(joined: Joined, event: Event) -> None:
        seen.append((joined, event.event_type))

    @bus.subscribe("user.joined")
    def untyped(event: Event) -> None:
        seen.append(event.payload)

    @bus.subscribe(Joined)
    def envelope(event: Event) -> None:
        seen.append(event.payload)

    @bus.subscribe("user.joined")
    def no_event_type(plain: Plain) -> None:
        seen.append(plain)

    deliver(bus, Joined("Ada"))
    ada = Joined("Ada")
    payload = {"name": "Ada"}
    for expected in (ada, (ada, "user.joined"), payload, Plain("Ada")):
        assert expected in seen
    assert (seen.count(ada), seen.count(payload), len(seen)) == (3, 2, 7)


def test_names_that_only_the_subscribing_function_knows(bus: EventBus) -> None:
    @event("local.thing")
    @dataclass
    class Local:
        n: int

    seen: list[Any] = []

    def handler(thing: Local) -> None:
        seen.append(thing)

    bus.subscribe("local.*", handler)
    deliver(bus, Local(1))
    assert seen == [Local(1)]


def test_the_name_and_the_function_stay(bus: EventBus) -> None:
    def on_joined(joined: Joined) -> None: ...

    subscription = bus.subscribe("user.joined", on_joined)
    assert subscription.name == "on_joined"
    assert subscription.handler is on_joined


def test_another_type_has_versions_of_its_own(bus: EventBus) -> None:
    seen: list[Joined] = []
    bus.subscribe("user.left", lambda joined: seen.append(joined) or None)

    @bus.subscribe("user.left")
    def left(joined: Joined) -> None:
        seen.append(joined)

    deliver(bus, "user.left", Joined("Ada"))
    assert Joined("Ada") in seen


def test_requests_and_commands(bus: EventBus) -> None:
    @bus.respond(Joined)
    def answer(joined: Joined) -> Plain:
        return Plain(joined.name * 2)

    done: list[Order] = []
    bus.handle(Order, done.append)
    assert bus.request(Joined("Ada")).wait(GUARD) == {"name": "AdaAda"}
    assert bus.request(Joined("Ada"), n=1).wait(GUARD) == [{"name": "AdaAda"}]
    bus.send(ORDER)
    bus.drain_sync(GUARD)
    assert done == [ORDER]
    assert bus.wait_for(Joined).pattern == "user.joined"
    assert bus.stream(Joined).pattern == "user.joined"


def test_later_and_again() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            seen: list[Any] = []
            bus.subscribe(Joined, seen.append, run_in="loop")
            bus.publish(Joined("later"), delay=5)
            with bus.every(10, Joined("again")):
                await bus.advance(25)
            assert [joined.name for joined in seen] == ["later", "again", "again"]
            assert {event.version for event in bus.published()} == {3}

    run(main())


# -- payloads that do not fit -------------------------------------------------------------

GOOD: dict[str, Any] = Event("x", ORDER).payload


@pytest.mark.parametrize(
    ("change", "path", "rule"),
    [
        ({"side": "hold"}, "payload.side", "must be one of 'buy', 'sell', got str 'hold'"),
        ({"at": "noon"}, "payload.at", "must be a date and time in ISO 8601, got str 'noon'"),
        ({"day": 3}, "payload.day", "must be a date in ISO 8601, got int 3"),
        ({"id": "x"}, "payload.id", "must be a UUID as text"),
        ({"legs": {}}, "payload.legs", "must be an array, got dict {}"),
        ({"legs": [{"symbol": 1, "amount": "1"}]}, "payload.legs[0].symbol", "must be a string"),
        ({"legs": [{"symbol": "x"}]}, "payload.legs[0].amount", "is missing"),
        (
            {"legs": [{"symbol": "x", "amount": 0.1}]},
            "payload.legs[0].amount",
            "lost its exactness",
        ),
        ({"note": True}, "payload.note", "must be a string, got bool True, or must be None"),
        ({"tags": {"a": [True, 1]}}, "payload.tags.a[0]", "must be an integer, got bool True"),
        ({"tags": {"a": [1]}}, "payload.tags.a", "must be an array of 2"),
        ({"kind": "stop"}, "payload.kind", "must be 'limit' or 'market'"),
        ({"parent": {**GOOD, "id": 1}}, "payload.parent.id", "must be a UUID as text, got int 1"),
    ],
)
def test_a_payload_that_does_not_fit_is_permanent(
    bus: EventBus, change: Any, path: str, rule: str
) -> None:
    bus.subscribe(Order, print, retry=5)
    deliver(bus, "trading.order_placed", {**GOOD, **change}, version=2)
    (letter,) = bus.dead_letters.list()
    assert (letter.attempts, letter.category) == (1, "permanent")
    assert letter.error_type == "PayloadError"
    assert f"{path}: " in letter.message
    assert rule in letter.message
    assert "`trading.order_placed` (version 2) is no Order" in letter.message


def test_everything_that_is_wrong_is_told(bus: EventBus) -> None:
    bus.subscribe(Order, print)
    deliver(bus, "trading.order_placed", {"side": 1, "legs": [{}]}, version=2)
    message = bus.dead_letters.list()[0].message
    for path in ("id", "at", "day", "side", "legs[0].symbol", "legs[0].amount"):
        assert f"payload.{path}: " in message


@pytest.mark.parametrize(
    ("kind", "payload", "said"),
    [
        (PriceModel, {"symbol": "x", "price": -1}, "payload.price: Input should be greater than 0"),
        (PriceStruct, {"last_price": "x"}, "payload.lastPrice: Expected `float`, got `str`"),
        (Joined, [1], "payload: must be an object, got list [1]"),
    ],
)
def test_the_words_of_other_models(bus: EventBus, kind: Any, payload: Any, said: str) -> None:
    bus.subscribe(kind, print)
    topic = "user.joined" if kind is Joined else "market_data.price"
    deliver(bus, topic, payload, version=3 if kind is Joined else 1)
    assert said in bus.dead_letters.list()[0].message


def test_a_strict_model_reads_what_json_made_of_it(bus: EventBus) -> None:
    class Strict(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(strict=True)
        event_type: ClassVar[str] = "strict.thing"
        at: datetime
        amount: Decimal

    seen: list[Any] = []
    bus.subscribe(Strict, seen.append)
    given = Strict(at=datetime(2026, 1, 2), amount=Decimal("0.1"))
    deliver(bus, given)
    assert seen == [given]


def test_unknown_keys_are_no_error_and_own_checks_are_heard(bus: EventBus) -> None:
    @event("range.set")
    @dataclass
    class Range:
        low: int
        high: int

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    seen: list[Any] = []
    bus.subscribe(Range, seen.append)
    deliver(bus, "range.set", {"low": 1, "high": 2, "added_later": 3})
    deliver(bus, "range.set", {"low": 3, "high": 2})
    assert seen == [Range(1, 2)]
    assert "payload: ValueError: low is above high" in bus.dead_letters.list()[0].message


def test_what_the_handler_itself_raises_is_the_handlers(bus: EventBus) -> None:
    calls: list[Joined] = []

    def handler(joined: Joined) -> None:
        calls.append(joined)
        raise ConnectionError

    bus.subscribe("user.joined", handler, retry={"max_attempts": 2, "initial_delay": 0.001})
    deliver(bus, Joined("Ada"))
    assert len(calls) == 2


def test_a_fallback_gets_the_event_unless_annotated(bus: EventBus) -> None:
    seen: list[Any] = []

    def instance(joined: Joined) -> None:
        seen.append(joined)

    def broken(joined: Joined) -> None:
        raise ValueError

    bus.subscribe(Joined, broken, name="a", fallback=instance)
    bus.subscribe(Joined, broken, name="b", fallback=lambda event: seen.append(event.payload))
    deliver(bus, Joined("Ada"))
    assert Joined("Ada") in seen
    assert {"name": "Ada"} in seen


# -- what is refused ----------------------------------------------------------------------


def two(joined: Joined, other: int) -> None: ...
def swapped(event: Event, joined: Joined) -> None: ...
def several(either: Joined | Plain) -> None: ...
def none() -> None: ...
def three(joined: Joined, event: Event, more: int) -> None: ...


@pytest.mark.parametrize(
    ("given", "handler", "said"),
    [
        ("user.joined", two, r"`other`; a second parameter must be annotated `Event`"),
        (Joined, two, r"takes a Joined and `other`"),
        ("user.joined", swapped, r"the instance comes first"),
        ("user.joined", several, r"`either` may be one of several classes"),
        (Order, two, r"subscribed to Order, but its `joined` is annotated Joined"),
        (Joined, none, r"none must take one argument, the Joined"),
        (Joined, three, r"must take one argument, the Joined, or two"),
        (Plain, print, r"Plain has none; give it `event_type"),
        (int, print, r"int has none$"),
        (7, print, r"7 has none$"),
    ],
)
def test_what_is_not_clear_is_refused(bus: EventBus, given: Any, handler: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        bus.subscribe(given, handler)
    assert bus.subscriptions == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((Plain("x"),), "Plain has no event type"),
        ((Event("x"),), "an Event is published already"),
        ((Joined,), "got the class Joined; give an instance"),
        ((7,), "got int"),
        ((None,), "got NoneType"),
        ((Joined("x"), {}), "a Joined is type and payload in one"),
    ],
)
def test_what_cannot_be_published(bus: EventBus, given: Any, said: str) -> None:
    for act in (bus.publish, bus.send, bus.request):
        with pytest.raises(TypeError, match=said):
            act(*given)


def test_a_class_that_says_it_in_a_wrong_way(bus: EventBus) -> None:
    @dataclass
    class Field:
        event_type: str = "a.b"

    @dataclass
    class Version:
        event_type: ClassVar[str] = "a.b"
        version: ClassVar[str] = "2"

    @dataclass
    class Topic:
        event_type: ClassVar[str] = "a..b"

    @dataclass
    class Odd:
        event_type: ClassVar[str] = "a.b"
        when: complex

    for kind, error, said in [
        (Field, TypeError, "event_type is a field"),
        (Version, TypeError, "the version is an integer, got str"),
        (Topic, TopicError, r"a\.\.b"),
        (Odd, TypeError, r"Odd\.when: a payload cannot be read into <class 'complex'>"),
    ]:
        with pytest.raises(error, match=said):
            bus.subscribe(kind, print)
    with pytest.raises(TypeError, match="put @event above @dataclass"):
        event("a.b")(int)
    with pytest.raises(ValueError, match="begin with 1"):
        event("a.b", version=0)
    with pytest.raises(TypeError, match="needs the topic"):
        event(Plain)  # type: ignore[arg-type]


# -- versions -----------------------------------------------------------------------------


def test_the_chain_runs_before_the_payload_is_read(bus: EventBus, steps: Upcasters) -> None:
    @steps("user.joined", from_version=1)
    def named(payload: dict[str, Any]) -> dict[str, Any]:
        return {"full_name": payload["n"]}

    @steps("user.joined", from_version=2)
    def shorter(payload: dict[str, Any]) -> dict[str, Any]:
        return {"name": payload["full_name"]}

    seen: list[Joined] = []
    bus.subscribe(Joined, seen.append)
    bus.publish("user.joined", {"n": "a"})
    bus.publish("user.joined", {"full_name": "b"}, version=2)
    deliver(bus, Joined("c"))
    assert [joined.name for joined in seen] == ["a", "b", "c"]


def test_a_gap_is_refused_with_the_missing_step(bus: EventBus, steps: Upcasters) -> None:
    steps("user.joined", from_version=1)(dict)
    with pytest.raises(
        ConfigurationError, match=r'@upcast\("user.joined", from_version=2\) is mis'
    ):
        bus.subscribe(Joined, print)

    class Greeter(Component):
        @subscribe(Joined)
        def greet(self, joined: Joined) -> None: ...

    async def main() -> None:
        framework = TestFramework(components=[Greeter()], upcasters=steps)
        report = await framework.start()
        assert "from_version=2" in report["failed"][0][1]
        await framework.stop()

    run(main())


@pytest.mark.parametrize(
    ("version", "payload", "said"),
    [
        (4, {"name": "x"}, r"came in version 4, and its handler knows none after 3"),
        (1, {"name": "x"}, r"which nothing brings to version 2; write @upcast"),
        (2, {}, r"broken could not bring `user.joined` from version 2 to 3: KeyError: 'name'"),
        (2, {"name": None}, r"broken must return the payload of `user.joined` as a dict, got None"),
    ],
)
def test_what_cannot_be_brought_is_permanent(
    bus: EventBus, steps: Upcasters, version: int, payload: Any, said: str
) -> None:
    @steps("user.joined", from_version=2)
    def broken(payload: dict[str, Any]) -> Any:
        return payload["name"]

    bus.subscribe(Joined, print, retry=5)
    deliver(bus, "user.joined", payload, version=version)
    (letter,) = bus.dead_letters.list()
    assert letter.attempts == 1
    assert letter.category == "permanent"
    assert re.search(said, letter.message)


def test_steps_are_registered_once_and_rightly(steps: Upcasters) -> None:
    def first(payload: dict[str, Any]) -> dict[str, Any]:
        return payload

    steps("a.b", from_version=1)(first)
    steps("a.b", from_version=1)(first)  # a cell that is run again
    with pytest.raises(ConfigurationError, match="has an upcaster from version 1 already"):
        steps("a.b", from_version=1)(dict)
    with pytest.raises(TopicError):
        steps("a.*", from_version=1)
    with pytest.raises(ValueError, match="begin with 1"):
        steps("a.b", from_version=0)
    with pytest.raises(TypeError, match="is an integer"):
        steps("a.b", from_version="1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="write @upcast"):
        steps(first, from_version=1)  # type: ignore[arg-type]


def test_buses_side_by_side_have_their_own_steps(steps: Upcasters) -> None:
    steps("user.joined", from_version=2)(lambda payload: {"name": payload["old"]})
    with EventBus() as plain, EventBus(upcasters=steps) as own:
        assert plain._upcasters is upcast
        for bus in (plain, own):
            bus.subscribe(Joined, lambda joined: None)
            deliver(bus, "user.joined", {"old": "x"}, version=2)
        assert len(plain.dead_letters) == 1
        assert len(own.dead_letters) == 0


# -- components ---------------------------------------------------------------------------


def test_components_take_typed_events() -> None:
    class Desk(Component):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        @subscribe(Order)
        async def on_order(self, order: Order) -> None:
            self.seen.append(order)
            await self.publish_event(Joined("Ada"))

        @subscribe("user.*")
        def on_user(self, joined: Joined, event: Event) -> None:
            self.seen.append((joined, event.producer))

        @respond(Joined)
        def greet(self, joined: Joined) -> str:
            return f"Hi {joined.name}"

        @command(PriceStruct)
        def price(self, price: PriceStruct) -> None:
            self.seen.append(price)

    async def main() -> None:
        desk = Desk()
        async with TestFramework(components=[desk]) as framework:
            framework.bus.publish(ORDER)
            await framework.settle()
            assert desk.seen == [ORDER, (Joined("Ada"), "desk")]
            assert await framework.bus.request(Joined("Bob")) == "Hi Bob"
            framework.bus.send(PriceStruct(1.0))
            await framework.settle()
            assert desk.seen[-1] == PriceStruct(1.0)
            desk.subscribe_to_events(Joined, desk.seen.append)
            assert framework.dead_letters.list() == []

    run(main())
    with pytest.raises(TypeError, match="Plain has none"):
        subscribe(Plain)


def test_the_error_is_a_payload_error_with_its_path(bus: EventBus) -> None:
    caught: list[Exception] = []

    @bus.respond(Joined)
    def answer(joined: Joined) -> None: ...

    try:
        bus.request("user.joined", {"name": 1}, version=3).wait(GUARD)
    except Exception as error:
        caught.append(error)
    assert "PayloadError" in str(caught[0])
    assert PayloadError("x", path="payload.name").path == "payload.name"
