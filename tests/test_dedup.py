"""Ids seen lately: what is published twice is delivered once."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from tiebeam import EventBus, Framework, PermanentError
from tiebeam.testing import TestBus, TestFramework, run


def test_the_same_id_within_the_window() -> None:
    async def main() -> None:
        seen: list[Any] = []
        async with TestBus(dedup={"window": dt.timedelta(minutes=1)}) as bus:
            bus.subscribe("a", lambda event: seen.append(event.event_id), run_in="loop")
            first = bus.publish("a", event_id="order-17")
            assert (first.event_id, first.duplicate) == ("order-17", False)
            second = bus.publish("a", event_id="order-17")
            assert (second.event_id, second.duplicate, second.accepted) == ("order-17", True, True)
            await second
            assert "duplicate" in repr(second)
            await bus.advance(60.0)
            assert not bus.publish("a", event_id="order-17").duplicate
            await bus.settle()
            assert seen == ["order-17", "order-17"]
            assert (bus.books().duplicates, bus.books().events) == (1, 2)

    run(main())


def test_a_publish_of_the_bus_can_be_repeated() -> None:
    with EventBus(dedup=True) as bus:
        receipt = bus.publish("a")
        assert receipt.event_id.startswith("evt_")
        assert bus.publish("a", event_id=receipt.event_id).duplicate
        assert bus.publish("a", event_id="later", delay=100).duplicate is False
        assert bus.publish("a", event_id="later", delay=100).duplicate


def test_commands_and_requests() -> None:
    async def main() -> None:
        done: list[str] = []
        async with TestBus(dedup=True) as bus:
            bus.handle("do", lambda event: done.append(event.event_id), run_in="loop")
            bus.respond("ask", lambda event: {"id": event.event_id}, run_in="loop")
            assert not bus.send("do", event_id="1").duplicate
            assert bus.send("do", event_id="1").duplicate
            assert await bus.request("ask", event_id="2") == {"id": "2"}
            with pytest.raises(PermanentError, match="2 was made before"):
                bus.request("ask", event_id="2")
            await bus.settle()
            assert done == ["1"]

    run(main())


def test_without_dedup_ids_are_free() -> None:
    with EventBus() as bus:
        assert not bus.publish("a", event_id="1").duplicate
        assert not bus.publish("a", event_id="1").duplicate
        assert bus.books().duplicates == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"window": 0}, "above zero"),
        ({"size": 0}, "above zero"),
        ({"size": -1}, "number of ids"),
        ({"windw": 1}, 'did you mean "window"'),
        ({"window": "1"}, r'dedup\["window"\]: a duration is a number of seconds'),
        (600, "dedup is True, False or a dict"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: Any, says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        EventBus(dedup=given)


@pytest.mark.parametrize(
    ("event_id", "says"), [("", "is empty"), ("x" * 257, "257 bytes"), ("a\nb", "control")]
)
def test_ids_that_make_no_sense_are_refused(bus: EventBus, event_id: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        bus.publish("a", event_id=event_id)
    assert bus.books().events == 0


def test_by_configuration() -> None:
    async def main() -> None:
        for section, duplicate in [({}, False), ({"dedup": {"enabled": True}}, True)]:
            async with TestFramework({"event_bus": section}) as framework:
                framework.bus.publish("user.a", event_id="1")
                assert framework.bus.publish("user.a", event_id="1").duplicate is duplicate

    run(main())
    with pytest.raises(ValueError, match=r"dedup\.window"):
        Framework({"event_bus": {"dedup": {"window": 0}}})
