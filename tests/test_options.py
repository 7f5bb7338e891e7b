"""Bad options are refused at once, with the reason, and nothing is registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import Component, EventBus, Middleware, TiebeamError, command, respond, subscribe
from tiebeam.bus import SubscribeOptions


def handler(event: Any) -> None: ...


BAD: list[tuple[dict[str, Any], str]] = [
    ({"capacity": -1}, "capacity must be at least 1, got -1"),
    ({"capacity": 0}, "capacity must be at least 1, got 0"),
    ({"capacity": 1.5}, "capacity is a whole number, got float 1.5"),
    ({"capacity": True}, "capacity is a whole number, got bool True"),
    ({"concurrency": "2"}, "concurrency is a whole number, got str '2'"),
    ({"overflow": "lastest"}, 'did you mean "latest"'),
    ({"overflow": 3}, "overflow is text, got int 3"),
    ({"overflow": "sample"}, "needs sample_interval="),
    ({"sample_interval": 1}, 'belongs to overflow="sample"'),
    ({"group": ""}, "a group has a name"),
    ({"group": 3}, "group is text, got int 3"),
    ({"group": "g", "broadcast": True}, "leave one of them out"),
    ({"broadcast": 1}, "broadcast is True or False, got 1"),
    ({"ack": "manul"}, 'did you mean "manual"'),
    ({"ack": True}, "ack is text, got bool True"),
    ({"ack": "manual", "fallback": handler}, "nothing to do"),
    ({"ack": "ack", "retry": 2}, "nothing to do"),
    ({"retry": 0}, "must be at least 1"),
    ({"retry": -1}, "a number of attempts or a dict, got -1"),
    ({"retry": {"max_attemts": 3}}, 'did you mean "max_attempts"'),
    ({"retry": {"initial_delay": -1}}, 'retry["initial_delay"]: a duration cannot be -1 s'),
    ({"retry": {"max_delay": "1"}}, 'retry["max_delay"]: a duration is a number of seconds'),
    ({"retry": {"max_attempts": 1.5}}, 'retry["max_attempts"] is a whole number, got float 1.5'),
    ({"retry": {"max_attempts": -1}}, 'retry["max_attempts"] is out of range, got int -1'),
    ({"retry": {"multiplier": "2"}}, "retry[\"multiplier\"] is a number, got str '2'"),
    ({"retry": {"jitter": 1}}, 'retry["jitter"] is text, got int 1'),
    ({"run_in": "lop"}, 'did you mean "loop"'),
    ({"timeout": 0}, "timeout must be above zero"),
    ({"timeout": float("nan")}, "a duration cannot be NaN s"),
    ({"name": ""}, "name='' cannot be told from others"),
    ({"name": "a\nb"}, "cannot be told from others"),
    ({"key": "symbol"}, "did you mean `payload.symbol`"),
    ({"where": "payload.price = 1"}, "use `==`"),
    ({"where": {"payload.price": [1]}}, "payload.price in"),
    ({"capcity": 3}, "has no option `capcity`; did you mean `capacity`"),
    ({"wibble": 3}, "has no option `wibble`; it takes ack, broadcast, capacity"),
]


@pytest.mark.parametrize(("options", "reason"), BAD, ids=lambda given: str(given)[:40])
@pytest.mark.parametrize("where", ["subscribe", "once", "component"])
def test_refused_at_once(where: str, options: dict[str, Any], reason: str) -> None:
    with EventBus() as bus:
        # In a component: where it stands, not when it starts.
        add = subscribe if where == "component" else getattr(bus, where)
        with pytest.raises((TypeError, ValueError, TiebeamError)) as refused:
            add("a.b", **options)(handler)
        assert reason in str(refused.value)
        assert bus.subscriptions == []
        assert bus.publish("a.b").accepted


@pytest.mark.parametrize(
    ("declare", "reason"),
    [
        (lambda bus: bus.respond("a", handler, retry=3), "respond has no option `retry`"),
        (lambda bus: bus.handle("a", handler, where={}), "handle has no option `where`"),
        (lambda bus: respond("a", ack="ack"), "@respond has no option `ack`"),
        (lambda bus: command("a", timout=3), "@command has no option `timout`; did you mean"),
        (lambda bus: respond("a", concurrency=0)(handler), "concurrency must be at least 1"),
        (lambda bus: bus.subscribe("a", None), "must be callable, got NoneType"),
        (lambda bus: bus.respond("a", None), "must be callable, got NoneType"),
        (lambda bus: bus.stream("a", capacity=-1), "capacity must be at least 1, got -1"),
        (lambda bus: bus.stream("a", name=""), "name='' cannot be told"),
        (lambda bus: bus.publish("a", version=0), "versions begin with 1"),
    ],
)
def test_refused_wherever_it_is_said(declare: Callable[[EventBus], Any], reason: str) -> None:
    with EventBus() as bus:
        with pytest.raises((TypeError, ValueError, TiebeamError)) as refused:
            declare(bus)
        assert reason in str(refused.value)
        assert bus.subscriptions == []
        assert bus.books().events == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"capacity": -1}, "capacity must be at least 1, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"handler_timeout": 0}, "handler_timeout must be above zero"),
        ({"request_timeout": 0.0}, "request_timeout must be above zero"),
        ({"name": " "}, "name=' ' cannot be told"),
        ({"name": 3}, "name is text, got int 3"),
        ({"middlware": []}, "EventBus has no option `middlware`; did you mean `middleware`"),
        ({"middleware": Middleware()}, "write middleware=[...]"),
        ({"upcasters": 3}, "upcasters is a tiebeam.Upcasters, got int"),
        ({"dedup": {"windw": 3}}, 'did you mean "window"'),
    ],
)
def test_what_a_bus_refuses(options: dict[str, Any], reason: str) -> None:
    with pytest.raises((TypeError, ValueError, TiebeamError)) as refused:
        EventBus(**options)
    assert reason in str(refused.value)


def test_what_depends_on_the_bus_is_asked_of_the_bus() -> None:
    class Durable(Component):
        @subscribe("a", start="first")
        def on_a(self, event: Any) -> None: ...

    with EventBus() as bus, pytest.raises(ValueError, match="needs a journal or a broker"):
        bus.subscribe("a", handler, start="first")


SAID: list[tuple[dict[str, Any], str]] = [
    ({"key": 3}, "key is text, got int 3"),
    ({"key": "\ud800"}, "key is text with a lone surrogate"),
    ({"priority": 3}, "priority is text, got int 3"),
    ({"priority": "hig"}, 'did you mean "high"'),
    ({"correlation_id": 3}, "correlation_id is text, got int 3"),
    ({"correlation_id": ""}, "correlation_id is empty; give what identifies the chain"),
    ({"correlation_id": "a\nb"}, "correlation_id has a control character"),
    ({"correlation_id": "x" * 257}, "correlation_id has 257 bytes, the limit is 256"),
    ({"event_id": b"x"}, "event_id is text, got bytes b'x'"),
    ({"event_id": ""}, "event_id is empty; give what identifies the event"),
    ({"version": "1"}, "version is a whole number, got str '1'"),
    ({"version": True}, "version is a whole number, got bool True"),
    ({"version": -1}, "version is out of range, got int -1"),
    ({"metadata": []}, "metadata is a dict, got list []"),
    ({"metadata": list(range(99))}, "metadata is a dict, got list"),
]

DURATION = "a duration is a number of seconds or a timedelta, got str"


@pytest.mark.parametrize(("said", "reason"), SAID, ids=lambda given: str(given)[:40])
@pytest.mark.parametrize("method", ["publish", "send", "request"])
def test_what_is_said_of_an_event_is_refused_by_its_name(
    method: str, said: dict[str, Any], reason: str
) -> None:
    with EventBus() as bus:
        bus.respond("a", lambda event: None, run_in="inline")
        with pytest.raises((TypeError, ValueError)) as refused:
            getattr(bus, method)("a", {}, **said)
        assert reason in str(refused.value)
        assert bus.books().events == 0


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda bus: bus.publish("a", deadline="2"), f"deadline: {DURATION}"),
        (lambda bus: bus.publish("a", delay=-1), "delay: a duration cannot be -1 s"),
        (lambda bus: bus.send("a", deadline="2"), f"deadline: {DURATION}"),
        (lambda bus: bus.request("a", timeout="2"), f"timeout: {DURATION}"),
        (lambda bus: bus.request("a", n=1.5), "n is a whole number, got float 1.5"),
        (lambda bus: bus.request("a", n=2, quorum="1"), "quorum is a whole number, got str '1'"),
        (lambda bus: bus.every("2", "a"), f"seconds: {DURATION}"),
        (lambda bus: bus.subscribe("a", handler, timeout="2"), f"timeout: {DURATION}"),
        (lambda bus: bus.respond("a", handler, timeout="2"), f"timeout: {DURATION}"),
        (lambda bus: bus.subscribe("a", handler, key="\ud800"), "key is text with a lone"),
        (lambda bus: bus.subscribe("a", handler, capacity=2**65), "capacity is out of range"),
        (lambda bus: bus.wait_for("a", timeout="2"), f"timeout: {DURATION}"),
        (lambda bus: bus.drain_sync("2"), f"timeout: {DURATION}"),
        (lambda bus: bus.close_sync("2"), f"grace: {DURATION}"),
        (lambda bus: EventBus(handler_timeout="2"), f"handler_timeout: {DURATION}"),  # type: ignore[arg-type]
        (lambda bus: EventBus(request_timeout="2"), f"request_timeout: {DURATION}"),  # type: ignore[arg-type]
        (lambda bus: EventBus(seed="2"), "seed is a whole number, got str '2'"),  # type: ignore[arg-type]
    ],
)
def test_numbers_are_refused_by_their_names(call: Callable[[EventBus], Any], reason: str) -> None:
    with EventBus() as bus:
        with pytest.raises((TypeError, ValueError)) as refused:
            call(bus)
        assert reason in str(refused.value)
        assert bus.subscriptions == []
        assert bus.books().events == 0


def test_a_wait_refuses_its_timeout_by_its_name(bus: EventBus) -> None:
    bus.respond("a", lambda event: "served")
    reply = bus.request("a")
    for wait in (bus.publish("b").wait, reply.wait):
        with pytest.raises(TypeError, match=f"timeout: {DURATION}"):
            wait("2")  # type: ignore[operator]
    assert reply.wait(GUARD) == "served"  # it was not asked for before


def test_options_are_known_in_one_place() -> None:
    def given(event: Any) -> None: ...

    values: dict[str, Any] = {
        "name": "x",
        "where": {"payload.n": 1},
        "key": "payload.n",
        "concurrency": 2,
        "capacity": 3,
        "overflow": "sample",
        "sample_interval": 1,
        "group": "g",
        "broadcast": False,
        "start": "now",
        "ack": "nack_on_error",
        "retry": 2,
        "fallback": given,
        "run_in": "thread",
        "timeout": 1,
    }
    assert values.keys() == SubscribeOptions.__annotations__.keys()
    with EventBus() as bus:
        bus.subscribe("a", handler, **values)
        bus.subscribe("a", handler, **dict.fromkeys(values))  # as if left out
        with pytest.raises(TypeError, match="there is no option `capcity`"):
            bus._subscribe("a", handler, capcity=3)
