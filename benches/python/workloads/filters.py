"""Events that nobody takes, because a filter on the payload rejects them all.

With one subscription a figure is mostly that of publishing; with a hundred, of rejecting.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from tiebeam import EventBus

from harness.contender import Contenders, Run
from harness.envelope import PAYLOAD, TYPE, envelope
from harness.goal import at_least
from harness.race import race
from harness.settings import Settings
from harness.tally import Miscount, Tally
from workloads import Outcome

ONE = "a filter rejects every event"
MANY = "100 filters reject every event"
OTHER = "ETHUSDT"
SUBSCRIBERS = 100


def measure(settings: Settings) -> Outcome:
    one = race(ONE, _contenders(1), settings)
    many = race(
        MANY, _contenders(SUBSCRIBERS), settings, fan_out=SUBSCRIBERS, unit="ns per rejection"
    )
    ours = many.rows[0]
    millions = 1_000 / ours.median if ours.values else None
    return Outcome(
        [one, many], [at_least(MANY, 5, "million rejections a second and core", millions)]
    )


def _contenders(subscribers: int) -> Contenders:
    contenders = Contenders()
    contenders.add("tiebeam, where={...}")(
        partial(_tiebeam, subscribers, {"payload.symbol": OTHER})
    )
    contenders.add("tiebeam, where='... and ...'")(
        partial(_tiebeam, subscribers, f"payload.price > 0 and payload.symbol in ['{OTHER}']")
    )
    contenders.add("a predicate in Python")(partial(_loop, subscribers))
    return contenders


def _tiebeam(subscribers: int, where: Any, _tally: Tally) -> Generator[Run, None, None]:
    taken: list[object] = []
    bus = EventBus("bench")
    for number in range(subscribers):
        bus.subscribe(TYPE, taken.append, name=f"s{number}", where=where, run_in="inline")
    published = 0

    def run(events: int) -> None:
        nonlocal published
        publish = bus.publish
        for _ in range(events):
            publish(TYPE, PAYLOAD)
        published += events

    yield run
    books = bus.books()
    filtered = [books[f"s{number}"].filtered for number in range(subscribers)]
    if taken or filtered != [published] * subscribers:
        raise Miscount(f"tiebeam: {len(taken)} taken, {filtered} filtered, not {published}")
    bus.close_sync(0)


def _loop(subscribers: int, _tally: Tally) -> Generator[Run, None, None]:
    taken: list[object] = []

    def predicate() -> Callable[[dict[str, Any]], bool]:
        def wants(event: dict[str, Any]) -> bool:
            return bool(event["payload"]["symbol"] == OTHER)

        return wants

    handlers = [(predicate(), taken.append) for _ in range(subscribers)]
    published = 0

    def run(events: int) -> None:
        nonlocal published
        for _ in range(events):
            event = envelope(TYPE, PAYLOAD)
            for wants, handler in handlers:
                if wants(event):
                    handler(event)
        published += events

    yield run
    if taken:
        raise Miscount(f"{len(taken)} of {published} events were taken; all are to be rejected")
