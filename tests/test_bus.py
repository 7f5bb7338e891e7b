"""The bus as a whole: routing, back-pressure, dead letters, scheduling, books, closing."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import threading
import weakref
from typing import Any

import pytest
from conftest import FAST, GUARD, Gate
from tiebeam import Event, EventBus, Tally
from tiebeam._core import Clock
from tiebeam.exceptions import (
    ClosedError,
    DuplicateHandler,
    MailboxFull,
    NoHandler,
    TiebeamError,
    TimeoutExceeded,
    TopicError,
    WouldDeadlock,
)


def record(bus: EventBus, pattern: str, **how: Any) -> list[Any]:
    seen: list[Any] = []
    bus.subscribe(pattern, lambda event: seen.append(event.payload.get("n")), **how)
    return seen


# --- routing


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("#", "a.b.c", True),
        ("#.c", "c", True),
        ("a.#.d", "a.d", True),
        ("a.#.d", "a.b.c.d", True),
        ("*.*", "a.b", True),
        ("a.*.c", "a.b.c", True),
    ],
)
def test_patterns(bus: EventBus, pattern: str, topic: str, matches: bool) -> None:
    seen = record(bus, pattern)
    bus.publish(topic, {"n": 1})
    bus.drain_sync(GUARD)
    assert seen == ([1] if matches else [])


@pytest.mark.parametrize("topic", ["", "a..b", ".a", "a.", "a.*", "#", "a b", "a\nb", "a" * 10_000])
def test_malformed_topics_are_refused(bus: EventBus, topic: str) -> None:
    with pytest.raises(TopicError):
        bus.publish(topic)
    with pytest.raises(TopicError):
        bus.publish(topic, delay=1)
    with pytest.raises(TopicError):
        bus.every(1, topic)


@pytest.mark.parametrize("pattern", ["", "a..b", "a*", "a.#b", ".", "a.**"])
def test_malformed_patterns_are_refused(bus: EventBus, pattern: str) -> None:
    with pytest.raises(TopicError):
        bus.subscribe(pattern, print)


def test_overlapping_patterns_deliver_once_per_subscription(bus: EventBus) -> None:
    all_of_them, some = record(bus, "#"), record(bus, "a.*")
    bus.publish("a.b", {"n": 1})
    bus.drain_sync(GUARD)
    assert all_of_them == some == [1]


def test_two_buses_know_nothing_of_each_other(bus: EventBus) -> None:
    with EventBus("other") as other:
        seen = record(other, "#")
        bus.publish("a.b", {"n": 1})
        other.drain_sync(GUARD)
        assert seen == []


def test_subscribing_after_publishing_gets_what_comes_then(bus: EventBus) -> None:
    bus.publish("a.b", {"n": 1})
    seen = record(bus, "a.b")
    bus.publish("a.b", {"n": 2})
    late = record(bus, "a.*")
    bus.publish("a.b", {"n": 3})
    bus.drain_sync(GUARD)
    assert (seen, late) == ([2, 3], [3])


def test_where_decides_before_python(bus: EventBus) -> None:
    seen = record(bus, "a", where={"payload.symbol": "BTC", "metadata.priority": "high"})
    bus.publish("a", {"n": 1, "symbol": "BTC"}, priority="high")
    bus.publish("a", {"n": 2, "symbol": "BTC"})
    bus.publish("a", {"n": 3}, priority="high")
    bus.drain_sync(GUARD)
    assert seen == [1]
    assert bus.books().total.filtered == 2
    with pytest.raises(TiebeamError, match="leads nowhere"):
        bus.subscribe("a", print, where={"symbol": "BTC"})
    with pytest.raises(TypeError, match=r"where\['payload.x'\]|where\[\"payload.x\"\]"):
        bus.subscribe("a", print, where={"payload.x": [1]})


def test_events_carry_their_envelope(bus: EventBus) -> None:
    seen: list[Event] = []
    bus.subscribe("market_data.#", seen.append)
    receipt = bus.publish(
        "market_data.price_update",
        {"n": 1},
        key="BTC",
        priority="critical",
        correlation_id="corr_1",
        deadline=dt.timedelta(hours=1),
        version=3,
        metadata={"tenant": {"id": 7}},
    )
    bus.drain_sync(GUARD)
    (event,) = seen
    assert receipt.event_id == event.event_id
    assert event.event_id.startswith("evt_")
    assert event.category == "market_data"
    assert event.producer == "test"
    assert (event.key, event.priority, event.correlation_id, event.version) == (
        "BTC",
        "critical",
        "corr_1",
        3,
    )
    assert event.causation_id is None
    assert event.retry_count == 0
    assert event.deadline is not None
    assert abs(event.deadline - event.timestamp - 3_600_000) < 1000
    assert event.metadata["tenant"] == {"id": 7}


def test_a_root_event_starts_its_own_chain(bus: EventBus) -> None:
    seen: list[Event] = []
    bus.subscribe("a", seen.append)
    bus.publish("a")
    bus.drain_sync(GUARD)
    assert seen[0].correlation_id == seen[0].event_id


# --- order and priorities


def test_order_is_kept_and_urgent_events_overtake(bus: EventBus, gate: Gate) -> None:
    seen: list[Any] = []

    def handler(event: Event) -> None:
        if event.payload["n"] == "first":
            gate.pass_through()
        else:
            seen.append(event.payload["n"])

    bus.subscribe("a", handler)
    bus.publish("a", {"n": "first"})
    gate.wait_entered()
    for n in range(20):
        bus.publish("a", {"n": ("low", n)}, priority="low")
    for n in range(5):
        bus.publish("a", {"n": ("critical", n)}, priority="critical")
    gate.open()
    bus.drain_sync(GUARD)
    for lane in ("low", "critical"):
        numbers = [n for name, n in map(tuple, seen) if name == lane]
        assert numbers == sorted(numbers)
    last_critical = max(index for index, (name, _) in enumerate(seen) if name == "critical")
    assert last_critical < 10  # overtaken by few, and nobody starves
    assert len(seen) == 25


def test_unknown_priorities_are_refused(bus: EventBus) -> None:
    with pytest.raises(ValueError, match='did you mean "high"'):
        bus.publish("a", priority="hihg")


# --- back-pressure


def fill(bus: EventBus, gate: Gate, capacity: int = 1, **how: Any) -> Any:
    """A subscription that is busy with one event and whose mailbox is full."""
    subscription = bus.subscribe("full", gate.pass_through, capacity=capacity, name="slow", **how)
    bus.publish("full", {"n": "running"})
    gate.wait_entered()
    for n in range(capacity):
        bus.publish("full", {"n": n})
    return subscription


def test_a_discarded_publish_at_a_full_mailbox_raises(bus: EventBus, gate: Gate) -> None:
    fill(bus, gate)
    other = record(bus, "full")
    with pytest.raises(MailboxFull, match=r"slow \(1 queued\)") as caught:
        bus.publish("full", {"n": 2})
    assert "slow" in caught.value.context["subscriptions"]
    books = bus.books()
    assert books["slow"].dropped == 1
    gate.open()
    bus.drain_sync(GUARD)
    assert other == [2]  # mailboxes with room took it


def test_a_waited_for_publish_waits_for_room(bus: EventBus, gate: Gate) -> None:
    fill(bus, gate)
    receipt = bus.publish("full", {"n": 2})
    assert not receipt.accepted
    assert "waiting for room" in repr(receipt)
    with pytest.raises(TimeoutExceeded):
        bus.publish("full", {"n": 3}).wait(0.01)
    assert bus.books()["slow"].dropped == 1
    gate.open()
    receipt.wait(GUARD)
    assert receipt.accepted
    bus.drain_sync(GUARD)
    assert bus.books()["slow"].delivered == 3


def test_a_receipt_that_is_dropped_says_so(
    bus: EventBus, gate: Gate, unraisable: list[BaseException]
) -> None:
    fill(bus, gate)
    receipt = bus.publish("full", {"n": 2})
    del receipt
    gc.collect()
    assert [type(error) for error in unraisable] == [MailboxFull]
    assert bus.books()["slow"].dropped == 1
    assert bus.books().balanced


def test_awaiting_publishers_are_admitted_in_line(run: Any) -> None:
    async def main() -> None:
        seen: list[int] = []
        door = asyncio.Event()

        async def slow(event: Event) -> None:
            await door.wait()
            seen.append(event.payload["n"])

        async with EventBus() as bus:
            bus.subscribe("a", slow, capacity=2)

            async def publisher(n: int) -> None:
                await bus.publish("a", {"n": n})

            publishers = [asyncio.create_task(publisher(n)) for n in range(50)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not all(task.done() for task in publishers)
            assert bus.books().balanced
            door.set()
            await asyncio.gather(*publishers)
            await bus.drain()
            assert seen == list(range(50))
            assert bus.books().total.dropped == 0

    run(main())


def test_a_cancelled_publisher_leaves_the_line(run: Any) -> None:
    async def main() -> None:
        door = asyncio.Event()
        async with EventBus() as bus:

            async def slow(_event: Event) -> None:
                await door.wait()

            bus.subscribe("a", slow, capacity=1, name="slow")
            await bus.publish("a")
            await asyncio.sleep(0)
            await bus.publish("a")
            task = asyncio.create_task(asyncio.wait_for(bus.publish("a"), 0.01))
            with pytest.raises(asyncio.TimeoutError):
                await task
            assert bus.books()["slow"].dropped == 1
            assert bus.books()["slow"].in_flight == 2
            door.set()

    run(main())


@pytest.mark.parametrize(
    ("overflow", "kept", "dropped"),
    [("drop_oldest", [3, 4], 3), ("drop_newest", [0, 1], 3)],
)
def test_overflow_that_drops(
    bus: EventBus, gate: Gate, overflow: str, kept: list[int], dropped: int
) -> None:
    seen: list[Any] = []
    bus.subscribe(
        "a", lambda event: (gate.pass_through(), seen.append(event.payload.get("n"))),
        capacity=2, overflow=overflow, name="slow",
    )  # fmt: skip
    bus.publish("a")
    gate.wait_entered()
    for n in range(5):
        assert bus.publish("a", {"n": n}).accepted
    gate.open()
    bus.drain_sync(GUARD)
    assert seen == [None, *kept]
    assert bus.books()["slow"].dropped == dropped


def test_overflow_fail_raises_although_somebody_waits(bus: EventBus, gate: Gate) -> None:
    fill(bus, gate, overflow="fail")
    with pytest.raises(MailboxFull):
        bus.publish("full").wait(1)
    assert bus.books()["slow"].dropped == 1


def test_waiting_for_ones_own_loop_is_refused(run: Any) -> None:
    async def main() -> None:
        door = asyncio.Event()

        async def slow(_event: Event) -> None:
            await door.wait()

        async with EventBus() as bus:
            bus.subscribe("a", slow, capacity=1, name="slow")
            bus.respond("r", slow)
            await bus.publish("a")
            await asyncio.sleep(0)
            bus.publish("a").wait()  # there is room: nothing to wait for
            with pytest.raises(WouldDeadlock, match="slow"):
                bus.publish("a").wait()
            with pytest.raises(WouldDeadlock, match="await"):
                bus.request("r").wait(1)
            door.set()

    run(main())


# --- the life of a subscription


def test_cancel_ends_at_once_and_counts(bus: EventBus, gate: Gate) -> None:
    calls: list[Any] = []

    def handler(event: Event) -> None:
        calls.append(event.payload["n"])
        gate.pass_through()

    subscription = bus.subscribe("a", handler)
    for n in range(5):
        bus.publish("a", {"n": n})
    gate.wait_entered()
    assert subscription.status == "active"
    assert subscription.cancel() <= 4  # the rest was in the hands of the thread already
    assert subscription.cancel() == 0
    assert subscription.status == "cancelled"
    gate.open()
    bus.publish("a", {"n": 5})
    bus.drain_sync(GUARD)
    assert calls == [0]
    total = bus.books().total
    assert (total.published, total.delivered, total.dropped) == (5, 1, 4)


def test_a_subscription_is_a_context_manager(bus: EventBus) -> None:
    seen: list[Event] = []
    with bus.subscribe("a", seen.append) as subscription:
        assert "a" in repr(subscription)
        bus.publish("a")
        bus.drain_sync(GUARD)
    bus.publish("a")
    bus.drain_sync(GUARD)
    assert len(seen) == 1
    assert bus.subscriptions == []


def test_subscribe_is_a_decorator(bus: EventBus) -> None:
    seen: list[Event] = []

    @bus.subscribe("a", name="mine")
    def handler(event: Event) -> None:
        seen.append(event)

    assert callable(handler)
    bus.publish("a")
    bus.drain_sync(GUARD)
    assert len(seen) == 1
    assert bus.subscriptions == ["mine <- a"]


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_of_nothing_is_refused(bus: EventBus, capacity: int) -> None:
    with pytest.raises((TiebeamError, OverflowError, ValueError)):
        bus.subscribe("a", print, capacity=capacity)
    with pytest.raises((ValueError, OverflowError)):
        EventBus(capacity=capacity)


def test_options_are_checked_at_the_door(bus: EventBus) -> None:
    with pytest.raises(ValueError, match="overflow must be one of"):
        bus.subscribe("a", print, overflow="blok")
    with pytest.raises(ValueError, match='did you mean "thread"'):
        bus.subscribe("a", print, run_in="thraed")
    with pytest.raises(TypeError, match="duration"):
        bus.subscribe("a", print, timeout="1")
    with pytest.raises(ValueError, match="duration"):
        bus.subscribe("a", print, timeout=-1)
    with pytest.raises(ValueError, match="max_attempts"):
        bus.subscribe("a", print, retry={"max_attemts": 2})
    with pytest.raises(TypeError, match="retry must be"):
        bus.subscribe("a", print, retry="3")
    with pytest.raises(TiebeamError):
        bus.subscribe("a", print, retry=0)
    with pytest.raises(TypeError):
        bus.subscribe("a", print, no_such_option=1)
    assert bus.subscriptions == []


def test_ten_thousand_subscriptions_leave_nothing_behind(bus: EventBus) -> None:
    class Listener:
        def on(self, event: Event) -> None: ...

    alive: list[weakref.ref[Listener]] = []
    for _ in range(10_000):
        listener = Listener()
        alive.append(weakref.ref(listener))
        bus.subscribe("a.b.*", listener.on).cancel()
    del listener
    gc.collect()
    assert not any(reference() for reference in alive)
    assert bus.subscriptions == []


def test_explain_says_who_and_why_not(bus: EventBus) -> None:
    bus.subscribe("market_data.*", print, name="all", where={"payload.x": 1}, retry=5)
    bus.subscribe("trading.order", print, name="orders")
    found = bus.explain("market_data.price")
    (receiver,) = found.receivers
    assert receiver["name"] == "all"
    assert receiver["filtered"]
    assert receiver["max_attempts"] == 5
    assert found.others == [("orders", "pattern `trading.order` does not match")]
    nobody = bus.explain("trading.ordr")
    assert nobody.receivers == []
    assert nobody.suggestion == "trading.order"
    assert "did you mean" in str(nobody)
    with pytest.raises(TopicError):
        bus.explain("a.*")


# --- commands


def test_a_command_has_exactly_one_handler(bus: EventBus) -> None:
    seen: list[Event] = []
    with pytest.raises(NoHandler, match=r"trading\.execute"):
        bus.send("trading.execute")
    handler = bus.handle("trading.execute", seen.append)
    with pytest.raises(DuplicateHandler, match=r"trading\.execute"):
        bus.handle("trading.execute", seen.append)
    with pytest.raises(DuplicateHandler):
        bus.respond("trading.execute", seen.append)
    with pytest.raises(TopicError):
        bus.handle("trading.*", seen.append)
    with pytest.raises(NoHandler, match=r"did you mean `trading\.execute`"):
        bus.send("trading.exceute")
    bus.send("trading.execute", {"n": 1}).wait(GUARD)
    bus.publish("trading.execute", {"n": 2})  # an event of that name is no command
    bus.drain_sync(GUARD)
    assert [event.payload["n"] for event in seen] == [1]
    handler.cancel()
    with pytest.raises(NoHandler):
        bus.send("trading.execute")
    bus.handle("trading.execute", seen.append)


# --- time


def test_delayed_and_periodic_events_follow_the_clock() -> None:
    clock = Clock.simulated()

    def advance(seconds: float) -> None:
        until = clock.nanos() + int(seconds * 1e9)
        while clock.step(until):
            pass
        bus.drain_sync(GUARD)

    with EventBus(clock=clock) as bus:
        delayed, beats = record(bus, "delayed"), record(bus, "beat")
        bus.publish("delayed", {"n": 1}, delay=5)
        periodic = bus.every(dt.timedelta(seconds=2), "beat", {"n": 0})
        advance(4.9)
        assert (delayed, beats) == ([], [0, 0])
        advance(0.2)
        assert delayed == [1]
        periodic.cancel()
        periodic.cancel()
        advance(100)
        assert beats == [0, 0]
        with bus.every(1, "beat"):
            advance(3)
        advance(3)
        assert len(beats) == 5
        with pytest.raises(TiebeamError, match="above zero"):
            bus.every(0, "beat")


def test_expired_events_never_reach_a_handler() -> None:
    clock = Clock.simulated()
    gate = Gate()
    seen: list[Any] = []

    def handler(event: Event) -> None:
        seen.append(event.payload["n"])
        gate.pass_through()

    with EventBus(clock=clock) as bus:
        bus.subscribe("a", handler, name="slow", timeout=3600)
        bus.publish("a", {"n": 1})
        gate.wait_entered()
        bus.publish("a", {"n": 2}, deadline=1)
        bus.publish("a", {"n": 3}, deadline=100)
        clock.step(clock.nanos() + int(2e9))
        gate.open()
        bus.drain_sync(GUARD)
        assert seen == [1, 3]
        assert bus.books()["slow"].expired == 1


# --- dead letters


def test_dead_letters_are_listed_shown_replayed_and_purged(bus: EventBus) -> None:
    broken = True
    seen: list[Any] = []

    def handler(event: Event) -> None:
        if broken:
            raise ConnectionError(f"no luck with {event.payload['n']}")
        seen.append(event.payload["n"])

    twice = {**FAST, "max_attempts": 2}  # the fifth failure in a row would open the breaker
    bus.subscribe("a.b", handler, name="mine", retry=twice)
    bus.subscribe("a.c", handler, name="other", retry=False)
    bus.publish("a.b", {"n": 1})
    bus.publish("a.b", {"n": 2})
    bus.publish("a.c", {"n": 3})
    bus.drain_sync(GUARD)
    letters = bus.dead_letters
    assert len(letters) == len(letters.list()) == 3
    assert [letter.event.payload["n"] for letter in letters.list(subscription="mine")] == [1, 2]
    (other,) = letters.list(event_type="a.c")
    assert (other.reason, other.attempts) == ("no_retry", 1)
    first = letters.list(subscription="mine")[0]
    shown = letters.show(first.id)
    assert (shown.attempts, shown.error_type, shown.category) == (2, "ConnectionError", "transient")
    assert shown.message == "no luck with 1"
    assert "in handler" in (shown.traceback or "")
    assert shown.reason == "attempts"
    assert "no luck with 1" in repr(shown)
    with pytest.raises(KeyError):
        letters.show(10_000)
    broken = False
    assert letters.replay(subscription="mine") == 2
    bus.drain_sync(GUARD)
    assert sorted(seen) == [1, 2]
    assert letters.purge(event_type="a.c") == 1
    assert len(letters) == 0
    assert letters.replay() == 0
    assert bus.books().balanced


def test_a_replay_that_fails_comes_back_under_a_new_number(bus: EventBus) -> None:
    def handler(_event: Event) -> None:
        raise ValueError("x")

    bus.subscribe("a", handler)
    bus.publish("a")
    bus.drain_sync(GUARD)
    (letter,) = bus.dead_letters.list()
    assert bus.dead_letters.replay([letter.id]) == 1
    bus.drain_sync(GUARD)
    (again,) = bus.dead_letters.list()
    assert again.id > letter.id
    assert again.event == letter.event


def test_a_replay_needs_a_living_subscription(bus: EventBus) -> None:
    def handler(_event: Event) -> None:
        raise ValueError("permanent")

    subscription = bus.subscribe("a", handler, name="mine")
    bus.publish("a", {"n": 1})
    bus.drain_sync(GUARD)
    assert bus.dead_letters.list()[0].attempts == 1  # a ValueError is not worth a retry
    subscription.cancel()
    assert bus.dead_letters.replay() == 0
    assert len(bus.dead_letters) == 1
    seen: list[Event] = []
    bus.subscribe("a", seen.append, name="mine")  # as after a restart
    assert bus.dead_letters.replay() == 1
    bus.drain_sync(GUARD)
    assert len(seen) == 1


def test_every_failed_attempt_is_an_event(bus: EventBus) -> None:
    reports: list[dict[str, Any]] = []
    bus.subscribe("system.error.#", lambda event: reports.append(event.payload))

    def handler(_event: Event) -> None:
        raise ConnectionError("again")

    bus.subscribe("a", handler, retry=FAST, name="mine")
    receipt = bus.publish("a")
    bus.drain_sync(GUARD)
    assert [report["attempt"] for report in reports] == [1, 2, 3]
    assert [report["final"] for report in reports] == [False, False, True]
    assert {report["event_id"] for report in reports} == {receipt.event_id}
    assert reports[-1]["action"] == "dead_letter"
    assert "ConnectionError" in reports[-1]["traceback"]


def test_a_broken_error_handler_feeds_nobody(bus: EventBus) -> None:
    def handler(_event: Event) -> None:
        raise ValueError("x")

    bus.subscribe("system.error.#", handler, name="errors")
    bus.subscribe("a", handler, name="mine")
    bus.publish("a")
    bus.drain_sync(GUARD)
    assert len(bus.dead_letters) == 2


# --- the end


def test_closing_waits_for_what_is_in_flight(gate: Gate) -> None:
    seen: list[Event] = []
    bus = EventBus()
    bus.subscribe("a", lambda event: (gate.pass_through(), seen.append(event)))
    bus.publish("a")
    bus.publish("a")
    gate.wait_entered()
    closing: list[Any] = []
    closer = threading.Thread(target=lambda: closing.append(bus.close_sync(GUARD)))
    closer.start()
    while not bus.closed:
        pass
    with pytest.raises(ClosedError):
        bus.publish("a")
    with pytest.raises(ClosedError):
        bus.subscribe("a", print)
    gate.open()
    closer.join(GUARD)
    assert closing == [[]]
    assert len(seen) == 2
    assert bus.books().balanced


def test_closing_says_what_was_left(gate: Gate) -> None:
    bus = EventBus()
    bus.subscribe("a", gate.pass_through, name="slow")
    for _ in range(3):
        bus.publish("a")
    gate.wait_entered()
    assert bus.close_sync(0) == [("slow", 3)]
    assert bus.close_sync(0) == []
    gate.open()
    assert bus.books().balanced


def test_drain_has_a_time_limit(bus: EventBus, gate: Gate) -> None:
    bus.subscribe("a", gate.pass_through)
    bus.publish("a")
    with pytest.raises(TimeoutExceeded):
        bus.drain_sync(0.01)


def test_drain_follows_chains_against_the_order_of_subscription(run: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:
            seen: list[int] = []
            bus.subscribe("end", lambda event: seen.append(event.payload["n"]))

            async def forward(event: Event) -> None:
                await asyncio.sleep(0)
                n = event.payload["n"]
                await bus.publish("hop" if n else "end", {"n": n - 1 if n else 0})

            bus.subscribe("hop", forward)
            for _ in range(50):
                await bus.publish("hop", {"n": 5})
                await bus.drain()
            assert len(seen) == 50

    run(main())


def test_reprs_and_html(bus: EventBus) -> None:
    bus.subscribe("a", print, name="<mine>")
    assert "1 subscriptions" in repr(bus)
    assert "&lt;mine&gt;" in bus.books()._repr_html_()
    assert "balanced" in repr(bus.books())
    assert "<mine>" in str(bus.books())
    event = Event("a.b", {"x": "<script>" + "é" * 200})
    assert "<script>" not in event._repr_html_()
    assert len(repr(event)) < 400


def test_a_subscription_has_the_books_that_the_bus_has_under_its_name(bus: EventBus) -> None:
    subscription = bus.subscribe("a", lambda event: None, name="x", where={"payload.n": 1})
    bus.publish("a", {"n": 1})
    bus.publish("a", {"n": 2})
    bus.drain_sync(GUARD)
    books = subscription.books()
    assert isinstance(books, Tally)
    assert books == bus.books()["x"]
    assert (books.published, books.delivered, books.filtered, books.balanced) == (2, 1, 1, True)
    subscription.cancel()
    assert subscription.books() == books


def test_thousands_of_types_find_their_subscribers_however_often(bus: EventBus) -> None:
    seen: dict[str, int] = {}

    def count(event: Event) -> None:
        seen[event.event_type] = seen.get(event.event_type, 0) + 1

    names = [f"a.t{n}" for n in range(6_000)]
    bus.subscribe("a.*", count, run_in="inline")
    for _ in range(3):
        for name in names:
            bus.publish(name)
            bus.publish("a.t" + name[3:])  # the same type by another object
    assert seen == dict.fromkeys(names, 6)
    # A new subscription is seen by all of them.
    late: list[str] = []
    subscription = bus.subscribe(
        "a.*", lambda event: late.append(event.event_type), run_in="inline"
    )
    for name in names:
        bus.publish(name)
    subscription.cancel()
    for name in names:
        bus.publish(name)
    assert late == names
