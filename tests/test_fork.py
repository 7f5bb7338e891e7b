"""``os.fork`` under a running bus, and the start methods of ``multiprocessing``.

Every program here is a process of its own: pytest has threads that a fork must not copy.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import GUARD

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

PREAMBLE = """
import asyncio, os, signal, sys, threading, time, warnings
# From 3.12 on, Python warns of every fork of a process with threads; that is the point here.
warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*multi-threaded.*")
from tiebeam import EventBus, ForkedProcessError, Framework

def wait_for(pid):
    "The exit code of a child; one that hangs is killed."
    end = time.monotonic() + 20
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGABRT)
    os.waitpid(pid, 0)
    return "the child hung"

def refused(act):
    "Seconds until the child was told; what else it gets, it exits with."
    begun = time.monotonic()
    try:
        act()
    except ForkedProcessError as error:
        assert str(os.getppid()) in str(error), error
        assert "spawn" in str(error), error
        return time.monotonic() - begun
    raise AssertionError("the child was not told")
"""


def program(
    text: str, tmp_path: Path, *arguments: str, timeout: float = GUARD * 2
) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "program.py"
    script.write_text(PREAMBLE + text)
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_a_child_is_told_at_once_and_the_parent_goes_on(tmp_path: Path) -> None:
    done = program(
        """
seen = threading.Semaphore(0)
bus = EventBus()
bus.subscribe("a", lambda event: seen.release())
bus.respond("r", lambda event: event.payload)

async def handler(event): seen.release()
bus.subscribe("a", handler)                       # on a loop of our own
receipt = bus.publish("a")

async def wait(awaitable): await awaitable

def twice():
    for _ in range(2):
        assert seen.acquire(timeout=20)

twice()
pid = os.fork()
if pid == 0:
    slowest = max(
        refused(act)
        for act in (
            lambda: bus.publish("a"),
            lambda: bus.send("c"),
            lambda: bus.request("r"),
            lambda: bus.subscribe("a", print),
            lambda: bus.every(1, "a"),
            lambda: bus.drain_sync(),
            lambda: bus.close_sync(),
            lambda: bus.books(),
            lambda: asyncio.run(wait(bus.drain())),
            lambda: asyncio.run(wait(bus.close())),
            EventBus,
            Framework,
        )
    )
    assert slowest < 0.1, slowest
    print(bus, receipt.accepted)
    sys.exit(0)
assert wait_for(pid) == 0
for n in range(100):
    bus.publish("a", {"n": n})
    assert bus.request("r", {"n": n}).wait(20) == {"n": n}
    twice()
bus.close_sync()
assert bus.books().balanced
print("undisturbed")
""",
        tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        '<EventBus "bus" of the parent process> True\nundisturbed\n',
        "",
    )


@pytest.mark.parametrize("leave", ["os._exit(5)", "sys.exit(5)", "raise SystemExit(5)"])
def test_children_end_while_the_parent_is_busy(tmp_path: Path, leave: str) -> None:
    """The child is a copy of a moment in which other threads held locks."""
    done = program(
        f"""
def publish():
    n = 0
    while not over.is_set():
        n += 1
        bus.publish("a", {{"n": n}})
        bus.publish("b", {{"n": n}}, delay=0.001)

def fails(event):
    raise ConnectionError("on purpose")

async def handler(event):
    await asyncio.sleep(0)

over = threading.Event()
bus = EventBus(overflow="drop_oldest", capacity=100)
bus.subscribe("#", lambda event: event.payload)
bus.subscribe("a", handler)
bus.subscribe("b", fails, retry={{"max_attempts": 2, "initial_delay": 0.001}})
bus.every(0.001, "c")
threads = [threading.Thread(target=publish) for _ in range(3)]
for thread in threads:
    thread.start()
codes = []
for n in range(40):
    pid = os.fork()
    if pid == 0:
        refused(lambda: bus.publish("a"))
        {leave}
    codes.append(wait_for(pid))
over.set()
for thread in threads:
    thread.join()
assert codes == [5] * 40, codes
bus.close_sync(0)
assert bus.books().balanced
print("undisturbed")
""",
        tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "undisturbed\n", "")


def test_a_child_that_drops_everything_it_inherited(tmp_path: Path) -> None:
    """Freeing what belongs to the parent's threads must neither hang nor crash."""
    done = program(
        """
import gc

async def hold(event):
    await asyncio.Event().wait()

def stuck(event):
    time.sleep(600)

bus = EventBus()
bus.subscribe("a", hold, concurrency=10)
bus.subscribe("b", stuck)
kept = [bus.publish("a") for _ in range(10)] + [bus.publish("b"), bus.every(0.001, "c")]
bus.respond("r", hold, concurrency=10)
kept += [bus.request("r") for _ in range(10)]
codes = []
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        del bus, kept
        gc.collect()
        sys.exit(0)
    codes.append(wait_for(pid))
assert codes == [0] * 10, codes
os._exit(0)
""",
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_fork_under_a_running_framework(tmp_path: Path) -> None:
    """From a handler's thread and from the loop."""
    done = program(
        """
from tiebeam import Component, subscribe

class Forker(Component):
    def __init__(self):
        self.codes, self.seen = [], 0

    @subscribe("fork")
    def fork(self, event):
        pid = os.fork()
        if pid == 0:
            os._exit(3 if refused(lambda: self.publish_event("a")) < 0.1 else 4)
        self.codes.append(wait_for(pid))

    @subscribe("a")
    async def on_a(self, event):
        self.seen += 1

async def main():
    forker = Forker()
    async with Framework({"logging": {"console": False}}, components=[forker]) as framework:
        await framework.bus.publish("fork")
        await framework.bus.drain()
        pid = os.fork()
        if pid == 0:
            refused(lambda: framework.bus.publish("a"))
            refused(lambda: Framework())
            # The child shares the loop's descriptors: closing them would deafen the parent.
            os._exit(3)
        forker.codes.append(await asyncio.to_thread(wait_for, pid))
        for _ in range(50):
            await framework.bus.publish("a")
        await framework.bus.drain()
        assert forker.seen == 50, forker.seen
    assert forker.codes == [3, 3], forker.codes
    print("undisturbed")

asyncio.run(main())
""",
        tmp_path,
    )
    assert done.stdout == "undisturbed\n", done.stderr
    assert done.returncode == 0


def test_a_child_leaves_the_blocks_of_its_parent(tmp_path: Path) -> None:
    done = program(
        """
def fork():
    with EventBus() as bus:
        bus.subscribe("a", print)
        pid = os.fork()
        if pid == 0:
            sys.exit(5)
        assert wait_for(pid) == 5
    pid = os.fork()
    if pid:
        assert wait_for(pid) == 6
        return

    async def main():
        async with framework:
            pass

    refused(lambda: asyncio.run(main()))             # entering is refused, leaving is not
    asyncio.run(framework.__aexit__(None, None, None))
    asyncio.run(bus.__aexit__(None, None, None))
    sys.exit(6)

framework = Framework({"logging": {"console": False}})
fork()
""",
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_forked_before_the_first_use_is_free(tmp_path: Path) -> None:
    done = program(
        """
pid = os.fork()                                    # tiebeam is imported, and nothing has started
bus = EventBus()
bus.respond("r", lambda event: event.payload["n"] + 1)
answer = bus.request("r", {"n": 1}).wait(20)
bus.close_sync()
if pid == 0:
    sys.exit(answer)
assert wait_for(pid) == 2
assert answer == 2
""",
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_start_methods_of_multiprocessing(tmp_path: Path, method: str) -> None:
    done = program(
        """
import multiprocessing

def work(n):
    with EventBus() as bus:
        bus.respond("r", lambda event: event.payload["n"] + 1)
        return bus.request("r", {"n": n}).wait(20)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with EventBus() as bus:
        seen = []
        bus.subscribe("done", lambda event: seen.append(event.payload["n"]))
        with context.Pool(2) as pool:
            for n in pool.imap(work, range(10)):
                bus.publish("done", {"n": n})
            pool.close()
            pool.join()
        bus.drain_sync(20)
    assert seen == list(range(1, 11)), seen
    print("worked")
""",
        tmp_path,
        method,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "worked\n", "")


def test_multiprocessing_by_fork_says_what_to_do(tmp_path: Path) -> None:
    done = program(
        """
import multiprocessing

def work():
    bus.publish("a")

bus = EventBus()
process = multiprocessing.get_context("fork").Process(target=work)
process.start()
process.join(20)
print(process.exitcode)
""",
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "ForkedProcessError: this process was forked from process" in done.stderr
    assert '"spawn" or "forkserver"' in done.stderr
