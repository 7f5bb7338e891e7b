"""Figures of tiebeam beside those of its peers: `python benches/python/run.py`.

All contenders take turns in one process, in a new order each round, after rounds that do not
count. Garbage is collected before each measurement and the collector is off during it. The
figures are nanoseconds per event, from before the first publish to after the last handler: the
median of the rounds, with the least and the most. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import tiebeam
from contenders import ASYNC, PAYLOAD, SYNC, Tally

RESULTS = Path(__file__).resolve().parents[1] / "results.json"
WARM_UP = 2


class Miscount(RuntimeError):
    """A contender lost, invented or changed events: its figure would mean nothing."""


def main(argv: Sequence[str] | None = None) -> int:
    options = _arguments(argv)
    figures = {
        "async decoupled, publish to handled": asyncio.run(
            measure_async(options.events, options.rounds)
        ),
        "sync inline, publish to handled": measure_sync(options.events, options.rounds),
    }
    report = {
        "machine": machine(),
        "events": options.events,
        "rounds": options.rounds,
        "unit": "ns per event",
        "garbage_collector": "run before each measurement, off during it",
        "figures": figures,
    }
    print(as_text(report))
    options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\nall rounds: {options.json}")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000, help="per contender and round")
    parser.add_argument("--rounds", type=int, default=15, help="that count")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE")
    return parser.parse_args(argv)


async def measure_async(events: int, rounds: int) -> dict[str, Any]:
    """The rounds of the contenders with a queue between publisher and handler."""
    tallies = [Tally() for _ in ASYNC]
    contenders = [make(tally) for make, tally in zip(ASYNC, tallies, strict=True)]
    taken: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    try:
        for number in range(-WARM_UP, rounds):
            for index in _order(number, len(contenders)):
                _quiet()
                begin = time.perf_counter_ns()
                await contenders[index].run(events)
                end = time.perf_counter_ns()
                gc.enable()
                if number >= 0:
                    taken[contenders[index].name].append((end - begin) / events)
    finally:
        gc.enable()
        for contender in contenders:
            await contender.close()
    return _figures(taken, tallies, events, rounds)


def measure_sync(events: int, rounds: int) -> dict[str, Any]:
    """The rounds of the contenders that handle inside of publish."""
    tallies = [Tally() for _ in SYNC]
    contenders = [make(tally) for make, tally in zip(SYNC, tallies, strict=True)]
    taken: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    try:
        for number in range(-WARM_UP, rounds):
            for index in _order(number, len(contenders)):
                _quiet()
                begin = time.perf_counter_ns()
                contenders[index].run(events)
                end = time.perf_counter_ns()
                gc.enable()
                if number >= 0:
                    taken[contenders[index].name].append((end - begin) / events)
    finally:
        gc.enable()
        for contender in contenders:
            contender.close()
    return _figures(taken, tallies, events, rounds)


def _order(number: int, count: int) -> list[int]:
    """Each round begins with another contender, so that none always follows the same one."""
    return [(number + step) % count for step in range(count)]


def _quiet() -> None:
    gc.collect()
    gc.disable()


def _figures(
    taken: dict[str, list[float]], tallies: list[Tally], events: int, rounds: int
) -> dict[str, Any]:
    wanted = events * (rounds + WARM_UP)
    for name, tally in zip(taken, tallies, strict=True):
        if tally.count != wanted or round(tally.total / PAYLOAD["price"]) != wanted:
            raise Miscount(f"{name} handled {tally.count} events instead of {wanted}")
    ours = statistics.median(next(iter(taken.values())))
    return {
        name: {
            "median": round(statistics.median(rounds_taken), 1),
            "min": round(min(rounds_taken), 1),
            "max": round(max(rounds_taken), 1),
            "times_tiebeam": round(statistics.median(rounds_taken) / ours, 3),
            "handled": wanted,
            "rounds": [round(value, 1) for value in rounds_taken],
        }
        for name, rounds_taken in taken.items()
    }


def machine() -> dict[str, Any]:
    """Where the figures were taken."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "tiebeam": tiebeam.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }


def as_text(report: dict[str, Any]) -> str:
    """The table for people."""
    where = report["machine"]
    lines = [
        f"tiebeam {where['tiebeam']}, {where['python']}, {where['platform']}, "
        f"{where['cores']} cores; {report['rounds']} rounds of {report['events']} events; "
        f"garbage collector {report['garbage_collector']}"
    ]
    for title, figures in report["figures"].items():
        lines += ["", f"{title:<38}{'median':>9}{'min':>9}{'max':>9}   times tiebeam's"]
        for name, figure in figures.items():
            lines.append(
                f"  {name:<36}{figure['median']:>9.0f}{figure['min']:>9.0f}{figure['max']:>9.0f}"
                f"   {figure['times_tiebeam']:.2f}"
            )
    lines += ["", "ns per event; above 1 in the last column, tiebeam takes less time"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
