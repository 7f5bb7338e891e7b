"""``latest`` and ``sample``: of each type and key, the newest event is the one that counts."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from tiebeam import ConfigurationError, EventBus, Framework
from tiebeam.testing import TestBus, run


def test_latest_keeps_the_newest_of_each_key() -> None:
    async def main() -> None:
        seen: list[Any] = []

        async def handler(event: Any) -> None:
            seen.append((event.payload["symbol"], event.payload["price"]))

        async with TestBus() as bus:
            bus.subscribe("price", handler, overflow="latest", key="payload.symbol", name="x")
            for price in range(10):
                bus.publish("price", {"symbol": "BTC", "price": price})
                bus.publish("price", {"symbol": "ETH", "price": price})
            await bus.settle()
            assert seen == [("BTC", 9), ("ETH", 9)]
            tally = bus.books()["x"]
            assert (tally.published, tally.delivered, tally.conflated) == (20, 2, 18)
            assert tally.balanced
            assert "conflated=18" in repr(tally)
            assert "<td>18</td>" in bus.books()._repr_html_().replace(' class="n"', "")

    run(main())


def test_latest_for_a_whole_bus_spares_requests_and_commands() -> None:
    async def main() -> None:
        done: list[int] = []
        async with TestBus(overflow="latest") as bus:
            bus.respond("double", lambda event: {"n": event.payload["n"] * 2}, run_in="loop")
            bus.handle("do", lambda event: done.append(event.payload["n"]), run_in="loop")
            bus.subscribe("a", lambda event: done.append(-event.payload["n"]), run_in="loop")
            replies = [bus.request("double", {"n": n}) for n in range(5)]
            for n in range(1, 4):
                bus.send("do", {"n": n})
                bus.publish("a", {"n": n})
            await bus.settle()
            assert [(await reply)["n"] for reply in replies] == [0, 2, 4, 6, 8]
            assert sorted(done) == [-3, 1, 2, 3]

    run(main())


@pytest.mark.parametrize("interval", [10, 10.0, dt.timedelta(seconds=10)])
def test_sample_lets_one_through_in_each_interval(interval: Any) -> None:
    async def main() -> None:
        seen: list[Any] = []

        async def handler(event: Any) -> None:
            seen.append(event.payload["n"])

        async with TestBus() as bus:
            bus.subscribe("a", handler, overflow="sample", sample_interval=interval, name="x")
            for n in range(25):
                bus.publish("a", {"n": n})
                await bus.advance(1.0)
            assert seen == [0, 9, 19]
            await bus.advance(5.0)
            assert seen == [0, 9, 19, 24]
            tally = bus.books()["x"]
            assert (tally.delivered, tally.conflated, tally.in_flight) == (4, 21, 0)

    run(main())


def test_closing_waits_for_what_the_interval_holds_back() -> None:
    async def main() -> None:
        seen: list[Any] = []

        async def handler(event: Any) -> None:
            seen.append(event.payload["n"])

        async with TestBus() as bus:
            bus.subscribe("a", handler, overflow="sample", sample_interval=10.0)
            bus.publish("a", {"n": 1})
            await bus.settle()
            bus.publish("a", {"n": 2})
        assert seen == [1, 2]

    run(main())


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"overflow": "sample"}, "needs sample_interval="),
        ({"overflow": "sample", "sample_interval": 0}, "above zero"),
        ({"overflow": "sample", "sample_interval": -1}, "cannot be -1"),
        ({"overflow": "latest", "sample_interval": 1}, "belongs to overflow"),
        ({"sample_interval": 1}, 'overflow is "block"'),
        ({"overflow": "sample", "sample_interval": 1, "run_in": "inline"}, "run_in"),
        ({"overflow": "lates"}, 'did you mean "latest"'),
    ],
)
def test_options_that_contradict_each_other_are_refused(bus: EventBus, how: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        bus.subscribe("a", lambda event: None, **how)
    assert bus.subscriptions == []


def test_a_whole_bus_cannot_sample() -> None:
    with pytest.raises(ValueError, match="needs its sample_interval"):
        EventBus(overflow="sample")
    with pytest.raises(ConfigurationError, match="sample_interval"):
        Framework({"event_bus": {"overflow": "sample"}})
    Framework({"event_bus": {"overflow": "latest"}})
