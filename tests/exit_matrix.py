"""Runs the programs of ``exit_scenarios.py`` in great numbers, and counts how they end.

    make exit-matrix ARGS="--runs 100 --only stuck_threads"

Each run is a process with a seed of its own and a hard time limit. The exit code is 1 if any
process crashed, hung, ended with another code than it should, or said what it should not.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from exit_scenarios import ENDINGS, KINDS, LOOPS

SCENARIOS = Path(__file__).with_name("exit_scenarios.py")

LIMIT = 30.0
"""Seconds after which a process is taken to hang. The grace at exit is 2 s; the rest is for a
machine that is busy with something else."""

CRASH_SIGNALS = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}

TRACEBACK = re.compile(
    r"Traceback \(most recent call last\):\n.*?^(?:\w+\.)*OnPurpose: the program fails\n",
    re.DOTALL | re.MULTILINE,
)
"""What ``uncaught`` is meant to say."""


@dataclass(frozen=True)
class Cell:
    ending: str
    kind: str
    loop: str

    def __str__(self) -> str:
        return f"{self.ending}-{self.kind}-{self.loop}"


@dataclass
class Outcome:
    """How the processes of one cell ended."""

    cell: Cell
    seconds: list[float] = field(default_factory=list)
    crashes: int = 0
    hangs: int = 0
    wrong_codes: int = 0
    noisy: int = 0
    examples: list[str] = field(default_factory=list)
    """What went wrong, with the command to see it again; the first few."""

    @property
    def bad(self) -> int:
        return self.crashes + self.hangs + self.wrong_codes + self.noisy


def cells() -> list[Cell]:
    return [
        Cell(ending, kind, loop)
        for ending in ENDINGS
        for kind in KINDS
        for loop in LOOPS
        if not (kind == "framework" and loop == "none")
    ]


def unexpected(cell: Cell, stderr: str) -> str:
    """What was said beyond what the program is meant to say."""
    if cell.ending == "uncaught":
        stderr = TRACEBACK.sub("", stderr, count=1)
    return stderr.strip()


def run_once(outcome: Outcome, seed: int) -> None:
    cell = outcome.cell
    command = [
        *(sys.executable, "-X", "faulthandler", str(SCENARIOS), cell.ending),
        *("--kind", cell.kind, "--loop", cell.loop, "--seed", str(seed)),
    ]
    begun = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONASYNCIODEBUG": "", "PYTHONDEVMODE": ""},
    )
    hung = False
    try:
        _, stderr = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        hung = True
        process.send_signal(signal.SIGABRT)  # faulthandler says where it stands
        try:
            _, stderr = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            _, stderr = process.communicate()
    outcome.seconds.append(time.monotonic() - begun)
    code = process.returncode
    if hung:
        outcome.hangs += 1
        what = f"hung for {LIMIT:.0f} s"
    elif code < 0 and -code in CRASH_SIGNALS:
        outcome.crashes += 1
        what = f"crashed with {signal.Signals(-code).name}"
    elif code != ENDINGS[cell.ending]:
        outcome.wrong_codes += 1
        what = f"ended with {code} instead of {ENDINGS[cell.ending]}"
    elif unexpected(cell, stderr):
        outcome.noisy += 1
        what = "said what it should not"
    else:
        return
    if len(outcome.examples) < 3:
        said = unexpected(cell, stderr)[:3000]
        outcome.examples.append(f"{' '.join(command)}\n  {what}\n{said}")


def run_cell(cell: Cell, runs: int, *, first_seed: int, jobs: int) -> Outcome:
    outcome = Outcome(cell)
    with ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(run_once, outcome, first_seed + n) for n in range(runs)]:
            future.result()
    return outcome


def default_jobs(cell: Cell) -> int:
    """More processes than processors: their ends come at less regular moments. One with stuck
    threads spends most of its time waiting for the grace to pass."""
    return (os.cpu_count() or 2) * (8 if cell.ending == "stuck_threads" else 2)


COLUMNS = ("runs", "crashes", "hangs", "wrong code", "noise", "median s", "most s")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500, help="for each cell; 500 if left out")
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; 0 if left out")
    parser.add_argument("--jobs", type=int, help="processes side by side")
    how = parser.parse_args(arguments)
    chosen = [cell for cell in cells() if how.only in str(cell)]
    if not chosen or how.runs < 1:
        parser.error("there is nothing to run")

    print(f"\nCPython {sys.version.split()[0]}, {how.runs} runs per cell, from seed {how.seed}")
    print(f"{'cell':34}" + "".join(f"{name:>11}" for name in COLUMNS), flush=True)
    outcomes = []
    for cell in chosen:
        jobs = how.jobs or default_jobs(cell)
        outcome = run_cell(cell, how.runs, first_seed=how.seed, jobs=jobs)
        outcomes.append(outcome)
        figures = (len(outcome.seconds), outcome.crashes, outcome.hangs)
        figures += (outcome.wrong_codes, outcome.noisy)
        seconds = (statistics.median(outcome.seconds), max(outcome.seconds))
        line = "".join(f"{n:11}" for n in figures) + "".join(f"{s:11.2f}" for s in seconds)
        print(f"{cell!s:34}{line}", flush=True)
    runs, bad = sum(len(o.seconds) for o in outcomes), sum(o.bad for o in outcomes)
    print(f"{runs} runs, {bad} of them bad")
    for outcome in outcomes:
        for example in outcome.examples:
            print(f"\n{example}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
