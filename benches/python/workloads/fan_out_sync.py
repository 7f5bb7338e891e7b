"""One event to a hundred sync handlers, which run before publish returns."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from tiebeam import EventBus

from harness.contender import Contenders, Run
from harness.envelope import PAYLOAD, TYPE, envelope
from harness.goal import times
from harness.race import race
from harness.settings import Settings
from harness.tally import Tally
from workloads import Outcome

TITLE = "fan-out to 100 sync handlers, inline"
NAUTILUS = "nautilus_trader MessageBus"
SUBSCRIBERS = 100
UNIT = "ns per delivery"

contenders = Contenders()


def measure(settings: Settings) -> Outcome:
    how = {"fan_out": SUBSCRIBERS, "unit": UNIT}
    counts = race(TITLE, contenders, settings, **how)
    reads = race(f"{TITLE}, handlers read", contenders, settings, reads=True, **how)
    return Outcome([counts, reads], [times(counts, NAUTILUS, 2.0)])


@contenders.add("tiebeam, run_in='inline'")
def tiebeam(tally: Tally) -> Generator[Run, None, None]:
    bus = EventBus("bench")
    for number in range(SUBSCRIBERS):
        bus.subscribe(TYPE, tally.event_handler(), name=f"handler_{number}", run_in="inline")

    def run(events: int) -> None:
        publish = bus.publish
        for _ in range(events):
            publish(TYPE, PAYLOAD)

    yield run
    bus.close_sync(0)


@contenders.add("a plain loop over handlers")
def plain(tally: Tally) -> Generator[Run, None, None]:
    handlers = {TYPE: [tally.handler() for _ in range(SUBSCRIBERS)]}

    def run(events: int) -> None:
        for _ in range(events):
            event = envelope(TYPE, PAYLOAD)
            for handler in handlers[TYPE]:
                handler(event)

    yield run


@contenders.add(NAUTILUS, needs="nautilus_trader")
def nautilus(tally: Tally) -> Generator[Run, None, None]:
    from peers.nautilus import message_bus

    bus = message_bus()
    for _ in range(SUBSCRIBERS):
        bus.subscribe(TYPE, tally.handler())

    def run(events: int) -> None:
        publish = bus.publish
        for _ in range(events):
            publish(TYPE, envelope(TYPE, PAYLOAD))

    yield run
    bus.dispose()


@contenders.add("nautilus_trader, a copy for each handler", needs="nautilus_trader")
def nautilus_copying(tally: Tally) -> Generator[Run, None, None]:
    """What it takes there that no handler sees what another one does to the event."""
    from peers.nautilus import message_bus

    def private(handler: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
        def handle(event: dict[str, Any]) -> None:
            handler({**event, "payload": event["payload"].copy()})

        return handle

    bus = message_bus()
    for _ in range(SUBSCRIBERS):
        bus.subscribe(TYPE, private(tally.handler()))

    def run(events: int) -> None:
        publish = bus.publish
        for _ in range(events):
            publish(TYPE, envelope(TYPE, PAYLOAD))

    yield run
    bus.dispose()


@contenders.add("pyee", needs="pyee")
def pyee(tally: Tally) -> Generator[Run, None, None]:
    from pyee.base import EventEmitter

    emitter = EventEmitter()
    for _ in range(SUBSCRIBERS):
        emitter.on(TYPE, tally.handler())

    def run(events: int) -> None:
        emit = emitter.emit
        for _ in range(events):
            emit(TYPE, envelope(TYPE, PAYLOAD))

    yield run


@contenders.add("psygnal", needs="psygnal")
def psygnal(tally: Tally) -> Generator[Run, None, None]:
    from psygnal import SignalInstance

    signal = SignalInstance((object,))
    for _ in range(SUBSCRIBERS):
        signal.connect(tally.handler())

    def run(events: int) -> None:
        emit = signal.emit
        for _ in range(events):
            emit(envelope(TYPE, PAYLOAD))

    yield run
