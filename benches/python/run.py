"""Figures of tiebeam beside those of its peers: `python benches/python/run.py`.

All contenders of a workload take turns in one process. Each figure is the median of the rounds,
with the least and the most; at the end, the goals stand beside what was measured. Nothing here
passes or fails, but a contender that loses an event ends the run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.report import as_json, as_markdown, goals_as_text, heading
from harness.settings import Settings
from harness.tally import Miscount
from workloads import NAMES, Outcome, load

RESULTS = Path(__file__).resolve().parents[1] / "results.json"


def main(argv: Sequence[str] | None = None) -> int:
    options = _arguments(argv)
    settings = Settings(
        events=options.events, rounds=options.rounds, loop=options.loop, alone=options.alone
    )
    print(heading(settings), flush=True)
    outcomes: dict[str, Outcome] = {}
    for name in options.only or NAMES:
        try:
            outcomes[name] = load(name)(settings)
        except Miscount as error:
            print(f"\n{name}: {error}", file=sys.stderr)
            return 1
        for table in outcomes[name].tables:
            print(f"\n{table.as_text()}", flush=True)
    goals = [goal for outcome in outcomes.values() for goal in outcome.goals]
    print(f"\n{goals_as_text(goals)}")
    report = json.dumps(as_json(settings, outcomes), indent=2)
    options.json.write_text(report + "\n", encoding="utf-8")
    if options.markdown is not None:
        options.markdown.write_text(as_markdown(settings, outcomes), encoding="utf-8")
    print(f"\nall rounds: {options.json}")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    usual = Settings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=NAMES, metavar="WORKLOAD", help=", ".join(NAMES)
    )
    parser.add_argument(
        "--events", type=_positive, default=usual.events, help="deliveries per round"
    )
    parser.add_argument("--rounds", type=_positive, default=usual.rounds, help="that count")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default=usual.loop)
    parser.add_argument("--alone", action="store_true", help="without the peers, for profiles")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="tables for documentation")
    options = parser.parse_args(argv)
    if options.loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        parser.error("--loop uvloop: uvloop is not installed (pip install uvloop)")
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
