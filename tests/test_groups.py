"""Groups: competing consumers; and what a component's handlers belong to."""

from __future__ import annotations

from typing import Any

import pytest
from tiebeam import Component, EventBus, subscribe
from tiebeam.testing import TestBus, TestFramework, run


def test_each_event_goes_to_one_member() -> None:
    async def main() -> None:
        seen: dict[str, list[int]] = {"x": [], "y": [], "alone": []}

        def record(name: str) -> Any:
            return lambda event: seen[name].append(event.payload["n"])

        async with TestBus() as bus:
            for name in ("x", "y"):
                bus.subscribe("a", record(name), group="g", name=name, run_in="loop")
            bus.subscribe("a", record("alone"), name="alone", run_in="loop")
            for n in range(10):
                bus.publish("a", {"n": n})
            await bus.settle()
            assert sorted(seen["x"] + seen["y"]) == seen["alone"] == list(range(10))
            assert len(seen["x"]) == 5
            assert "group `g`, shared by 2" in str(bus.explain("a"))
            (receiver,) = (r for r in bus.explain("a").receivers if r["name"] == "x")
            assert (receiver["group"], receiver["shared_by"]) == ("g", 2)

    run(main())


def test_a_key_stays_with_its_member() -> None:
    async def main() -> None:
        seen: dict[str, set[str]] = {}
        async with TestBus() as bus:
            for name in "xyz":

                def handler(event: Any, name: str = name) -> None:
                    seen.setdefault(event.payload["symbol"], set()).add(name)

                bus.subscribe("a", handler, group="g", key="payload.symbol", run_in="loop")
            for n in range(60):
                bus.publish("a", {"symbol": f"S{n % 12}"})
            await bus.settle()
            assert len(seen) == 12
            assert all(len(members) == 1 for members in seen.values())
            assert len(set.union(*seen.values())) > 1

    run(main())


def test_what_waits_goes_to_the_remaining_members() -> None:
    async def main() -> None:
        seen: list[int] = []
        async with TestBus() as bus:
            first = bus.subscribe("a", lambda event: None, group="g", name="x", run_in="loop")
            first._hold(True)
            for n in range(5):
                bus.publish("a", {"n": n})

            def handler(event: Any) -> None:
                seen.append(event.payload["n"])

            bus.subscribe("a", handler, group="g", name="y", run_in="loop")
            assert first.cancel() == 0
            await bus.settle()
            assert seen == [0, 1, 2, 3, 4]
            assert bus.books().total.dropped == 0
            assert bus.books().balanced

    run(main())


def test_handlers_of_components_have_a_group_of_their_own() -> None:
    class Agent(Component):
        name = "agent"

        def __init__(self) -> None:
            self.seen: list[str] = []

        @subscribe("market.*")
        @subscribe("market.price")
        async def on_price(self, event: Any) -> None:
            self.seen.append("on_price")

        @subscribe("market.price", broadcast=True)
        async def on_all(self, event: Any) -> None:
            self.seen.append("on_all")

        @subscribe("market.price", group="pricing")
        async def on_some(self, event: Any) -> None:
            self.seen.append("on_some")

    async def main() -> None:
        agent = Agent()
        async with TestFramework(components=[agent]) as framework:
            framework.bus.publish("market.price")
            await framework.settle()
            # Two patterns of one handler are two subscriptions, and each gets the event.
            assert sorted(agent.seen) == ["on_all", "on_price", "on_price", "on_some"]
            receivers = framework.bus.explain("market.price").receivers
            groups = {r["name"]: r["group"] for r in receivers if r["name"].startswith("agent")}
            assert groups == {
                "agent.on_price": "agent.on_price",
                "agent.on_all": None,
                "agent.on_some": "pricing",
            }

    run(main())


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"group": "g", "broadcast": True}, "leave one of them out"),
        ({"group": ""}, "a group has a name"),
        ({"broadcast": False}, "give group="),
        ({"start": "first"}, "needs a journal or a broker"),
        ({"start": 17}, "start=17 is not possible"),
        ({"start": "frist"}, 'did you mean "first"'),
        ({"start": 1.5}, "a position, got float"),
    ],
)
def test_what_makes_no_sense_is_refused(bus: EventBus, how: Any, says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        bus.subscribe("a", print, **how)
    assert bus.subscriptions == []


def test_starting_now_is_what_happens_anyway(bus: EventBus) -> None:
    bus.subscribe("a", print, start="now", broadcast=True)


def test_members_share_one_key(bus: EventBus) -> None:
    bus.subscribe("a", print, group="g", key="payload.symbol")
    with pytest.raises(ValueError, match="the members of the group `g` share one key"):
        bus.subscribe("a", print, group="g")
