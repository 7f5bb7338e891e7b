"""Ways to have sync handlers called before publish returns, for one of them or many."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from tiebeam import EventBus

from harness.contender import Contender, Run
from harness.envelope import PAYLOAD, TYPE, envelope
from harness.tally import Tally

PLAIN = "a plain loop over handlers"
NAUTILUS = "nautilus_trader MessageBus"
OURS = "tiebeam, run_in='inline'"

Handler = Callable[[dict[str, Any]], None]


def inline(subscribers: int) -> list[Contender]:
    """All of them, each with so many handlers; tiebeam comes first."""

    def contender(name: str, make: Callable[..., Any], needs: str | None = None) -> Contender:
        return Contender(name, partial(make, subscribers), needs)

    return [
        contender(OURS, tiebeam),
        contender(PLAIN, plain),
        contender(NAUTILUS, nautilus, "nautilus_trader"),
        contender("nautilus_trader, a copy for each handler", nautilus_copying, "nautilus_trader"),
        contender("pyee", pyee, "pyee"),
        contender("psygnal", psygnal, "psygnal"),
        contender("blinker", blinker, "blinker"),
    ]


def tiebeam(subscribers: int, tally: Tally) -> Generator[Run, None, None]:
    bus = EventBus("bench")
    for number in range(subscribers):
        bus.subscribe(TYPE, tally.event_handler(), name=f"handler_{number}", run_in="inline")

    def run(events: int) -> None:
        publish = bus.publish
        for _ in range(events):
            publish(TYPE, PAYLOAD)

    yield run
    bus.close_sync(0)


def plain(subscribers: int, tally: Tally) -> Generator[Run, None, None]:
    handlers = {TYPE: [tally.handler() for _ in range(subscribers)]}

    def run(events: int) -> None:
        for _ in range(events):
            event = envelope(TYPE, PAYLOAD)
            for handler in handlers[TYPE]:
                handler(event)

    yield run


def nautilus(
    subscribers: int, tally: Tally, given: Callable[[Handler], Handler] = lambda handler: handler
) -> Generator[Run, None, None]:
    from peers.nautilus import message_bus

    bus = message_bus()
    for _ in range(subscribers):
        bus.subscribe(TYPE, given(tally.handler()))

    def run(events: int) -> None:
        publish = bus.publish
        for _ in range(events):
            publish(TYPE, envelope(TYPE, PAYLOAD))

    yield run
    bus.dispose()


def nautilus_copying(subscribers: int, tally: Tally) -> Generator[Run, None, None]:
    """What it takes there that no handler sees what another one does to the event."""

    def private(handler: Handler) -> Handler:
        def handle(event: dict[str, Any]) -> None:
            handler({**event, "payload": event["payload"].copy()})

        return handle

    return nautilus(subscribers, tally, private)


def pyee(subscribers: int, tally: Tally) -> Generator[Run, None, None]:
    from pyee.base import EventEmitter

    emitter = EventEmitter()
    for _ in range(subscribers):
        emitter.on(TYPE, tally.handler())

    def run(events: int) -> None:
        emit = emitter.emit
        for _ in range(events):
            emit(TYPE, envelope(TYPE, PAYLOAD))

    yield run


def psygnal(subscribers: int, tally: Tally) -> Generator[Run, None, None]:
    from psygnal import SignalInstance

    signal = SignalInstance((object,))
    for _ in range(subscribers):
        signal.connect(tally.handler())

    def run(events: int) -> None:
        emit = signal.emit
        for _ in range(events):
            emit(envelope(TYPE, PAYLOAD))

    yield run


def blinker(subscribers: int, tally: Tally) -> Generator[Run, None, None]:
    from blinker import Signal

    signal = Signal()
    handlers = [tally.handler() for _ in range(subscribers)]  # kept: blinker does not
    for handler in handlers:
        signal.connect(handler)

    def run(events: int) -> None:
        send = signal.send
        for _ in range(events):
            send(envelope(TYPE, PAYLOAD))

    yield run
    handlers.clear()
