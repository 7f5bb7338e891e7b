"""T8: somebody empties the server."""

from __future__ import annotations

import json
import time
from typing import Any

from faults.report import Result
from faults.runs.plan import Plan, Scale
from faults.site import Site

RESUME = 2.0


def carry_out(site: Site, scale: Scale, result: Result) -> Result:
    """Empty it at random moments, and know what was in it that nobody had been given yet."""
    for name in ("c0", "c1"):
        site.consumer(name, work=0.01, how={"group": "g", "concurrency": 4})
    # Faster than they are: something waits in the stream whenever it is emptied.
    producer = site.producer(rate=1_200.0)
    site.await_count("done", 200)
    site.note_base()
    flushed: set[str] = set()
    moments = []
    for _ in range(scale.faults):
        time.sleep(site.rng.uniform(0.3, 1.2))  # the random moment
        flushed |= _flush(site)
        moments.append(time.monotonic())
        before = site.count("done")
        # At work is what was given out before; then comes what is new.
        site.await_count("done", before + 300)
    producer.ask()
    for consumer in site.consumers:
        consumer.ask()
    site.settle(but=flushed)
    found = site.findings()
    result.take(found, may=("lost", "disorder"))
    lost = set(found.lost)
    result.add("flushes", len(moments))
    result.add("flushed_not_given_out", len(flushed))
    result.need(bool(flushed), "nothing waited when the server was emptied: this shows nothing")
    result.need(not lost - flushed, f"lost, and not flushed: {sorted(lost - flushed)[:5]}")
    result.need(not flushed - lost, f"flushed, and yet handled: {sorted(flushed - lost)[:5]}")
    result.add("resume_s", max(_resumed(site, moments)), most=RESUME)
    resets = site.told("system.stream_reset")
    result.add("stream_reset_told", len(resets))
    # Two consumers, both of which find their group gone, or one who finds it made again.
    result.need(len(resets) >= len(moments), "not every flush was told of")
    site.conclude(result)
    return result


def _flush(site: Site) -> set[str]:
    """Empty the server; the acknowledged events in it that the group had not been given."""
    client = site.client()
    steps = client.pipeline(transaction=True)
    steps.xrange(site.stream)
    steps.xinfo_groups(site.stream)
    steps.flushall()
    entries: Any
    groups: Any
    entries, groups, _ = steps.execute()
    last = next(_place(group["last-delivered-id"]) for group in groups if group["name"] == "g")
    return {
        json.loads(fields["data"])["event_id"] for entry, fields in entries if _place(entry) > last
    }


def _resumed(site: Site, moments: list[float]) -> list[float]:
    """How long after each moment the first event was begun that was published after it."""
    offered = {e.event_id: e.at for ledger in site.offers() for e in ledger if e.word == "offered"}
    calls = sorted(
        (entry.at, offered.get(entry.event_id, 0.0))
        for ledger in site.calls().values()
        for entry in ledger
        if entry.word == "begin"
    )
    first = []
    for moment in moments:
        later = [at for at, published in calls if at > moment and published > moment]
        first.append(later[0] - moment if later else float("inf"))
    return first


def _place(entry: str) -> tuple[int, int]:
    ms, _, number = entry.partition("-")
    return int(ms), int(number)


FLUSH = Plan(
    "T8",
    "the server is emptied",
    quick=Scale(events=0, faults=3),
    full=Scale(events=0, faults=10, rounds=5),
    carry_out=carry_out,
)
