"""Where a run takes place: a server, the processes that use it, and their ledgers."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import redis
from brokers.redis_server import RedisServer

from faults.checker import Findings, check
from faults.consumer import Consumer
from faults.ledger import Entry
from faults.processes import Size, Spawned, until
from faults.producer import Producer
from faults.report import Result

MIB = 1024 * 1024

GUARD = 90.0
"""Longer than anything but the faults may take."""


class Site(contextlib.AbstractContextManager["Site"]):
    """One server on a port of its own, and all that uses it: a Redis server."""

    server: Any

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.server = self.serve()
        self.prefix = "faults"
        self.stream = f"{{{self.prefix}:orders:0}}"
        self.url = self.server.url
        self.producers: list[Spawned] = []
        self.consumers: list[Spawned] = []
        self._bases: dict[str, tuple[Spawned, Size]] = {}

    def serve(self) -> Any:
        """Begin the server."""
        return RedisServer()

    # -- processes ---------------------------------------------------------------------------

    def producer(self, name: str = "p0", **plan: Any) -> Spawned:
        """Begin a producer, and wait until it is there."""
        ledger = str(self.folder / f"{name}.ledger")
        full = Producer(name=name, url=self.url, prefix=self.prefix, ledger=ledger, **plan)
        return self._begin(full, self.producers)

    def consumer(self, name: str = "c0", *, wait: bool = True, **plan: Any) -> Spawned:
        """Begin a consumer, and wait until it is there."""
        ledger = str(self.folder / f"{name}.ledger")
        full = Consumer(name=name, url=self.url, prefix=self.prefix, ledger=ledger, **plan)
        return self._begin(full, self.consumers, wait)

    def _begin(self, plan: Any, kind: list[Spawned], wait: bool = True) -> Spawned:
        spawned = Spawned(plan)
        kind.append(spawned)
        if wait:
            spawned.await_word("ready")
        return spawned

    # -- what is known by now -----------------------------------------------------------------

    def count(self, word: str) -> int:
        """How many lines with this word there are in all ledgers."""
        return sum(spawned.reading.count(word) for spawned in (*self.producers, *self.consumers))

    def await_count(self, word: str, count: int, within: float = GUARD) -> None:
        """Wait until there are so many."""
        until(lambda: self.count(word) >= count, within, f"{count} times {word!r}")

    def told(self, topic: str) -> list[dict[str, Any]]:
        """What the buses of the consumers told of themselves, each word once."""
        told = {
            entry.event_id: entry.more[1]
            for spawned in self.consumers
            for entry in spawned.reading.refresh()
            if entry.word == "told" and entry.more[0] == topic
        }
        return list(told.values())

    def dead(self) -> list[str]:
        """The ids of the dead letters on the server."""
        rows: Any = self.client().xrange(f"{{{self.prefix}}}:dead")
        return [json.loads(fields["data"])["event"]["event_id"] for _, fields in rows]

    def client(self) -> redis.Redis:
        """A connection past any proxy."""
        client: redis.Redis = self.server.client()
        return client

    def findings(self) -> Findings:
        """What the ledgers say now."""
        return check(self.offers(), self.calls(), self.dead(), self.pending())

    def offers(self) -> list[list[Entry]]:
        return [spawned.reading.refresh() for spawned in self.producers]

    def calls(self) -> dict[str, list[Entry]]:
        return {spawned.plan.name: spawned.reading.refresh() for spawned in self.consumers}

    def duplicates(self) -> int:
        """How many events came to a consumer that had them already, and were left out."""
        return sum(
            entry.more["duplicates"]
            for calls in self.calls().values()
            for entry in calls
            if entry.word == "books"
        )

    def copies(self) -> int:
        """Entries of the stream that hold what another one holds, too."""
        ids: Counter[str] = Counter()
        client, after = self.client(), "-"
        while True:
            page: Any = client.xrange(self.stream, after, count=5_000)
            if not page:
                return sum(times - 1 for times in ids.values())
            ids.update(json.loads(fields["data"])["event_id"] for _, fields in page)
            after = f"({page[-1][0]}"

    # -- sizes ---------------------------------------------------------------------------------

    def note_base(self, quiet: float = 1.2) -> None:
        """What each process takes now is what it should take at the end: once it has opened no
        more for a while, for some connections are made when they are first of use."""
        everybody = (*self.producers, *self.consumers)
        before, since = -1, time.monotonic()
        while time.monotonic() - since < quiet:
            if (files := sum(spawned.size().files for spawned in everybody)) > before:
                before, since = files, time.monotonic()
            time.sleep(0.05)  # it is looked at so often
        for spawned in everybody:
            self._bases[spawned.plan.name] = (spawned, spawned.size())

    def grown(self, allowed: float = 24.0) -> tuple[dict[str, float], list[str]]:
        """By how much the processes have grown since, and what of that is too much: beyond 5 %
        and a few MiB, threads or descriptors. Connections may take a moment to end."""
        end = time.monotonic() + 15.0
        while True:
            worst = {"rss_grown_mib": 0.0, "threads_grown_x": 0.0, "files_grown_x": 0.0}
            problems = []
            for name, (spawned, base) in self._bases.items():
                if spawned.killed_at is not None:
                    continue
                now = spawned.size()
                rss = (now.rss - base.rss) / MIB
                grown = (rss, now.threads - base.threads, now.files - base.files)
                bounds = (0.05 * base.rss / MIB + allowed, 3, 2)
                for what, value, bound in zip(worst, grown, bounds, strict=True):
                    worst[what] = max(worst[what], round(value, 1))
                    if value > bound:
                        problems.append(f"{name}: {what} is {value:.1f}, and may be {bound:.1f}")
            if not problems or time.monotonic() >= end:
                return worst, problems
            time.sleep(0.1)  # until the kernel has closed what was given up

    # -- the end -------------------------------------------------------------------------------

    def settle(self, within: float = GUARD, but: set[str] | None = None) -> None:
        """Wait until every producer has finished, and all that it was promised has come about:
        but for these."""
        for spawned in self.producers:
            if spawned.killed_at is None:
                spawned.await_word("finished", within)

        def settled() -> bool:
            acked = {e.event_id for ledger in self.offers() for e in ledger if e.word == "acked"}
            done = {
                e.event_id for calls in self.calls().values() for e in calls if e.word == "done"
            }
            return acked <= done | (but or set()) or acked <= done | set(self.dead()) | (
                but or set()
            )

        try:
            until(settled, within, "all that was acknowledged is handled")
            until(lambda: not self.pending(), within, "nothing is pending on the server")
        except TimeoutError as late:
            # What is missing by now is lost, or pending: the findings say so, and how much.
            print(late)

    def settle_read(self, within: float = GUARD) -> None:
        """Wait until all that is on the server was given out, and acknowledged."""
        client = self.client()

        def read() -> bool:
            groups: Any = client.xinfo_groups(self.stream)
            last: Any = client.xinfo_stream(self.stream)
            return all(
                group["pending"] == 0 and group["last-delivered-id"] == last["last-generated-id"]
                for group in groups
            )

        until(read, within, "all is read and acknowledged")

    def pending(self) -> int:
        """How many entries nobody has acknowledged, given out or not."""
        client = self.client()
        groups: Any = client.xinfo_groups(self.stream)
        left = 0
        for group in groups:
            unread: Any = client.xrange(self.stream, f"({group['last-delivered-id']}")
            left += group["pending"] + len(unread)
        return left

    def books(self) -> list[dict[str, Any]]:
        """Have the consumers end by themselves; the books of each."""
        for spawned in self.consumers:
            if spawned.killed_at is None:
                spawned.end()
        return [
            entry.more
            for calls in self.calls().values()
            for entry in calls
            if entry.word == "books"
        ]

    def conclude(self, result: Result) -> None:
        """Have the consumers end; what everybody has grown by, and whether the books balance."""
        result.sizes(self.grown())
        result.need(all(books["balanced"] for books in self.books()), "books that do not balance")

    def printed(self) -> str:
        """All that the processes printed."""
        return "".join(spawned.printed() for spawned in (*self.producers, *self.consumers))

    def __exit__(self, *_error: object) -> None:
        for spawned in (*self.producers, *self.consumers):
            spawned.abandon()
        self.server.kill()
        self.server.__exit__()
