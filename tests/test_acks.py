"""When an event counts as done: the five ways to settle, in all places."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from conftest import FAST, GUARD, Bench
from tiebeam import EventBus, LifecycleError
from tiebeam.testing import TestBus, run


def failing(event: Any) -> None:
    raise ConnectionError("no")


@pytest.mark.parametrize(
    ("ack", "delivered", "reason"),
    [
        ("ack_first", 1, None),
        ("ack", 1, None),
        ("reject_on_error", 0, "rejected"),
        ("nack_on_error", 0, "attempts"),
    ],
)
def test_what_a_failure_means(
    bus: EventBus, bench: Bench, ack: Any, delivered: int, reason: str | None
) -> None:
    how: Any = {"retry": FAST} if ack == "nack_on_error" else {}
    errors: list[dict[str, Any]] = []
    bus.subscribe("system.error.#", lambda event: errors.append(event.payload), run_in="inline")
    bench.subscribe(bus, "a", failing, ack=ack, name="x", **how)
    bus.publish("a")
    bus.drain_sync(GUARD)
    assert bus.books()["x"].delivered == delivered
    letters = bus.dead_letters.list()
    assert [letter.reason for letter in letters] == ([reason] if reason else [])
    assert len(errors) == (3 if ack == "nack_on_error" else 1)
    assert errors[-1]["final"] is True
    assert errors[-1]["action"] == ("dead_letter" if reason else "acknowledged")


def test_ack_first_counts_before_the_handler_has_ended() -> None:
    async def main() -> None:
        ended: list[bool] = []

        async def handler(event: Any) -> None:
            await asyncio.sleep(5.0)
            ended.append(True)

        async with TestBus() as bus:
            bus.subscribe("a", handler, ack="ack_first", name="x")
            bus.publish("a")
            await bus.advance(1.0)
            assert (bus.handled("x"), bus.books()["x"].in_flight, ended) == (1, 0, [])
        assert ended == [True], "leaving the block waits for it all the same"

    run(main())


def test_by_hand_in_all_places(bus: EventBus, bench: Bench) -> None:
    def handler(event: Any) -> None:
        {"ack": event.ack, "nack": event.nack, "reject": event.reject}[event.payload["do"]]()

    bench.subscribe(bus, "a", handler, ack="manual", retry=FAST, name="x")
    for do in ("ack", "nack", "reject"):
        bus.publish("a", {"do": do})
    bus.drain_sync(GUARD)
    tally = bus.books()["x"]
    assert (tally.delivered, tally.dead_lettered, tally.in_flight) == (1, 2, 0)
    found = {
        (letter.reason, letter.error_type, letter.attempts) for letter in bus.dead_letters.list()
    }
    assert found == {("attempts", "Nacked", 3), ("rejected", "Rejected", 1)}


def test_the_decision_may_come_later_and_from_another_thread(bus: EventBus) -> None:
    kept: list[Any] = []
    bus.subscribe("a", kept.append, ack="manual", name="x", run_in="inline")
    bus.publish("a")
    bus.publish("a")
    assert bus.books()["x"].in_flight == 2
    thread = threading.Thread(target=kept[0].ack)
    thread.start()
    thread.join(GUARD)
    kept[1].reject("no such order")
    tally = bus.books()["x"]
    assert (tally.delivered, tally.dead_lettered, tally.in_flight) == (1, 1, 0)
    assert bus.dead_letters.list()[0].message == "no such order"


def test_from_another_task() -> None:
    async def main() -> None:
        kept: list[Any] = []

        async def handler(event: Any) -> None:
            kept.append(event)

        async with TestBus() as bus:
            bus.subscribe("a", handler, ack="manual", name="x")
            for _ in range(3):
                bus.publish("a")
            await bus.settle()
            assert (len(kept), bus.books()["x"].in_flight) == (3, 3)

            async def decide() -> None:
                kept[1].ack()

            await asyncio.create_task(decide())
            assert bus.handled("x") == 1
            kept[0].ack()
            kept[2].ack()

    run(main())


def test_at_most_as_many_as_the_capacity_are_undecided() -> None:
    async def main() -> None:
        kept: list[Any] = []

        async def handler(event: Any) -> None:
            kept.append(event)

        async with TestBus() as bus:
            subscription = bus.subscribe("a", handler, ack="manual", capacity=2)
            for _ in range(4):
                bus.publish("a")
                await bus.settle()
            assert (len(kept), subscription.queued) == (2, 2)
            for n in range(4):
                kept[n].ack()
                await bus.settle()
            assert len(kept) == 4

    run(main())


def test_thrown_away_undecided_it_comes_back() -> None:
    async def main() -> None:
        attempts: list[int] = []

        async def handler(event: Any) -> None:
            attempts.append(event.retry_count)
            if event.retry_count == 1:
                event.ack()

        async with TestBus() as bus:
            bus.subscribe("a", handler, ack="manual", retry={"initial_delay": 1.0}, name="x")
            bus.publish("a")
            await bus.advance(2.0)
            gc.collect()
            assert attempts == [0, 1]
            assert bus.handled("x") == 1

    run(main())


def test_an_exception_without_a_decision_is_a_nack(bus: EventBus, bench: Bench) -> None:
    def handler(event: Any) -> None:
        if event.payload["first"]:
            event.ack()
        raise ConnectionError("no")

    bench.subscribe(bus, "a", handler, ack="manual", retry=FAST, name="x")
    bus.publish("a", {"first": True})
    bus.publish("a", {"first": False})
    bus.drain_sync(GUARD)
    tally = bus.books()["x"]
    assert (tally.delivered, tally.dead_lettered) == (1, 1)
    (letter,) = bus.dead_letters.list()
    assert (letter.error_type, letter.attempts) == ("ConnectionError", 3)


def test_a_decision_is_taken_once_and_only_where_it_is_due(bus: EventBus) -> None:
    kept: list[Any] = []
    bus.subscribe("a", kept.append, ack="manual", run_in="inline")
    bus.subscribe("b", kept.append, run_in="inline")
    bus.publish("a")
    bus.publish("b")
    kept[0].ack()
    for again in (kept[0].ack, kept[0].nack, kept[0].reject):
        with pytest.raises(LifecycleError, match="was settled before"):
            again()
    with pytest.raises(LifecycleError, match='ack="manual"'):
        kept[1].ack()


def test_a_time_limit_decides_too() -> None:
    async def main() -> None:
        async def handler(event: Any) -> None:
            await asyncio.sleep(100)

        async with TestBus() as bus:
            bus.subscribe("a", handler, ack="manual", retry=False, timeout=1.0, name="x")
            bus.publish("a")
            await bus.advance(2.0)
            (letter,) = bus.dead_letters.list()
            assert letter.error_type == "TimeoutError"
            assert bus.books()["x"].in_flight == 0

    run(main())


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"ack": "ack_first", "retry": 3}, "retry="),
        ({"ack": "ack", "retry": 3}, "retry="),
        ({"ack": "reject_on_error", "retry": 3}, "retry="),
        ({"ack": "manual", "fallback": print}, "fallback="),
        ({"ack": "manuel"}, 'did you mean "manual"'),
    ],
)
def test_what_contradicts_itself_is_refused(bus: EventBus, how: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        bus.subscribe("a", print, **how)


def test_no_retries_may_be_said_aloud(bus: EventBus) -> None:
    bus.subscribe("a", print, ack="ack_first", retry=False)
