"""Contexts and events serve one call after the other as long as nobody can tell: whoever keeps a
part of them, in whichever way, has it for ever as it was."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import itertools
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from conftest import Bench
from tiebeam import Event, EventBus

VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("kept_variable")

MANY = 40


class Keeper:
    """Keeps parts of what handlers get; ``check`` looks whether they are as they were."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        self.checks: list[Callable[[], Any]] = []

    def same(self, event: Event) -> Callable[[], None]:
        """A check that holds the event, and knows what it was by other means."""
        was = (event.event_id, event.correlation_id, event.retry_count, event.to_json())

        def check() -> None:
            assert (event.event_id, event.correlation_id, event.retry_count, event.to_json()) == was
            assert event.payload["n"] >= 0

        return check

    # Each takes an event inside its handler, and keeps something.

    def event(self, event: Event) -> None:
        self.checks.append(self.same(event))

    def payload(self, event: Event) -> None:
        payload, n = event.payload, event.payload["n"]
        payload["mine"] = n

        def check() -> None:
            assert payload == {"n": n, "mine": n}

        self.checks.append(check)

    def context(self, event: Event) -> None:
        context, event_id = contextvars.copy_context(), event.event_id
        self.checks.append(lambda: self.causes(context.run, event_id))

    def context_that_went_on(self, event: Event) -> None:
        context, event_id = contextvars.copy_context(), event.event_id
        for n in range(20):  # its tree and the handler's part ways
            context.run(contextvars.ContextVar(f"other_{n}").set, n)
        self.checks.append(lambda: self.causes(context.run, event_id))

    def causes(self, run: Callable[..., Any], event_id: str) -> None:
        seen: list[Event] = []
        with self.bus.subscribe("child", seen.append, run_in="inline"):
            run(self.bus.publish, "child")
        assert seen[0].causation_id == event_id

    def token(self, event: Event) -> None:
        n = event.payload["n"]
        token = VARIABLE.set(n)
        VARIABLE.set(-1)
        self.checks.append(lambda token=token: token.old_value is contextvars.Token.MISSING)

    def set_and_reset(self, event: Event) -> None:
        assert VARIABLE.get(None) is None
        VARIABLE.reset(VARIABLE.set(event.payload["n"]))
        self.event(event)

    def set(self, event: Event) -> None:
        assert VARIABLE.get(None) is None, "left behind by an earlier event"
        VARIABLE.set(event.payload["n"])

    def closure(self, event: Event) -> None:
        self.checks.append(functools.partial(lambda check: check(), self.same(event)))

    def exception(self, event: Event) -> None:
        n = event.payload["n"]
        try:
            raise ValueError(n)
        except ValueError as error:
            kept = error

        def check() -> None:
            assert kept.__traceback__ is not None
            assert kept.__traceback__.tb_frame.f_locals["event"].payload["n"] == n

        self.checks.append(check)

    def frame(self, event: Event) -> None:
        frame, event_id = sys._getframe(), event.event_id

        def check() -> None:
            assert frame.f_locals["event"].event_id == event_id

        self.checks.append(check)

    def thread(self, event: Event) -> None:
        check = self.same(event)
        go = threading.Event()
        failed: list[BaseException] = []

        def later() -> None:
            go.wait(10)
            try:
                check()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=later)
        thread.start()

        def join() -> None:
            go.set()
            thread.join()
            assert failed == []

        self.checks.append(join)

    def weak(self, event: Event) -> None:
        gone: list[str] = []
        event_id = event.event_id
        reference = weakref.ref(event)
        weakref.finalize(event, gone.append, event_id)

        def check() -> None:
            assert reference() is None or reference().event_id == event_id  # type: ignore[union-attr]
            assert reference() is not None or gone == [event_id]

        self.checks.append(check)

    def weak_key(self, event: Event) -> None:
        table: weakref.WeakKeyDictionary[Event, str] = weakref.WeakKeyDictionary()
        table[event] = event.event_id

        def check() -> None:
            assert all(key.event_id == event_id for key, event_id in table.items())

        self.checks.append(check)

    def referrers(self, event: Event) -> None:
        kept = gc.get_referrers(event)  # a context's innards are among them
        event_id = event.event_id

        def check() -> None:
            held = [one for part in kept for one in gc.get_referents(part)]
            events = [one for one in held if isinstance(one, Event)]
            assert {one.event_id for one in events} <= {event_id, *self.ids(kept)}

        self.checks.append(check)

    def ids(self, kept: list[Any]) -> set[str]:
        # Frames among the referrers go on, and other lists may hold other events.
        return {
            one.event_id
            for part in kept
            if type(part).__name__ not in ("Context", "hamt", "hamt_bitmap_node")
            for one in gc.get_referents(part)
            if isinstance(one, Event)
        }

    def itself(self, event: Event) -> None:
        event.payload["event"] = event
        self.event(event)

    def in_a_cycle(self, event: Event) -> None:
        box: dict[str, Any] = {"event": event, "check": self.same(event)}
        box["box"] = box
        self.checks.append(box["check"])

    def nested(self, event: Event) -> None:
        """Publishes to an inline handler, whose own call comes in between."""
        check, event_id = self.same(event), event.event_id
        seen: list[Event] = []
        with self.bus.subscribe("nested", seen.append, run_in="inline"):
            self.bus.publish("nested")
        check()
        assert seen[0].causation_id == event_id


WAYS = [
    name
    for name in vars(Keeper)
    if not name.startswith("_") and name not in ("same", "causes", "ids")
]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_kept_stays_as_it_was(run: Any, bench: Bench, way: str) -> None:
    async def main() -> None:
        async with EventBus() as bus:
            keeper = Keeper(bus)
            calls = 0

            def handler(event: Event) -> None:
                nonlocal calls
                calls += 1
                n = event.payload["n"]
                getattr(keeper, way)(event)
                assert event.payload["n"] == n

            bench.subscribe(bus, "a", handler)
            bench.subscribe(bus, "b", lambda event: event.payload)  # shares the contexts
            for n in range(MANY):
                bus.publish("a", {"n": n})
                await bus.drain()
                bus.publish("b", {"n": n})
                await bus.drain()
            for n in range(MANY):
                bus.publish("a" if way == "set" else "b", {"n": MANY + n})
            await bus.drain()
            assert calls >= MANY
            assert bus.dead_letters.list() == []
            gc.collect()
            for check in keeper.checks:
                assert check() in (None, True)

    run(main())


def test_what_nobody_keeps_is_used_again(run: Any, bench: Bench) -> None:
    """Else the tests above would prove nothing."""

    async def main() -> None:
        async with EventBus() as bus:
            seen: list[tuple[int, int]] = []
            bench.subscribe(bus, "a", lambda event: seen.append((id(event), event.payload["n"])))
            kept: list[Event] = []
            for n in range(MANY):
                bus.publish("a", {"n": n})
                await bus.drain()
                kept.append(Event("other"))  # takes the room of an event that was freed
            assert len({identity for identity, _ in seen}) == 1
            assert [n for _, n in seen] == list(range(MANY))

    run(main())


def test_async_handlers_that_go_on(run: Any) -> None:
    async def main() -> None:
        want: dict[str, str] = {}
        got: dict[str, str | None] = {}
        later: list[asyncio.Task[None]] = []
        go = asyncio.Event()
        async with EventBus() as bus:
            bus.subscribe("child", lambda e: got.__setitem__(e.payload["who"], e.causation_id))

            def child(who: str, event_id: str) -> None:
                want[who] = event_id
                bus.publish("child", {"who": who})

            async def numbers(event: Event) -> AsyncIterator[int]:
                for n in range(2):
                    await asyncio.sleep(0)
                    assert event.payload["n"] >= 0
                    yield n

            async def outlives(who: str, event_id: str) -> None:
                await go.wait()
                child(who, event_id)

            @bus.subscribe("a", concurrency=8)
            async def on_a(event: Event) -> None:
                n, event_id = event.payload["n"], event.event_id
                later.append(asyncio.create_task(outlives(f"task {n}", event_id)))
                loop = asyncio.get_running_loop()
                loop.call_soon(child, f"callback {n}", event_id)
                if n % 3:
                    await asyncio.to_thread(child, f"thread {n}", event_id)
                async for step in numbers(event):
                    child(f"step {n}.{step}", event_id)
                assert (event.payload["n"], event.event_id) == (n, event_id)

            for n in range(MANY):
                bus.publish("a", {"n": n})
            await bus.drain()
            for n in range(MANY):  # other events have come since
                bus.publish("a", {"n": MANY + n})
            await bus.drain()
            go.set()
            await asyncio.gather(*later)
            await bus.drain()
            assert bus.dead_letters.list() == []
            assert got == want

    run(main())


def test_an_event_that_its_payload_holds(run: Any) -> None:
    """What comes to its end while a payload is let go may publish, too."""

    async def main() -> None:
        async with EventBus() as bus:
            seen: list[tuple[int, str | None]] = []

            class Last:
                def __init__(self, n: int) -> None:
                    self.n = n

                def __del__(self) -> None:
                    bus.publish("end", {"n": self.n})

            def on_a(event: Event) -> None:
                event.payload["last"] = Last(event.payload["n"])

            bus.subscribe("a", on_a, run_in="inline")
            bus.subscribe(
                "end", lambda e: seen.append((e.payload["n"], e.causation_id)), run_in="inline"
            )
            for n in range(MANY):
                bus.publish("a", {"n": n})
            assert seen == [(n, None) for n in range(MANY)]
            assert bus.books().balanced

    run(main())


def test_an_event_in_a_circle_is_collected(run: Any, bench: Bench) -> None:
    class Order:
        event: Event

    async def main() -> None:
        async with EventBus() as bus:
            orders: list[weakref.ref[Order]] = []

            def on_a(event: Event) -> None:
                order = event.payload["order"] = Order()
                order.event = event
                orders.append(weakref.ref(order))

            bench.subscribe(bus, "a", on_a)
            for n in range(MANY):
                bus.publish("a", {"n": n})
            await bus.drain()
        gc.collect()
        assert len(orders) == MANY
        assert [order() for order in orders] == [None] * MANY

    run(main())


def test_a_handler_inside_itself(run: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:
            seen: list[tuple[int, str, str | None]] = []

            def deeper(event: Event) -> None:
                depth, event_id = event.payload["depth"], event.event_id
                VARIABLE.set(depth)
                if depth < MANY:
                    bus.publish("a", {"depth": depth + 1})
                assert VARIABLE.get() == depth
                assert (event.payload["depth"], event.event_id) == (depth, event_id)
                seen.append((depth, event_id, event.causation_id))

            bus.subscribe("a", deeper, run_in="inline")
            bus.publish("a", {"depth": 0})
            assert bus.dead_letters.list() == []
            seen.reverse()
            assert [depth for depth, _, _ in seen] == list(range(MANY + 1))
            for outer, inner in itertools.pairwise(seen):
                assert inner[2] == outer[1]

    run(main())


def test_receipts_stay_what_they_were() -> None:
    with EventBus() as bus:
        kept = [bus.publish("a") for _ in range(MANY)]
        assert len({receipt.event_id for receipt in kept}) == MANY
        one = bus.publish("a")
        was = one.event_id
        for _ in range(MANY):
            bus.publish("a")
        assert one.event_id == was
        del one, kept
        seen = {id(bus.publish("a")) for _ in range(MANY)}
        assert len(seen) == 1  # nobody kept any
