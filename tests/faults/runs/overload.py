"""T9: producers are ten times as fast as consumers, with each policy for what has no room."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from faults.report import Result
from faults.runs.plan import Plan, Scale
from faults.site import MIB, Site

MAILBOXES = ("block", "drop_oldest", "drop_newest", "latest", "sample")
OUTBOXES = ("block", "fail", "drop_oldest")
BOUND_MIB = 64.0
"""What a process may grow by: all that its bounds allow, and then some."""


def carry_out(site: Site, scale: Scale, result: Result) -> Result:
    """Each policy on names of its own, one after the other."""
    for policy in MAILBOXES:
        _mailbox(_Part(site, f"mailbox_{policy}"), policy, scale, result)
    for policy in OUTBOXES:
        _outbox(_Part(site, f"outbox_{policy}"), policy, scale, result)
    return result


class _Part(Site):
    """A part of the same server."""

    def __init__(self, whole: Site, name: str) -> None:
        self.folder = Path(whole.folder) / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rng, self.server, self.url = whole.rng, whole.server, whole.url
        self.prefix = name
        self.stream = f"{{{name}:orders:0}}"
        self.producers, self.consumers, self._bases = [], [], {}

    def __exit__(self, *_: object) -> None:
        for spawned in (*self.producers, *self.consumers):
            spawned.abandon()


def _mailbox(site: _Part, policy: str, scale: Scale, result: Result) -> None:
    """A slow handler, and a mailbox that is soon full."""
    how: dict[str, Any] = {"group": "g", "capacity": 50, "overflow": policy}
    if policy == "sample":
        how["sample_interval"] = 0.05
    with site:
        consumer = site.consumer(work=0.005, how=how)
        producer = site.producer(count=scale.events, rate=2_000.0, options={"batch_size": 20})
        site.await_count("done", 10)
        highest, base = _watch(consumer, producer, 300.0)
        consumer.ask()
        # What was dropped never comes: all there is has been read when nothing is pending.
        site.settle_read()
        books = site.books()[0]
        found = site.findings()
        lossy = policy != "block"
        problems = Result.of("", 0, found, may=("lost", "disorder") if lossy else ()).problems
        for problem in problems:
            result.need(False, f"{site.prefix}: {problem}")
        gone = books["dropped"] + books["conflated"]
        result.add(f"{site.prefix}_acked", found.acked)
        result.add(f"{site.prefix}_handled", found.handled)
        result.add(f"{site.prefix}_gone", gone)
        result.need(
            found.acked == found.handled + gone,
            f"{site.prefix}: {found.acked} acked, {found.handled} handled, {gone} gone",
        )
        result.need(books["balanced"], f"{site.prefix}: books that do not balance: {books}")
        result.need(bool(gone) == lossy, f"{site.prefix}: {gone} gone")
        result.add(f"{site.prefix}_rss_mib", highest - base, most=BOUND_MIB)


def _watch(spawned: Any, producer: Any, within: float) -> tuple[float, float]:
    """The highest RSS until the producer has finished, and the one at the beginning, in MiB."""
    base = spawned.size().rss / MIB
    highest = base
    end = time.monotonic() + within
    while "finished" not in producer.reading.words():
        highest = max(highest, spawned.size().rss / MIB)
        if time.monotonic() > end:
            raise TimeoutError(f"the producer did not finish within {within} s")
        time.sleep(0.02)  # it is looked at so often
    return highest, base


def _outbox(site: _Part, policy: str, scale: Scale, result: Result) -> None:
    """An outbox that is full at once, for its producer waits for nothing."""
    options = {"outbox": {"capacity": 100, "overflow": policy, "timeout": 20.0}}
    with site:
        site.consumer()
        producer = site.producer(
            count=scale.events * 2, window=2_000, insists=False, options=options
        )
        highest, base = _watch(producer, producer, 300.0)
        site.settle()
        site.books()
        found = site.findings()
        for problem in Result.of("", 0, found).problems:
            result.need(False, f"{site.prefix}: {problem}")
        result.add(f"{site.prefix}_acked", found.acked)
        result.add(f"{site.prefix}_refused", found.failed)
        result.need(
            bool(found.failed) == (policy != "block"), f"{site.prefix}: {found.failed} refused"
        )
        result.need(not found.unknown, f"{site.prefix}: {found.unknown} unknown")
        result.add(f"{site.prefix}_rss_mib", highest - base, most=BOUND_MIB)


OVERLOAD = Plan(
    "T9",
    "producers are ten times as fast as consumers",
    quick=Scale(events=3_000, faults=0),
    full=Scale(events=40_000, faults=0),
    carry_out=carry_out,
)
