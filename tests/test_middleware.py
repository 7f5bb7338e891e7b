"""Middleware: around every publish, and around every handler."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from conftest import FAST, GUARD
from tiebeam import Component, Event, EventBus, Middleware, respond, subscribe
from tiebeam.exceptions import ConfigurationError, MailboxFull
from tiebeam.testing import TestBus, TestFramework, run

Log = list[Any]


class Tell(Middleware):
    """Says when it is passed, on the way in and out."""

    def __init__(self, name: str, log: Log) -> None:
        self.name = name
        self.log = log

    def on_publish(self, call_next: Any, event_type: str, payload: Any, **options: Any) -> Any:
        self.log.append(f"{self.name} publish {event_type}")
        return call_next(event_type, payload, **options)

    def on_handle(self, call_next: Any, event: Event) -> Any:
        self.log.append(f"{self.name} in")
        result = call_next(event)
        self.log.append(f"{self.name} out")
        return result

    async def on_handle_async(self, call_next: Any, event: Event) -> Any:
        self.log.append(f"{self.name} in")
        result = await call_next(event)
        self.log.append(f"{self.name} out")
        return result


@dataclass
class Ping:
    event_type: ClassVar[str] = "ping.sent"
    version: ClassVar[int] = 4
    n: int


@pytest.fixture
def log() -> Log:
    return []


@pytest.fixture
def bus(log: Log) -> Iterator[EventBus]:
    with EventBus(middleware=[Tell("a", log), Tell("b", log)]) as bus:
        yield bus


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_first_is_the_outermost(bus: EventBus, log: Log, asynchronous: bool) -> None:
    bus.use(Tell("c", log))

    def handler(event: Event) -> None:
        log.append("handler")

    async def later(event: Event) -> None:
        await asyncio.sleep(0)
        log.append("handler")

    made = bus.subscribe("x", later if asynchronous else handler)
    bus.publish("x")
    bus.drain_sync(GUARD)
    assert log == [
        *(f"{name} publish x" for name in "abc"),
        *(f"{name} in" for name in "abc"),
        "handler",
        *(f"{name} out" for name in "cba"),
    ]
    assert made.handler is (later if asynchronous else handler)
    assert made.name.endswith("later" if asynchronous else "handler")


def test_nothing_is_there_where_nobody_asked() -> None:
    with EventBus() as bus:
        made = bus.subscribe("x", print)
        assert made.handler is print
        assert not {"publish", "request", "send"} & vars(bus).keys()

        class Silent(Middleware):
            pass

        bus.use(Silent())  # nothing of it is overridden
        assert not {"publish", "request", "send"} & vars(bus).keys()


def test_what_is_published_can_be_changed_and_refused() -> None:
    class Gatekeeper(Middleware):
        def on_publish(self, call_next: Any, event_type: str, payload: Any, **options: Any) -> Any:
            if event_type == "forbidden.thing":
                raise PermissionError("not here")
            options["metadata"] = {**options.get("metadata", {}), "tenant": "acme"}
            return call_next(f"acme.{event_type}", payload, **options)

    async def main() -> None:
        async with TestBus(middleware=[Gatekeeper()]) as bus:
            receipt = bus.publish("order.placed", {"n": 1}, key="k", metadata={"own": 1})
            with pytest.raises(PermissionError):
                bus.publish("forbidden.thing")
            (event,) = bus.published()
            assert (event.event_type, event.event_id) == ("acme.order.placed", receipt.event_id)
            assert (event.key, event.payload) == ("k", {"n": 1})
            assert (event.metadata["tenant"], event.metadata["own"]) == ("acme", 1)

    run(main())


def test_typed_events_pass_as_type_and_instance(bus: EventBus, log: Log) -> None:
    seen: list[Any] = []

    class See(Middleware):
        def on_publish(self, call_next: Any, event_type: str, payload: Any, **options: Any) -> Any:
            seen.append((event_type, payload, options))
            return call_next(event_type, payload, **options)

        def on_handle(self, call_next: Any, event: Event) -> Any:
            seen.append((event.event_type, event.version))
            return call_next(event)

    bus.use(See())

    @bus.subscribe(Ping)
    def handler(ping: Ping) -> None:
        seen.append(ping)

    bus.publish(Ping(1))
    bus.drain_sync(GUARD)
    assert seen == [("ping.sent", Ping(1), {"version": 4}), ("ping.sent", 4), Ping(1)]


def test_a_wrong_first_argument_is_refused_as_without_middleware(bus: EventBus, log: Log) -> None:
    with pytest.raises(TypeError, match="a Ping is type and payload in one"):
        bus.publish(Ping(1), {})
    with pytest.raises(TypeError, match="the first argument is the event's type"):
        bus.publish(7)
    assert log == []


def test_a_bus_that_is_thrown_away_is_gone(log: Log) -> None:
    bus = EventBus(middleware=[Tell("a", log)])
    gone = weakref.ref(bus)
    del bus
    gc.collect()
    assert gone() is None


def test_requests_and_commands_pass_too(bus: EventBus, log: Log) -> None:
    class Double(Middleware):
        def on_handle(self, call_next: Any, event: Event) -> Any:
            result = call_next(event)
            return result * 2 if isinstance(result, int) else result

    bus.use(Double())
    bus.respond("sum", lambda event: event.payload["n"])
    bus.handle("do", lambda event: None)
    assert bus.request("sum", {"n": 21}, timeout=GUARD).wait() == 42
    assert bus.request("sum", {"n": 21}, n=1).wait(GUARD) == [42]
    bus.send("do").wait(GUARD)
    assert [entry for entry in log if entry.startswith("a publish")] == [
        "a publish sum",
        "a publish sum",
        "a publish do",
    ]


def test_each_attempt_passes_and_what_is_raised_is_a_failure(bus: EventBus, log: Log) -> None:
    class Broken(Middleware):
        def on_handle(self, call_next: Any, event: Event) -> Any:
            if event.retry_count == 0:
                raise ConnectionError("of the middleware")
            return call_next(event)

    bus.use(Broken())
    seen: list[int] = []
    bus.subscribe("x", lambda event: seen.append(event.retry_count), retry=FAST)
    bus.publish("x")
    bus.drain_sync(GUARD)
    assert seen == [1]
    assert log.count("a in") == 2
    assert log.count("a out") == 1


def test_an_event_that_is_not_passed_on_counts_as_delivered() -> None:
    class Skip(Middleware):
        def on_handle(self, call_next: Any, event: Event) -> Any:
            return None

    with EventBus(middleware=[Skip()]) as bus:
        seen: list[Event] = []
        bus.subscribe("x", seen.append, name="mine")
        bus.publish("x")
        bus.drain_sync(GUARD)
        assert seen == []
        assert bus.books()["mine"].delivered == 1


def test_a_receipt_that_is_thrown_away_is_noticed_through_the_chain() -> None:
    log: Log = []
    with EventBus(capacity=1, middleware=[Tell("a", log)]) as bus:
        held = bus.subscribe("x", print)
        held._hold(True)
        bus.publish("x")
        with pytest.raises(MailboxFull):
            bus.publish("x")
        held.cancel()


class AsyncOnly(Middleware):
    async def on_handle(self, call_next: Any, event: Event) -> Any:
        return await call_next(event)


class AsyncBeside(Middleware):
    async def on_handle_async(self, call_next: Any, event: Event) -> Any:
        return await call_next(event)


class SyncOnly(Middleware):
    def on_handle(self, call_next: Any, event: Event) -> Any:
        return call_next(event)


def test_hooks_of_the_wrong_kind_are_refused() -> None:
    async def later(event: Event) -> None: ...

    for middleware, good, bad, said in [
        (AsyncOnly(), later, print, r"AsyncOnly is for `async def` handlers, but print is `def`"),
        (AsyncBeside(), later, print, r"AsyncBeside is for `async def` handlers"),
        (SyncOnly(), print, later, r"SyncOnly.on_handle is `def`, but .*later is `async def`"),
    ]:
        with EventBus(middleware=[middleware]) as bus:
            with pytest.raises(ConfigurationError, match=said):
                bus.subscribe("x", bad)
            bus.subscribe("x", good)

    class Late(Middleware):
        async def on_publish(self, *what: Any, **how: Any) -> Any: ...

    class Early(Middleware):
        def on_handle_async(self, *what: Any) -> Any: ...

    for wrong, said in [
        (Late(), "on_publish must be `def`"),
        (Early(), "on_handle_async must be `async def`"),
        (Tell, "give an instance"),
        (print, "derives from tiebeam.Middleware"),
    ]:
        with pytest.raises(TypeError, match=said):
            EventBus(middleware=[wrong])  # type: ignore[list-item]


def test_it_comes_before_the_first_subscription() -> None:
    log: Log = []

    class PublishOnly(Middleware):
        def on_publish(self, call_next: Any, *what: Any, **how: Any) -> Any:
            log.append(what[0])
            return call_next(*what, **how)

    with EventBus() as bus:
        bus.subscribe("x", print, name="first")
        with pytest.raises(ConfigurationError, match="but print is subscribed already"):
            bus.use(SyncOnly())
        bus.use(PublishOnly())
        bus.publish("y")
        assert log == ["y"]


def test_a_frameworks_middleware_is_around_its_components() -> None:
    log: Log = []

    class Worker(Component):
        @subscribe("job.*")
        async def on_job(self, event: Event) -> None:
            log.append("job")
            await self.publish_event("done.job")

        @respond("ask")
        def answer(self, event: Event) -> int:
            return 7

    async def main() -> None:
        async with TestFramework(components=[Worker], middleware=[Tell("a", log)]) as framework:
            framework.bus.publish("job.new")
            await framework.settle()
            assert log == ["a publish job.new", "a in", "job", "a publish done.job", "a out"]
            assert await framework.bus.request("ask") == 7
            with pytest.raises(ConfigurationError, match="subscribed already"):
                framework.bus.use(SyncOnly())

    run(main())


def test_it_is_around_what_no_other_handler_takes() -> None:
    log: Log = []

    class Rest(Component):
        def on_event(self, event: Event) -> None:
            if event.event_type == "other.thing":
                log.append("other")

    class OfOther(Tell):
        def on_handle(self, call_next: Any, event: Event) -> Any:
            if event.event_type != "other.thing":
                return call_next(event)
            return super().on_handle(call_next, event)

    async def main() -> None:
        middleware = [OfOther("a", log)]
        async with TestFramework(components=[Rest], middleware=middleware) as framework:
            framework.bus.publish("other.thing")
            await framework.settle()
            assert log == ["a publish other.thing", "a in", "other", "a out"]

    run(main())
