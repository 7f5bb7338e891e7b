"""Dead letters delivered again: none is lost, and none comes out of its turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tiebeam import Component, DeadLetter, Event, subscribe
from tiebeam.testing import TestBus, TestFramework, run


class Shop:
    """A handler that fails while it is closed, and waits while its door is shut."""

    def __init__(self) -> None:
        self.open = False
        self.door = asyncio.Event()
        self.door.set()
        self.served: list[Any] = []

    async def serve(self, event: Event) -> None:
        await self.door.wait()
        if not self.open:
            raise ValueError("closed")
        self.served.append(event.payload["n"])


def numbers(letters: list[DeadLetter]) -> list[Any]:
    return [letter.event.payload["n"] for letter in letters]


def test_in_their_old_order_before_what_is_new() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            shop = Shop()
            bus.subscribe("a", shop.serve, name="shop")
            for n in range(4):
                bus.publish("a", {"n": n})
            await bus.settle()
            assert numbers(bus.dead_letters.list()) == [0, 1, 2, 3]
            shop.door.clear()
            shop.open = True
            for n in (10, 11):
                bus.publish("a", {"n": n})
            await bus.settle()  # 10 is at the door
            assert bus.dead_letters.replay() == 4
            shop.door.set()
            await bus.settle()
            assert shop.served == [10, 0, 1, 2, 3, 11]
            assert bus.books().balanced

    run(main())


@pytest.mark.parametrize("overflow", ["block", "fail", "drop_oldest", "drop_newest"])
def test_what_finds_no_room_stays_as_it_was(overflow: Any) -> None:
    async def main() -> None:
        async with TestBus() as bus:
            shop = Shop()
            bus.subscribe("a", shop.serve, name="shop", capacity=2, overflow=overflow)
            for n in range(4):
                bus.publish("a", {"n": n})
                await bus.settle()
            before = [(letter.id, letter.timestamp) for letter in bus.dead_letters.list()]
            shop.door.clear()
            shop.open = True
            bus.publish("a", {"n": 10})
            await bus.settle()
            assert bus.dead_letters.replay() == 2
            left = bus.dead_letters.list()
            # The first ones went: what stays comes after them, as before.
            assert [(letter.id, letter.timestamp) for letter in left] == before[2:]
            assert bus.books()["shop"].dropped == 0
            shop.door.set()
            await bus.settle()
            assert bus.dead_letters.replay() == 2
            await bus.settle()
            assert shop.served == [10, 0, 1, 2, 3]
            assert len(bus.dead_letters) == 0
            assert bus.books().balanced

    run(main())


def test_an_old_price_gives_way_to_a_newer_one() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            shop = Shop()
            bus.subscribe("a", shop.serve, name="shop", capacity=9, overflow="latest")
            bus.publish("a", {"n": "old"})
            await bus.settle()
            shop.door.clear()
            shop.open = True
            bus.publish("a", {"n": "at hand"})
            await bus.settle()
            bus.publish("a", {"n": "new"})
            bus.dead_letters.replay()
            shop.door.set()
            await bus.settle()
            assert shop.served == ["at hand", "new"]
            assert bus.books()["shop"].conflated == 1
            assert bus.books().balanced

    run(main())


def test_what_nobody_wants_any_more_stays() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            shop = Shop()
            subscription = bus.subscribe("a", shop.serve, name="shop")
            bus.publish("a", {"n": 0}, deadline=5.0)
            bus.publish("a", {"n": 1})
            await bus.advance(6.0)
            shop.open = True
            assert bus.dead_letters.replay() == 1  # the deadline of the other is over
            await bus.settle()
            assert shop.served == [1]
            shop.open = False
            bus.publish("a", {"n": 2})
            await bus.settle()
            subscription.cancel()
            bus.subscribe("a", shop.serve, name="shop", where="payload.n > 2")
            bus.subscribe("b", shop.serve, name="shop")
            assert bus.dead_letters.replay() == 0
            assert numbers(bus.dead_letters.list()) == [0, 2]

    run(main())


def test_by_one_number_or_by_several() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            shop = Shop()
            bus.subscribe("a", shop.serve)
            for n in range(4):
                bus.publish("a", {"n": n})
            await bus.settle()
            shop.open = True
            ids = [letter.id for letter in bus.dead_letters.list()]
            assert bus.dead_letters.replay(ids[2]) == 1
            assert bus.dead_letters.replay(ids[:1]) == 1
            assert bus.dead_letters.purge(ids[3]) == 1
            await bus.settle()
            assert sorted(shop.served) == [0, 2]
            given: Any
            for given in ("1", 1.5, ["x"], object()):
                with pytest.raises(TypeError, match="a number, or a list of numbers"):
                    bus.dead_letters.replay(given)
            assert len(bus.dead_letters) == 1

    run(main())


def test_another_member_takes_what_one_that_is_gone_gave_up() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            one, other, outsider = Shop(), Shop(), Shop()
            first = bus.subscribe("a", one.serve, name="one", group="shops")
            bus.subscribe("a", other.serve, name="other", group="shops")
            bus.subscribe("b", outsider.serve, name="outsider", group="shops")
            for n in range(6):
                bus.publish("a", {"n": n})
            await bus.settle()
            other.open = outsider.open = True
            first.cancel()
            assert bus.dead_letters.replay() == 6
            await bus.settle()
            assert sorted(other.served) == [0, 1, 2, 3, 4, 5]
            assert outsider.served == []
            assert bus.books().balanced

    run(main())


def test_by_hand_settled_events_can_be_decided_on_again() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            kept: list[Event] = []
            bus.subscribe("a", kept.append, ack="manual", run_in="loop", name="desk")
            bus.publish("a")
            await bus.settle()
            kept[0].reject("not now")
            assert bus.dead_letters.replay() == 1
            await bus.settle()
            kept[1].ack()
            with pytest.raises(RuntimeError, match="settled before"):
                kept[0].ack()
            assert bus.books()["desk"].as_dict() == {
                **dict.fromkeys(bus.books()["desk"].as_dict(), 0),
                "published": 2,
                "delivered": 1,
                "dead_lettered": 1,
            }

    run(main())


def test_a_restarted_component_takes_its_own() -> None:
    class Desk(Component):
        open = False

        def initialize(self) -> None:
            self.served: list[int] = []

        @subscribe("a")
        async def on_order(self, event: Event) -> None:
            if not self.open:
                raise ValueError("closed")
            self.served.append(event.payload["n"])

    async def main() -> None:
        async with TestFramework(components=[Desk]) as framework:
            desk = framework.get(Desk)
            framework.bus.publish("a", {"n": 7})
            await framework.settle()
            await framework.restart_component("desk")
            desk.open = True
            assert framework.dead_letters.replay() == 1
            await framework.settle()
            assert desk.served == [7]

    run(main())
