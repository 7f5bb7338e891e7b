"""Figures on a broker: ``python -m processes redis|rabbitmq`` from ``benches/python``.

Publisher and consumer are two processes, the broker is a third, all on this machine. Contenders
take turns; each figure is the median of the rounds, with the least and the most. It counts from the
first ``publish`` of a connected publisher to the end of the last handler; each contender
acknowledges in its own way. Ratios are of one run; of the goals, the median over its rounds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
from pathlib import Path

from harness.goal import Goal
from harness.report import goals_as_text
from processes.aims import percentile
from processes.brokers import BROKERS, Broker, Contender
from processes.race import build_bare, race, race_alone

RATE = 1_000.0
"""At which latency is measured, in events per second."""


def main() -> int:
    """Run all, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("broker", choices=sorted(BROKERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", default=[], help="contenders by name")
    parser.add_argument("--events", type=int, help="for each contender, instead of its own number")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    broker = BROKERS[options.broker]
    wanted = options.only or list(broker.contenders)
    if unknown := set(wanted) - set(broker.contenders):
        parser.error(
            f"nobody is called {', '.join(sorted(unknown))}: {', '.join(broker.contenders)}"
        )
    missing = [name for name in wanted if not _is_there(broker.contenders[name].needs)]
    if missing:
        print(f"not installed, left out: {', '.join(missing)}", file=sys.stderr)
    wanted = [name for name in wanted if name not in missing]
    rates, waits = measure(broker, wanted, options.rounds, options.events)
    goals = [aim.judge(rates, waits) for aim in broker.aims]
    report(broker, rates, waits, goals)
    if options.json:
        judged = [goal.as_json() for goal in goals]
        options.json.write_text(
            json.dumps({"rates": rates, "latencies": waits, "goals": judged}, ensure_ascii=False)
        )
    return 0


def _is_there(module: str) -> bool:
    try:
        return not module or importlib.util.find_spec(module) is not None
    except ImportError:  # which is what a package without it says
        return False


def measure(
    broker: Broker, wanted: list[str], rounds: int, events: int | None
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """The rates and the latencies of each."""
    rates: dict[str, list[float]] = {}
    waits: dict[str, list[float]] = {}
    with broker.serve() as url, tempfile.TemporaryDirectory() as folder:
        needed = any(name.startswith("bare_") for name in wanted)
        bare = build_bare(Path(folder)) if needed else None
        for _ in range(rounds):
            for name in wanted:
                contender = broker.contenders[name]
                if contender.events:
                    broker.empty(url)
                    count = events or contender.events
                    rates.setdefault(name, []).append(_rate(url, name, contender, count, bare))
                if contender.paced:
                    broker.empty(url)
                    outcome = race(url, name, events or 3_000, RATE, bare)
                    waits.setdefault(name, []).extend(outcome.latencies)
    return rates, waits


def _rate(url: str, name: str, contender: Contender, count: int, bare: Path | None) -> float:
    if contender.tool:
        return contender.tool(url, count)
    if contender.alone:
        return race_alone(url, contender.alone, count).rate
    return race(url, name, count, 0.0, bare).rate


def report(
    broker: Broker,
    rates: dict[str, list[float]],
    waits: dict[str, list[float]],
    goals: list[Goal],
) -> None:
    """Print what was measured, beside the limit, and what it was to be."""
    best = statistics.median(rates.get(broker.limit, [0.0]))
    heading = "events per second, published, handled, acknowledged"
    print(f"{heading:52} median   least    most   of the limit")
    for name, figures in rates.items():
        middle = statistics.median(figures)
        share = f"{middle / best:.2f}" if best else ""
        title = broker.contenders[name].title
        print(f"{title:52} {middle:6,.0f} {min(figures):7,.0f} {max(figures):7,.0f}   {share}")
    least = percentile(waits[broker.limit], "p50") if broker.limit in waits else 0.0
    print(f"\n{'latency at 1,000 events per second, in µs':52}    p50     p99   of the limit's p50")
    for name, figures in waits.items():
        middle, high = percentile(figures, "p50"), percentile(figures, "p99")
        share = f"{middle / least:.2f}" if least else ""
        title = broker.contenders[name].title
        print(f"{title:52} {middle * 1e6:6,.0f} {high * 1e6:7,.0f}   {share}")
    print(f"\n{goals_as_text(goals)}")


if __name__ == "__main__":
    raise SystemExit(main())
