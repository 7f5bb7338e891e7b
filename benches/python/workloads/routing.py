"""As many patterns as types, one match per event; then types that nobody has published before."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from functools import partial

from tiebeam import EventBus

from harness.contender import Contenders, Run
from harness.envelope import PAYLOAD, envelope
from harness.goal import at_most, times
from harness.race import race
from harness.settings import Settings
from harness.tally import Tally
from peers.trie import Trie
from workloads import Outcome

MANY, MORE = 1_000, 10_000
TRIE = "a trie and a cache, in Python"


def measure(settings: Settings) -> Outcome:
    known = {
        patterns: race(
            f"{patterns:,} patterns, {patterns:,} types, inline",
            _known(patterns),
            settings,
            handlers_share=patterns,
        )
        for patterns in (min(MANY, settings.events // 2), min(MORE, settings.events))
    }
    patterns = min(MANY, settings.events)
    title = f"first publish of a new type, {patterns:,} patterns"
    fresh = race(title, _fresh(patterns), settings, handlers_share=patterns)
    first = fresh.rows[0]
    return Outcome(
        [*known.values(), fresh],
        [
            *(times(table, TRIE, 1.5) for table in known.values()),
            at_most(title, 5_000, "ns", first.median if first.values else None),
        ],
    )


def _known(patterns: int) -> Contenders:
    """Every type was published in an earlier round."""
    types = [f"market_data.s{number}.trade" for number in range(patterns)]
    nautilus = 1.0 if patterns <= MANY else None  # new types cost it too much, as seen below
    return _contenders(patterns, lambda: itertools.cycle(types), nautilus)


def _fresh(patterns: int) -> Contenders:
    """No type comes twice."""

    def types() -> Iterator[str]:
        for turn in itertools.count():
            for number in range(patterns):
                yield f"market_data.s{number}.t{turn}"

    return _contenders(patterns, types, 0.05)


def _contenders(
    patterns: int, types: Callable[[], Iterator[str]], nautilus_share: float | None
) -> Contenders:
    contenders = Contenders()
    wanted = [f"market_data.s{number}.*" for number in range(patterns)]
    contenders.add("tiebeam, run_in='inline'")(partial(_tiebeam, wanted, types()))
    contenders.add(TRIE)(partial(_trie, wanted, types()))
    if nautilus_share is not None:
        how = {"needs": "nautilus_trader", "share": nautilus_share}
        contenders.add("nautilus_trader MessageBus", **how)(partial(_nautilus, wanted, types()))
    return contenders


def _tiebeam(wanted: list[str], types: Iterator[str], tally: Tally) -> Generator[Run, None, None]:
    bus = EventBus("bench")
    for pattern in wanted:
        bus.subscribe(pattern, tally.event_handler(), name=pattern, run_in="inline")

    def run(events: int) -> None:
        publish = bus.publish
        for event_type in itertools.islice(types, events):
            publish(event_type, PAYLOAD)

    yield run
    bus.close_sync(0)


def _trie(wanted: list[str], types: Iterator[str], tally: Tally) -> Generator[Run, None, None]:
    trie = Trie()
    for pattern in wanted:
        trie.insert(pattern, tally.handler())

    def run(events: int) -> None:
        cache = trie.cache
        for event_type in itertools.islice(types, events):
            event = envelope(event_type, PAYLOAD)
            handlers = cache.get(event_type)
            if handlers is None:
                handlers = trie.find(event_type)
            for handler in handlers:
                handler(event)

    yield run


def _nautilus(wanted: list[str], types: Iterator[str], tally: Tally) -> Generator[Run, None, None]:
    from peers.nautilus import message_bus

    bus = message_bus()
    for pattern in wanted:
        bus.subscribe(pattern, tally.handler())

    def run(events: int) -> None:
        publish = bus.publish
        for event_type in itertools.islice(types, events):
            publish(event_type, envelope(event_type, PAYLOAD))

    yield run
    bus.dispose()
