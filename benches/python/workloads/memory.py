"""What an event takes up while it waits, each backlog in a process of its own.

`python memory.py CONTENDER BACKLOG` prints the bytes per event by which the process has grown:
the resident set after the last publish less that before the first one. Small backlogs are held
by several buses at once, because memory comes in pages.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tiebeam import EventBus

from harness.contender import NOT_INSTALLED, Contender, Contenders
from harness.envelope import PAYLOAD, TYPE, envelope
from harness.goal import at_most
from harness.settings import Settings
from harness.table import Row, Table
from harness.tally import Miscount
from workloads import Outcome

BACKLOGS = [1_000, 100_000, 1_000_000]
PER_DELIVERY = 50
"""The largest backlog is so many times the deliveries of a round."""
AT_LEAST = 50_000
"""Events that wait in all, on several buses if need be."""
PAYLOAD_BYTES = len(json.dumps(PAYLOAD, separators=(",", ":")))

contenders = Contenders()


def measure(settings: Settings) -> Outcome:
    backlogs = [size for size in BACKLOGS if size <= settings.events * PER_DELIVERY]
    entrants = [contender for contender in contenders if contender.ours or not settings.alone]
    tables = [_table(size, entrants) for size in backlogs]
    ours = [table.rows[0].median for table in tables if table.rows[0].values]
    largest = max(ours, default=None)
    return Outcome(
        tables,
        [
            at_most("an event that waits", 200 + PAYLOAD_BYTES, "bytes, payload included", largest),
            at_most(
                "waiting events, dearest against cheapest backlog",
                1.2,
                "x",
                max(ours) / min(ours) if ours else None,
            ),
        ],
    )


def _table(backlog: int, entrants: list[Contender]) -> Table:
    table = Table(f"an event that waits, backlog {backlog:,}", "bytes per event")
    for contender in entrants:
        table.rows.append(_row(contender, backlog))
    return table


def _row(contender: Contender, backlog: int) -> Row:
    if not contender.installed:
        return Row(contender.name, note=NOT_INSTALLED)
    if not Path("/proc/self/statm").exists():
        return Row(contender.name, note="needs /proc")
    if contender.share < 1 and backlog > BACKLOGS[-1] * contender.share:
        return Row(contender.name, note="not measured: over a gigabyte")
    command = [sys.executable, __file__, contender.name, str(backlog)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise Miscount(f"{contender.name}, backlog {backlog}: {ended.stderr}")
    return Row(contender.name, [float(ended.stdout)])


# A contender here makes the given number of buses for the given backlog; it yields the function
# that fills all of them, then one that says how many events wait.


@contenders.add("tiebeam")
def tiebeam(buses: int, backlog: int) -> tuple[Callable[[], None], Callable[[], int]]:
    async def handler(_event: object) -> None: ...

    made = [EventBus(f"bench_{number}", capacity=backlog) for number in range(buses)]
    subscriptions = [bus.subscribe(TYPE, handler) for bus in made]

    def fill() -> None:
        for bus in made:
            publish = bus.publish
            for _ in range(backlog):
                publish(TYPE, PAYLOAD)

    return fill, lambda: sum(subscription.queued for subscription in subscriptions)


@contenders.add("asyncio.Queue of dicts")
def queue(buses: int, backlog: int) -> tuple[Callable[[], None], Callable[[], int]]:
    queues: list[asyncio.Queue[Any]] = [asyncio.Queue(backlog) for _ in range(buses)]

    def fill() -> None:
        for queue in queues:
            for _ in range(backlog):
                queue.put_nowait(envelope(TYPE, PAYLOAD))

    return fill, lambda: sum(queue.qsize() for queue in queues)


@contenders.add("anyio memory stream", needs="anyio")
def anyio(buses: int, backlog: int) -> tuple[Callable[[], None], Callable[[], int]]:
    from anyio import create_memory_object_stream

    streams = [create_memory_object_stream[Any](backlog) for _ in range(buses)]

    def fill() -> None:
        for sender, _ in streams:
            for _ in range(backlog):
                sender.send_nowait(envelope(TYPE, PAYLOAD))

    def waiting() -> int:
        return sum(sender.statistics().current_buffer_used for sender, _ in streams)

    return fill, waiting


@contenders.add("pyee AsyncIOEventEmitter", needs="pyee", share=0.1)
def pyee(buses: int, backlog: int) -> tuple[Callable[[], None], Callable[[], int]]:
    from pyee.asyncio import AsyncIOEventEmitter

    async def handler(_event: object) -> None: ...

    emitters = [AsyncIOEventEmitter() for _ in range(buses)]
    for emitter in emitters:
        emitter.on(TYPE, handler)

    def fill() -> None:
        for emitter in emitters:
            for _ in range(backlog):
                emitter.emit(TYPE, envelope(TYPE, PAYLOAD))

    return fill, lambda: len(asyncio.all_tasks()) - 1


async def _child(name: str, backlog: int) -> None:
    (make,) = (contender.make for contender in contenders if contender.name == name)
    warm_up, _ = make(1, 100)  # what the first events cost once is not theirs
    warm_up()
    await asyncio.sleep(0.01)
    buses = max(1, AT_LEAST // backlog)
    fill, waiting = make(buses, backlog)
    gc.collect()
    gc.disable()
    before = _resident()
    fill()
    grown = _resident() - before
    if waiting() != buses * backlog:
        print(f"{waiting()} events wait, not {buses * backlog}", file=sys.stderr)
        os._exit(1)
    print(grown / (buses * backlog), flush=True)
    os._exit(0)  # a million events need not be handled


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    asyncio.run(_child(sys.argv[1], int(sys.argv[2])))
