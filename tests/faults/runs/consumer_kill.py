"""T3: consumers are killed in the middle of their work."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from faults.checker import percentile
from faults.processes import Spawned
from faults.report import Result
from faults.runs.plan import Plan, Scale
from faults.site import Site

CLAIM_IDLE = 1.0
CONCURRENCY = 4
WORK = 0.02
HOW = {"group": "g", "concurrency": CONCURRENCY}


def carry_out(site: Site, scale: Scale, result: Result) -> Result:
    """Four consumers; each second the next one is killed, and comes again under a new name."""
    plan: dict[str, Any] = {"work": WORK, "how": HOW, "options": {"claim_idle": CLAIM_IDLE}}
    team = [site.consumer(f"c{number}", **plan) for number in range(4)]
    # There is work to the end, and half of them could do it: what is left behind waits for nothing
    # but to be taken over.
    rate = scale.events / scale.faults
    site.producer(count=scale.events, rate=rate, keys=200)
    site.await_count("done", 100)
    site.note_base()
    left: list[Left] = []
    for number in range(scale.faults):
        due = time.monotonic() + 1.0
        victim = number % len(team)
        at = team[victim].kill()
        left.append(_left_by(site, team[victim], at))
        team[victim] = site.consumer(f"c{number + 4}", wait=False, **plan)
        time.sleep(max(0.0, due - time.monotonic()))  # the schedule: one each second
    for member in team:
        member.await_word("ready")
    for consumer in team:
        consumer.ask()
    site.settle()
    found = site.findings()
    # Killed between its last line and its acknowledgement, a consumer leaves a handled event that
    # is given out again: nobody can know better. Of those who lived, nothing comes twice.
    result.take(found, may=("doubled", "disorder"))
    result.add("kills", scale.faults)
    result.add("doubled", len(found.doubled), most=scale.faults * CONCURRENCY * 2)
    result.need(not _doubled_by_the_living(site), "handled twice by those who were not killed")
    waits = _waits(site, left)
    result.add("left_behind", sum(len(one.open) for one in left))
    result.need(bool(waits), "nobody was killed in the middle of anything: this shows nothing")
    result.add("redelivery_s", percentile(waits, 0.99), most=CLAIM_IDLE + 1.0)
    site.conclude(result)
    return result


@dataclass(frozen=True)
class Left:
    """What somebody had when he was killed."""

    at: float
    open: list[str]
    """What he has not said to be handled."""
    given: set[str]
    """All that he was given, and had not acknowledged."""


def _left_by(site: Site, victim: Spawned, at: float) -> Left:
    """The events that were given to it, and of which it has not said that they are handled."""
    client = site.client()
    calls = victim.reading.refresh()
    done = {entry.event_id for entry in calls if entry.word == "done"}
    begun = {entry.event_id for entry in calls if entry.word == "begin"} - done
    rows: Any = client.xpending_range(site.stream, "g", "-", "+", 10_000)
    owner: dict[str, str] = {row["message_id"]: row["consumer"] for row in rows}
    if not owner or not begun:
        return Left(at, sorted(begun), begun)
    entries: Any = client.xrange(site.stream, min(owner, key=_place), max(owner, key=_place))
    ids = {entry: json.loads(fields["data"])["event_id"] for entry, fields in entries}
    his = {owner[entry] for entry, event in ids.items() if entry in owner and event in begun}
    given = {event for entry, event in ids.items() if owner.get(entry) in his and len(his) == 1}
    return Left(at, sorted(given - done), given)


def _place(entry: str) -> tuple[int, int]:
    ms, _, number = entry.partition("-")
    return int(ms), int(number)


def _waits(site: Site, left: list[Left]) -> list[float]:
    """How long after each kill its events were begun elsewhere.

    Where whoever was given one next was killed before he began with it, it counts from his end.
    """
    begun: dict[str, list[float]] = {}
    for calls in site.calls().values():
        for entry in calls:
            if entry.word == "begin":
                begun.setdefault(entry.event_id, []).append(entry.at)
    waits = []
    for one in left:
        for event in one.open:
            later = min((when for when in begun.get(event, []) if when > one.at), default=None)
            if later is not None:
                ends = [o.at for o in left if one.at <= o.at < later and event in o.given]
                waits.append(later - max(ends, default=one.at))
    return waits


def _doubled_by_the_living(site: Site) -> list[str]:
    """Handled by one who lived on, and by another after him."""
    killed = {spawned.plan.name for spawned in site.consumers if spawned.killed_at is not None}
    ends: dict[str, list[tuple[float, str]]] = {}
    for name, calls in site.calls().items():
        for entry in calls:
            if entry.word == "done":
                ends.setdefault(entry.event_id, []).append((entry.at, name))
    return [
        event
        for event, times in ends.items()
        if any(name not in killed for _, name in sorted(times)[:-1])
    ]


CONSUMER_KILL = Plan(
    "T3",
    "consumers are killed in the middle of their work",
    quick=Scale(events=4_000, faults=10),
    full=Scale(events=40_000, faults=100, rounds=3),
    carry_out=carry_out,
)
