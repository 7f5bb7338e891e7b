"""Servers fork their workers after they have imported everything, policies among it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import GUARD

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

PROGRAM = """
import asyncio, os, sys
from tiebeam import TimeoutExceeded
from tiebeam.resilience import Bulkhead, CircuitBreaker, Pipeline, RateLimiter, Retry, Timeout

exchange = Pipeline(
    Timeout(20), Retry(initial_delay=0.001), CircuitBreaker("exchange"), RateLimiter(1000),
    Bulkhead(2, max_waiting=1, max_wait=5), Timeout(10),
)
hasty = Timeout(0.05)
calls = []

def price():
    calls.append(1)
    if len(calls) < 3:
        raise ConnectionError("no route")
    return 7

async def async_price():
    await asyncio.sleep(0)
    return price()

async def main():
    assert await exchange.call(async_price) == 7
    try:
        await hasty.call(asyncio.sleep, {guard})
    except TimeoutExceeded:
        return 0
    return 3

def work():
    assert exchange.call(price) == 7
    calls.clear()
    return asyncio.run(main())

{before}
pid = os.fork()
if pid == 0:
    try:
        code = {child}
    except BaseException as error:
        print(type(error).__name__, error, file=sys.stderr, flush=True)
        code = 4
    os._exit(code)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def run(tmp_path: Path, *, before: str, child: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "server.py"
    text = PROGRAM.replace("{guard}", str(GUARD)).replace("{before}", before)
    script.write_text(text.replace("{child}", child))
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        timeout=GUARD,
        check=False,
        capture_output=True,
        text=True,
    )


def test_policies_made_before_a_fork_work_after_it(tmp_path: Path) -> None:
    done = run(tmp_path, before="", child="work()")
    assert done.returncode == 0, done.stderr


def test_a_sync_retry_works_in_a_child_of_a_process_that_has_started(tmp_path: Path) -> None:
    """It waits on its own thread, and needs none of the parent's."""
    before = "assert work() == 0; calls.clear()"
    done = run(tmp_path, before=before, child="Retry(initial_delay=0.001).call(price) - 7")
    assert done.returncode == 0, done.stderr


def test_what_needs_threads_says_so_there(tmp_path: Path) -> None:
    done = run(tmp_path, before="assert work() == 0", child="asyncio.run(main())")
    assert done.returncode == 4
    assert done.stderr.startswith("ForkedProcessError")
