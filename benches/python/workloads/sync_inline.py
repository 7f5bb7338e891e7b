"""Publish to one sync handler that runs before publish returns."""

from __future__ import annotations

from collections.abc import Generator

from tiebeam import EventBus

from harness.contender import Contenders, Run
from harness.envelope import PAYLOAD, TYPE, envelope
from harness.goal import times
from harness.race import race
from harness.settings import Settings
from harness.tally import Tally
from workloads import Outcome

TITLE = "publish to one sync handler, inline"
PLAIN = "a plain loop over handlers"

contenders = Contenders()


def measure(settings: Settings) -> Outcome:
    counts = race(TITLE, contenders, settings)
    reads = race(f"{TITLE}, handler reads", contenders, settings, reads=True)
    return Outcome([counts, reads], [times(counts, PLAIN, 2.0)])


@contenders.add("tiebeam, run_in='inline'")
def tiebeam(tally: Tally) -> Generator[Run, None, None]:
    bus = EventBus("bench")
    bus.subscribe(TYPE, tally.event_handler(), run_in="inline")

    def run(events: int) -> None:
        publish = bus.publish
        for _ in range(events):
            publish(TYPE, PAYLOAD)

    yield run
    bus.close_sync(0)


@contenders.add(PLAIN)
def plain(tally: Tally) -> Generator[Run, None, None]:
    handlers = {TYPE: [tally.handler()]}

    def run(events: int) -> None:
        for _ in range(events):
            event = envelope(TYPE, PAYLOAD)
            for handler in handlers[TYPE]:
                handler(event)

    yield run


@contenders.add("psygnal", needs="psygnal")
def psygnal(tally: Tally) -> Generator[Run, None, None]:
    from psygnal import SignalInstance

    signal = SignalInstance((object,))
    signal.connect(tally.handler())

    def run(events: int) -> None:
        emit = signal.emit
        for _ in range(events):
            emit(envelope(TYPE, PAYLOAD))

    yield run


@contenders.add("pyee", needs="pyee")
def pyee(tally: Tally) -> Generator[Run, None, None]:
    from pyee.base import EventEmitter

    emitter = EventEmitter()
    emitter.on(TYPE, tally.handler())

    def run(events: int) -> None:
        emit = emitter.emit
        for _ in range(events):
            emit(TYPE, envelope(TYPE, PAYLOAD))

    yield run


@contenders.add("nautilus_trader MessageBus", needs="nautilus_trader")
def nautilus(tally: Tally) -> Generator[Run, None, None]:
    from peers.nautilus import message_bus

    bus = message_bus()
    bus.subscribe(TYPE, tally.handler())

    def run(events: int) -> None:
        publish = bus.publish
        for _ in range(events):
            publish(TYPE, envelope(TYPE, PAYLOAD))

    yield run
    bus.dispose()


@contenders.add("blinker", needs="blinker")
def blinker(tally: Tally) -> Generator[Run, None, None]:
    from blinker import Signal

    signal = Signal()
    handler = tally.handler()  # blinker itself keeps a weak reference
    signal.connect(handler)

    def run(events: int) -> None:
        send = signal.send
        for _ in range(events):
            send(envelope(TYPE, PAYLOAD))

    yield run
