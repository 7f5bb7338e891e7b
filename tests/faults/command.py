"""The command: one plan or several, in either size, and the table at the end."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from faults.report import Result, together
from faults.runs import PLANS, Plan, Scale


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments say; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "plans", nargs="*", metavar="PLAN", choices=[*PLANS, []], help=f"of {', '.join(PLANS)}"
    )
    parser.add_argument("--full", action="store_true", help="the full size, in rounds")
    parser.add_argument("--seed", type=int, help="of everything that is random; a new one")
    parser.add_argument("--folder", type=Path, help="where ledgers are kept; rounds in it are done")
    parser.add_argument("--minutes", type=float, default=10.0, help="no new round after that; 10")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each plan")
    given = parser.parse_args(arguments)
    seed = random.randrange(2**32) if given.seed is None else given.seed
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.plans or PLANS:
            plan = PLANS[name]
            scale = plan.full if given.full else plan.quick
            folder = (given.folder or Path(scratch)) / f"{name}-{'full' if given.full else 'quick'}"
            result = carry_out(plan, scale, folder, seed, given.minutes)
            print(result.json() if given.json else result, flush=True)
            failed |= bool(result.problems)
    return int(failed)


def carry_out(plan: Plan, scale: Scale, folder: Path, seed: int, minutes: float) -> Result:
    """Carry a plan out, but for the rounds that the folder has the results of."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "results.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    results = [Result.from_json(line) for line in lines]
    done = {result.seed for result in results}
    end = time.monotonic() + minutes * 60
    left = [seed + number for number in range(scale.rounds) if seed + number not in done]
    for number, own in enumerate(left):
        if time.monotonic() >= end and results:
            print(f"{plan.name}: {len(left) - number} rounds are left for another time")
            break
        place = folder / f"seed-{own}"
        if place.exists():
            shutil.rmtree(place)  # it was interrupted: its ledgers say nothing
        try:
            result = plan.round(place, own, scale)
        except (AssertionError, TimeoutError) as stuck:
            result = Result(plan.name, own, problems=[f"it did not come to its end: {stuck}"])
        with kept.open("a") as file:
            file.write(result.json() + "\n")
        results.append(result)
        if scale.rounds > 1:
            print(result, file=sys.stderr, flush=True)
    whole = [result for result in results if seed <= result.seed < seed + scale.rounds]
    return together(whole)
