"""What can be a handler, and what it is called."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import Event, EventBus


class Callable:
    def __call__(self, event: Event) -> None: ...


class AsyncCallable:
    def __init__(self) -> None:
        self.seen: list[Event] = []

    async def __call__(self, event: Event) -> None:
        await asyncio.sleep(0)
        self.seen.append(event)


def no_argument() -> None: ...


def two_arguments(a: Any, b: Any) -> None: ...


def keyword_needed(event: Any, *, option: Any) -> None: ...


def generator(event: Any) -> Any:
    yield event


async def async_generator(event: Any) -> Any:
    yield event


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (None, "callable"),
        (3, "callable, got int"),
        ("handler", "callable, got str"),
        (no_argument, r"one argument, the event; its signature is \(\)"),
        (two_arguments, "one argument"),
        (keyword_needed, "one argument"),
        (Callable.__call__, "one argument"),
        (generator, "generator"),
        (async_generator, "generator"),
    ],
)
def test_handlers_that_cannot_work_are_refused(bus: EventBus, handler: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        bus._subscribe("a", handler)
    with pytest.raises(TypeError, match="fallback"):
        bus.subscribe("a", print, fallback=handler or 1)
    assert bus.subscriptions == []


@pytest.mark.parametrize("place", ["thread", "inline"])
def test_async_handlers_need_a_loop(bus: EventBus, place: str) -> None:
    async def handler(event: Event) -> None: ...

    with pytest.raises(ValueError, match="async handler runs on an event loop"):
        bus.subscribe("a", handler, run_in=place)


def test_callables_of_all_kinds(run: Any) -> None:
    class Owner:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def method(self, _event: Event) -> None:
            self.seen.append("method")

        async def coroutine(self, _event: Event) -> None:
            self.seen.append("coroutine")

        @classmethod
        def of_class(cls, event: Event) -> None: ...

        @staticmethod
        def static(event: Event, default: int = 1) -> None: ...

    async def with_option(event: Event, seen: list[str]) -> None:
        seen.append("partial")

    async def main() -> None:
        owner, instance = Owner(), AsyncCallable()
        async with EventBus() as bus:
            for handler in (
                owner.method, owner.coroutine, Owner.of_class, owner.static, Callable(), instance,
                functools.partial(with_option, seen=owner.seen), print, lambda *args: None, len,
            ):  # fmt: skip
                bus.subscribe("a", handler, retry=False, name="x")
            await bus.publish("a")
            await bus.drain()
            assert sorted(owner.seen) == ["coroutine", "method", "partial"]
            assert len(instance.seen) == 1
            assert [letter.error_type for letter in bus.dead_letters.list()] == ["TypeError"]  # len

    run(main())


def test_a_function_that_returns_a_coroutine_is_told_so(bus: EventBus) -> None:
    async def work(event: Event) -> None: ...

    bus.subscribe("a", lambda event: work(event))
    bus.publish("a")
    bus.drain_sync(GUARD)
    (letter,) = bus.dead_letters.list()
    assert "async def" in letter.message


def test_names_are_for_people(bus: EventBus) -> None:
    class Owner:
        def on_price(self, event: Event) -> None: ...

    assert bus.subscribe("a", Owner().on_price).name == "Owner.on_price"
    assert bus.subscribe("a", Callable()).name == "Callable"
    assert bus.subscribe("a", lambda event: None).name == "<lambda>"
    assert bus.subscribe("a", print, name="mine").name == "mine"
