"""A bug in the core: it is an InternalError, one handler or component fails, the rest lives on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from conftest import FAST, GUARD, Bench
from tiebeam import Component, Event, EventBus, InternalError, RequestFault, _core
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]
pytestmark = pytest.mark.filterwarnings("error")


def panic(*_: Any) -> Any:
    _core._panic("planted")


SAYS = "the core panicked: planted; this is a bug in tiebeam"


def test_a_handler_that_meets_one_fails_and_the_next_event_is_handled(
    run: Any, bench: Bench, unraisable: list[BaseException]
) -> None:
    def handler(event: Event) -> int:
        if event.payload["n"] == 0:
            panic()
        handled.append(event.payload["n"])
        return event.payload["n"]

    async def main() -> None:
        async with EventBus() as bus:
            bench.subscribe(bus, "a", handler, retry=FAST, name="x")
            for n in range(3):
                await bus.publish("a", {"n": n})
            await asyncio.wait_for(bus.drain(), GUARD)
            (letter,) = bus.dead_letters.list()
            assert (letter.error_type, letter.message) == ("InternalError", SAYS)
            assert (letter.category, letter.attempts) == ("internal", 1)
            assert handled == [1, 2]
            books = bus.books()["x"]
            assert (books.delivered, books.dead_lettered, books.in_flight) == (2, 1, 0)
            assert bus.books().balanced

    handled: list[int] = []
    run(main())
    assert unraisable == []


@pytest.mark.parametrize("first", [True, False])
def test_a_handler_that_has_waited_meets_one(run: Any, first: bool) -> None:
    async def handler(event: Event) -> None:
        if not first:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        panic()

    async def main() -> None:
        async with EventBus() as bus:
            bus.subscribe("a", handler, name="x", retry=False)
            await bus.publish("a")
            await asyncio.wait_for(bus.drain(), GUARD)
            (letter,) = bus.dead_letters.list()
            assert letter.error_type == "InternalError"
            assert bus.books().balanced

    run(main())


def test_a_fallback_that_meets_one(run: Any, bench: Bench) -> None:
    def handler(event: Event) -> None:
        raise ValueError("no")

    async def main() -> None:
        async with EventBus() as bus:
            bench.subscribe(bus, "a", handler, fallback=panic, name="x")
            await bus.publish("a")
            await asyncio.wait_for(bus.drain(), GUARD)
            (letter,) = bus.dead_letters.list()
            assert (letter.reason, letter.error_type) == ("fallback_failed", "ValueError")
            assert bus.books().balanced

    run(main())


def test_a_responder_that_meets_one_answers_with_that(run: Any, bench: Bench) -> None:
    async def main() -> None:
        async with EventBus() as bus:
            if bench.place == "async":

                async def responder(event: Event) -> None:
                    panic()

                bus.respond("a", responder)
            else:
                bus.respond("a", panic, run_in=bench.place)  # type: ignore[arg-type]
            with pytest.raises(RequestFault, match="the core panicked: planted"):
                await bus.request("a", timeout=GUARD)
            assert bus.books().pending_requests == 0

    run(main())


def test_whoever_publishes_into_one_gets_an_internal_error(bus: EventBus) -> None:
    class Payload:
        model_dump = panic

    for publish in (bus.publish, bus.send, bus.request):
        with pytest.raises(InternalError, match=SAYS):
            publish("a", Payload())
    assert bus.books().events == 0
    bus.publish("a")


async def test_a_component_that_meets_one_fails_and_the_rest_goes_on(
    tiebeam_framework: Make,
) -> None:
    class Broken(Component):
        async def start(self) -> None:
            panic()

    class Sync(Component):
        def start(self) -> None:
            panic()

    class Sick(Component):
        async def health_check(self) -> dict[str, Any]:
            return panic()  # type: ignore[no-any-return]

    class Good(Component):
        pass

    async with tiebeam_framework(components=[Broken, Sync, Sick, Good]) as framework:
        await framework.advance(100)
        states = {c["component_id"]: c for c in framework.health()["components"]}
        assert states["broken"]["status"] == states["sync"]["status"] == "failed"
        assert states["good"]["status"] == "running"
        assert states["good"]["health"] == "pass"
        assert states["sick"]["health"] == "fail"
        told = [e.payload for e in framework.published("system.component.failed")]
        causes = {change["component"]: change["cause"] for change in told}
        assert causes.keys() == {"broken", "sync", "sick"}
        assert all(f"InternalError: {SAYS}" in cause for cause in causes.values())
