"""Bad options are refused at once, with the reason, and nothing is registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tiebeam import Component, EventBus, Middleware, TiebeamError, command, respond, subscribe


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
    ({"retry": {"initial_delay": -1}}, "a duration cannot be -1 s"),
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
