"""Processes that end in the middle of their work, a few of each kind; ``make exit-matrix`` runs
hundreds, on every interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import GUARD
from exit_matrix import LIMIT, Cell, Outcome, cells, run_once, unexpected

pytest.importorskip("uvloop")

RUNS = 25
"""For each cell."""


@pytest.fixture(scope="module")
def outcomes() -> dict[Cell, Outcome]:
    """All cells side by side: those that wait for a grace to pass leave the processors to the
    others."""
    outcomes = {cell: Outcome(cell) for cell in cells()}
    with ThreadPoolExecutor(2 * (os.cpu_count() or 2) + 4) as pool:
        runs = [
            pool.submit(run_once, outcome, seed)
            for seed in range(RUNS)
            for outcome in outcomes.values()
        ]
        for run in runs:
            run.result()
    return outcomes


@pytest.mark.slow
@pytest.mark.parametrize("cell", cells(), ids=str)
def test_ends_well(outcomes: dict[Cell, Outcome], cell: Cell) -> None:
    outcome = outcomes[cell]
    assert len(outcome.seconds) == RUNS
    assert outcome.bad == 0, "\n\n".join(outcome.examples)


def test_the_matrix_sees_a_crash_a_hang_a_wrong_code_and_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "scenario.py"
    script.write_text(
        "import os, sys, time\n"
        "seed = sys.argv[-1]\n"
        "if seed == '0': os.abort()\n"
        "if seed == '1': time.sleep(60)\n"
        "if seed == '2': sys.exit(3)\n"
        "if seed == '3': print('Exception ignored in', file=sys.stderr)\n"
    )
    monkeypatch.setattr("exit_matrix.SCENARIOS", script)
    monkeypatch.setattr("exit_matrix.LIMIT", 2.0)
    outcome = Outcome(Cell("in_flight", "bus", "asyncio"))
    for seed in range(5):
        run_once(outcome, seed)
    figures = (outcome.crashes, outcome.hangs, outcome.wrong_codes, outcome.noisy)
    assert figures == (1, 1, 1, 1)
    assert len(outcome.seconds) == 5


def test_a_traceback_is_expected_once_and_of_one_kind() -> None:
    cell = Cell("uncaught", "bus", "none")
    traceback = (
        "Traceback (most recent call last):\n"
        '  File "exit_scenarios.py", line 1, in end\n'
        "OnPurpose: the program fails\n"
    )
    assert unexpected(cell, traceback) == ""
    assert unexpected(Cell("sys_exit", "bus", "none"), traceback)
    assert unexpected(cell, traceback + traceback)
    assert unexpected(cell, traceback + "Fatal Python error: Aborted\n")


def ends(script: str, *, within: float = GUARD) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script],
        capture_output=True,
        text=True,
        timeout=within,
    )


def test_what_waits_on_threads_is_worked_off_at_the_end() -> None:
    """Sync handlers get the grace: a script may publish and fall off its end."""
    done = ends(
        "import time\n"
        "from tiebeam import EventBus\n"
        "bus = EventBus()\n"
        "def handler(event):\n"
        "    time.sleep(0.01)\n"
        "    print(event.payload['n'], flush=True)\n"
        "bus.subscribe('a', handler)\n"
        "for n in range(20):\n"
        "    bus.publish('a', {'n': n})\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(n) for n in range(20)]


def test_a_bus_refuses_work_once_the_interpreter_ends() -> None:
    done = ends(
        "import atexit\n"
        "from tiebeam import EventBus\n"
        "def late():\n"
        "    for act in (lambda: bus.publish('a'), EventBus):\n"
        "        try:\n"
        "            act()\n"
        "        except Exception as error:\n"
        "            print(type(error).__name__)\n"
        "atexit.register(late)\n"  # runs after the hook of the core, which is younger
        "bus = EventBus()\n"
        "bus.subscribe('a', print)\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["ClosedError", "ClosedError"]


def test_the_end_waits_for_stuck_threads_no_longer_than_the_grace() -> None:
    """Two buses, one grace: it is not paid for each of them."""
    done = ends(
        "import threading, time\n"
        "from tiebeam import EventBus\n"
        "begun = threading.Semaphore(0)\n"
        "def stuck(event):\n"
        "    begun.release()\n"
        "    time.sleep(600)\n"
        "buses = [EventBus() for _ in range(4)]\n"
        "for bus in buses:\n"
        "    bus.subscribe('a', stuck)\n"
        "    bus.publish('a')\n"
        "for bus in buses:\n"
        "    begun.acquire()\n"
        "print(time.monotonic())\n",
        within=LIMIT,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_logs_say_what_was_left(tmp_path: Path) -> None:
    file = tmp_path / "system.log"
    done = ends(
        "import asyncio\n"
        "from tiebeam import Framework\n"
        "async def for_ever(event):\n"
        "    await asyncio.Event().wait()\n"
        "async def main():\n"
        f"    logging = {{'console': False, 'file': {str(file)!r}}}\n"
        "    framework = Framework({'logging': logging})\n"
        "    await framework.start()\n"
        "    framework.bus.subscribe('a', for_ever, concurrency=3)\n"
        "    for _ in range(5):\n"
        "        await framework.bus.publish('a')\n"
        "    return framework\n"
        "loop = asyncio.new_event_loop()\n"
        "kept = loop.run_until_complete(main())\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    (left,) = [line for line in lines if "in flight when the process ended" in line["message"]]
    assert left["level"] in ("WARN", "warning", "WARNING")
    assert "5" in json.dumps(left)


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs Linux' /proc")
def test_a_bus_that_is_dropped_leaves_no_worker_thread() -> None:
    done = ends(
        "import gc, os, threading, time\n"
        "from tiebeam import EventBus\n"
        "bus = EventBus()\n"
        "found = threading.Semaphore(0)\n"
        "ours = []\n"
        "def handler(event):\n"
        "    ours.append(f'/proc/self/task/{threading.get_native_id()}')\n"
        "    found.release()\n"
        "bus.subscribe('a', handler)\n"
        "bus.publish('a')\n"
        "found.acquire(timeout=20)\n"
        "assert os.path.exists(ours[0])\n"
        "del bus\n"
        "gc.collect()\n"
        "end = time.monotonic() + 20\n"
        "while os.path.exists(ours[0]) and time.monotonic() < end:\n"
        "    os.sched_yield()\n"
        "print(os.path.exists(ours[0]))\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_a_bus_that_is_dropped_leaves_no_thread() -> None:
    done = ends(
        "import asyncio, gc, threading\n"
        "from tiebeam import EventBus\n"
        "async def handler(event): ...\n"
        "before = set(threading.enumerate())\n"
        "bus = EventBus()\n"
        "bus.subscribe('a', handler)\n"
        "(ours,) = set(threading.enumerate()) - before\n"
        "del bus\n"
        "gc.collect()\n"
        "ours.join(20)\n"
        "print(ours.is_alive())\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_the_end_waits_for_the_threads_of_a_bus_that_is_gone() -> None:
    """One that is overtaken by the end of the interpreter on its way out may crash it."""
    done = ends(
        "import atexit, gc, threading\n"
        "import tiebeam._threads\n"
        "from tiebeam import EventBus\n"
        "leaving, ending = threading.Event(), threading.Event()\n"
        "def leave():\n"
        "    leaving.set()\n"
        "    ending.wait()\n"
        "    sum(range(5_000_000))\n"
        "    print('left', flush=True)\n"
        "tiebeam._threads.leave = leave\n"
        "bus = EventBus()\n"
        "bus.subscribe('a', lambda event: None)\n"
        "bus.publish('a')\n"
        "bus.drain_sync()\n"
        "atexit.register(ending.set)\n"  # runs before the hook of the core, which is older
        "del bus\n"
        "gc.collect()\n"
        "leaving.wait()\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")
