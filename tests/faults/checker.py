"""What the ledgers of a run say when they are laid beside each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from faults.ledger import Entry

OUTCOMES = ("acked", "failed", "unknown")


@dataclass
class Findings:
    """What became of the events of a run."""

    offered: int = 0
    acked: int = 0
    failed: int = 0
    unknown: int = 0
    handled: int = 0
    """Events, not calls of a handler."""
    dead: int = 0
    pending: int = 0
    """The broker has them yet for whoever handles them, given out or not."""
    unexplained: list[str] = field(default_factory=list)
    """Offered, and nobody knows more of them; or the other way round; or with two outcomes."""
    lost: list[str] = field(default_factory=list)
    """Acknowledged, neither handled nor dead."""
    denied: list[str] = field(default_factory=list)
    """Their publisher was told that they were refused, and they were handled."""
    doubled: list[str] = field(default_factory=list)
    """Handled to the end more than once: once for each time beyond the first."""
    concurrent: list[str] = field(default_factory=list)
    """Handled by two at the same time."""
    disorder: list[str] = field(default_factory=list)
    """Handled for the first time behind a later event of their key."""


def check(
    producers: Iterable[Sequence[Entry]],
    consumers: Mapping[str, Sequence[Entry]],
    dead: Iterable[str] = (),
    pending: int = 0,
) -> Findings:
    """Lay the ledgers of producers beside those of consumers, the ids of dead letters, and how much
    the broker waits for yet."""
    found = Findings(pending=pending)
    offered: Counter[str] = Counter()
    outcomes: defaultdict[str, list[str]] = defaultdict(list)
    for ledger in producers:
        for entry in ledger:
            if entry.word == "offered":
                offered[entry.event_id] += 1
            elif entry.word in OUTCOMES:
                outcomes[entry.event_id].append(entry.word)
    found.offered = offered.total()
    for outcome in OUTCOMES:
        count = sum(told.count(outcome) for told in outcomes.values())
        setattr(found, outcome, count)
    found.unexplained = [
        event
        for event in {**offered, **outcomes}
        if offered[event] != 1 or len(outcomes[event]) != 1
    ]
    done = Counter(
        entry.event_id for ledger in consumers.values() for entry in ledger if entry.word == "done"
    )
    buried = set(dead)
    found.handled, found.dead = len(done), len(buried)
    for event, told in outcomes.items():
        if "acked" in told and event not in done and event not in buried:
            found.lost.append(event)
        if "failed" in told and event in done:
            found.denied.append(event)
    # What nobody offered cannot have been handled, either.
    found.unexplained += [event for event in done if event not in offered]
    found.doubled = [event for event, times in done.items() for _ in range(times - 1)]
    found.concurrent = _concurrent(consumers)
    found.disorder = _disorder(consumers)
    return found


def _concurrent(consumers: Mapping[str, Sequence[Entry]]) -> list[str]:
    """Whose times of work overlap: one that never ended lasts as long as its process."""
    spans: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for ledger in consumers.values():
        last = max((entry.at for entry in ledger), default=0.0)
        begun: dict[str, float] = {}
        for entry in ledger:
            if entry.word == "begin":
                if entry.event_id in begun:
                    spans[entry.event_id].append((begun[entry.event_id], entry.at))
                begun[entry.event_id] = entry.at
            elif entry.word == "done" and entry.event_id in begun:
                spans[entry.event_id].append((begun.pop(entry.event_id), entry.at))
        for event, at in begun.items():
            spans[event].append((at, last))
    overlapping = []
    for event, times in spans.items():
        times.sort()
        if any(later[0] < earlier[1] for earlier, later in pairwise(times)):
            overlapping.append(event)
    return overlapping


def _disorder(consumers: Mapping[str, Sequence[Entry]]) -> list[str]:
    """First calls of all consumers in the order of time: within a key they must rise."""
    calls = sorted(
        (entry for ledger in consumers.values() for entry in ledger if entry.word == "begin"),
        key=lambda entry: entry.at,
    )
    last: dict[str, int] = {}
    seen: set[str] = set()
    late = []
    for call in calls:
        if call.event_id in seen:
            continue
        seen.add(call.event_id)
        if call.seq < last.get(call.key, -1):
            late.append(call.event_id)
        last[call.key] = max(call.seq, last.get(call.key, -1))
    return late


def recoveries(producers: Iterable[Sequence[Entry]], up: Iterable[float]) -> list[float]:
    """From each time at which the broker was there again to the first event it took."""
    taken = sorted(entry.at for ledger in producers for entry in ledger if entry.word == "acked")
    found = []
    for at in up:
        later = [when for when in taken if when > at]
        found.append(later[0] - at if later else float("inf"))
    return found


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which ``part`` of them lie; 0 of none."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(part * len(ranked)))] if ranked else 0.0
