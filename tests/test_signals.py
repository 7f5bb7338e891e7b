"""Ctrl-C and SIGTERM, sent to real processes; what they print says where they stand."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import GUARD

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

both = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
each_loop = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


class Program:
    """A script under way."""

    def __init__(self, script: Path, *arguments: str) -> None:
        # Into a file: nobody reads it while the program runs, and a full pipe would block it.
        self.stderr = script.with_suffix(".stderr")
        with self.stderr.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-u", str(script), *arguments],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        # One that hangs says where; the reads below then come to their end.
        self.guard = threading.Timer(GUARD, self.send, [signal.SIGABRT])
        self.guard.start()

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def wait_for(self, line: str) -> None:
        """Reads on until the program has printed this line."""
        assert self.process.stdout is not None
        for said in self.process.stdout:
            if said.strip() == line:
                return
        raise AssertionError(f"it ended without {line!r}: {self.stderr.read_text()}")

    def end(self) -> tuple[int, list[str], str]:
        """The exit code, and what it said from here on."""
        assert self.process.stdout is not None
        said = self.process.stdout.read().splitlines()
        code = self.process.wait()
        assert code != -signal.SIGABRT, self.stderr.read_text()
        return code, said, self.stderr.read_text()

    def clear(self) -> None:
        self.guard.cancel()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    begun: list[Program] = []

    def start(text: str, *arguments: str) -> Program:
        script = tmp_path / "program.py"
        script.write_text("import asyncio, signal, sys, threading, time\n" + text)
        program = Program(script, *arguments)
        begun.append(program)
        return program

    yield start
    for program in begun:
        program.clear()


SYSTEM = """
from tiebeam import Component, Framework, subscribe

if sys.argv[1] == "uvloop":
    import uvloop
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

class Feed(Component):
    async def start(self):
        self.task = asyncio.ensure_future(self.work())

    async def work(self):
        while True:
            await self.publish_event("price", {"n": 1})
            await asyncio.sleep(0.001)

    async def stop(self):
        self.task.cancel()
        print("feed stopped")

class Analysis(Component):
    depends_on = ["feed"]

    @subscribe("price")
    async def on_price(self, event):
        await asyncio.sleep(0)

    def stop(self):
        print("analysis stopped")

class Trader(Component):
    depends_on = ["analysis"]

    async def start(self):
        print("running")

    STOP

CONFIG = {"logging": {"console": False}, "service_registry": {"shutdown_timeout": 1.0}}
code = Framework(CONFIG, components=[Trader, Feed, Analysis]).run()
print("returned", code)
sys.exit(code)
"""

STOPS = {
    "at once": "async def stop(self):\n        print('trader stopped')",
    "waits": "async def stop(self):\n        print('stopping')\n        await asyncio.sleep(600)",
    "stubborn": (
        "async def stop(self):\n"
        "        print('stopping')\n"
        "        while True:\n"
        "            try:\n"
        "                await asyncio.sleep(600)\n"
        "            except asyncio.CancelledError:\n"
        "                pass"
    ),
    "thread": "def stop(self):\n        print('stopping')\n        time.sleep(600)",
    "blocks": "async def stop(self):\n        print('stopping')\n        time.sleep(600)",
    "raises": "async def stop(self):\n        raise OSError('the disk is full')",
}


def system(stop: str) -> str:
    return SYSTEM.replace("STOP", STOPS[stop])


@both
@each_loop
def test_the_first_signal_stops_in_order(start: Any, number: int, loop: str) -> None:
    program = start(system("at once"), loop)
    program.wait_for("running")
    program.send(number)
    code, said, stderr = program.end()
    assert code == 0
    assert said == ["trader stopped", "analysis stopped", "feed stopped", "returned 0"]
    name = signal.Signals(number).name
    assert stderr == f"{name}: stopping in order; once more to force\n"


@pytest.mark.parametrize("stop", ["waits", "thread"])
def test_a_component_that_does_not_stop_costs_no_more_than_the_deadline(
    start: Any, stop: str
) -> None:
    program = start(system(stop), "asyncio")
    program.wait_for("running")
    program.send(signal.SIGTERM)
    program.wait_for("stopping")
    begun = time.monotonic()
    code, said, _ = program.end()
    assert time.monotonic() - begun < 5  # the deadline is one second
    assert said == ["analysis stopped", "feed stopped", "returned 1"]
    assert code == 1


def test_a_component_that_fails_to_stop_shows_in_the_exit_code(start: Any) -> None:
    program = start(system("raises"), "asyncio")
    program.wait_for("running")
    program.send(signal.SIGINT)
    code, said, _ = program.end()
    assert said == ["analysis stopped", "feed stopped", "returned 1"]
    assert code == 1


@both
@each_loop
@pytest.mark.parametrize("stop", ["waits", "stubborn", "thread", "blocks"])
def test_a_second_signal_forces_the_end(start: Any, number: int, loop: str, stop: str) -> None:
    program = start(system(stop).replace("1.0", "600"), loop)
    program.wait_for("running")
    program.send(number)
    program.wait_for("stopping")
    begun = time.monotonic()
    program.send(number)
    code, _, stderr = program.end()
    assert time.monotonic() - begun < 3
    assert code == 128 + number
    name = signal.Signals(number).name
    assert stderr.splitlines()[-1].startswith(f"{name}: forced, still at work: ")
    assert "trader" in stderr
    assert "Traceback" not in stderr


@both
@each_loop
def test_a_signal_that_another_thread_took_forces_as_well(
    start: Any, number: int, loop: str
) -> None:
    """The kernel may hand a signal to any thread: the main thread then sleeps on."""
    take = """print('stopping')
        sys.setswitchinterval(600)  # who is seen without the GIL has given it away
        line = sys._getframe().f_lineno + 6
        def take():
            while sys._current_frames()[threading.main_thread().ident].f_lineno != line:
                time.sleep(0)
            signal.pthread_kill(threading.get_ident(), NUMBER)
        threading.Thread(target=take, daemon=True).start()
        time.sleep(600)"""
    text = system("blocks").replace("1.0", "600")
    text = text.replace("print('stopping')\n        time.sleep(600)", take)
    assert "pthread_kill" in text
    program = start(text.replace("NUMBER", str(int(number))), loop)
    program.wait_for("running")
    program.send(number)
    program.wait_for("stopping")
    code, _, stderr = program.end()
    assert code == 128 + number
    assert stderr.splitlines()[-1].endswith(": forced, still at work: trader, feed, analysis")


def test_a_loop_hears_of_its_own_signals_all_the_same(start: Any) -> None:
    program = start(
        """
import os, uvloop
from tiebeam import Component, Framework

class Own(Component):
    async def start(self):
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.seen)
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGUSR1)

    def seen(self):
        print("seen")
        os.kill(os.getpid(), signal.SIGTERM)

for policy in asyncio.DefaultEventLoopPolicy(), uvloop.EventLoopPolicy():
    asyncio.set_event_loop_policy(policy)
    print(Framework({"logging": {"console": False}}, components=[Own]).run())
print(threading.active_count(), signal.set_wakeup_fd(-1))
"""
    )
    assert program.end()[:2] == (0, ["seen", "0", "seen", "0", "1 -1"])


def test_what_a_forked_child_receives_is_its_own(start: Any) -> None:
    program = start(
        """
import os
from tiebeam import Component, Framework

class Parent(Component):
    async def start(self):
        self.framework.request_stop()
        for _ in range(3):
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
                os.write(write, b"r")
                while True:
                    signal.pause()
            os.read(read, 1)
            os.kill(pid, signal.SIGTERM)
            assert os.waitpid(pid, 0)[1] == 7 << 8
    async def stop(self):
        await asyncio.sleep(1.5)  # longer than the lookout waits for the main thread

code = Framework({"logging": {"console": False}}, components=[Parent]).run()
print("returned", code)
sys.exit(code)
"""
    )
    assert program.end()[:2] == (0, ["returned 0"])


def test_who_has_put_a_handler_of_their_own_there_sees_to_it(start: Any) -> None:
    program = start(
        """
import os
from tiebeam import Component, Framework

class Own(Component):
    async def start(self):
        signal.signal(signal.SIGINT, lambda *_: print("mine"))
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0)
        self.framework.request_stop()
    async def stop(self):
        await asyncio.sleep(1.5)  # longer than the lookout waits for the main thread

sys.exit(Framework({"logging": {"console": False}}, components=[Own]).run())
"""
    )
    code, said, _ = program.end()
    assert (code, said) == (0, ["mine", "mine"])


def test_a_descriptor_that_was_closed_meanwhile(start: Any) -> None:
    program = start(
        """
import socket
from tiebeam import Component, Framework

class Brief(Component):
    async def start(self):
        theirs.close()
        self.framework.request_stop()

theirs, other = socket.socketpair()
theirs.setblocking(False)
signal.set_wakeup_fd(theirs.fileno())
print(Framework({"logging": {"console": False}}, components=[Brief]).run())
print(threading.active_count(), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
"""
    )
    assert program.end()[:2] == (0, ["0", "1 True"])


def test_two_different_signals_force_as_well(start: Any) -> None:
    program = start(system("waits"), "asyncio")
    program.wait_for("running")
    program.send(signal.SIGINT)
    program.wait_for("stopping")
    program.send(signal.SIGTERM)
    assert program.end()[0] == 128 + signal.SIGTERM


def test_a_signal_during_the_start(start: Any) -> None:
    program = start(
        """
from tiebeam import Component, Framework

class First(Component):
    async def start(self): ...
    async def stop(self):
        print("first stopped")

class Slow(Component):
    depends_on = ["first"]
    async def start(self):
        print("starting")
        await asyncio.sleep(600)
    async def stop(self):
        print("slow stopped")

sys.exit(Framework({"logging": {"console": False}}, components=[Slow, First]).run())
"""
    )
    program.wait_for("starting")
    program.send(signal.SIGTERM)
    code, said, _ = program.end()
    assert (code, said) == (0, ["slow stopped", "first stopped"])


def test_handlers_that_were_there_before_are_there_afterwards(start: Any) -> None:
    program = start(
        """
from tiebeam import Component, Framework

class Brief(Component):
    async def start(self):
        self.framework.request_stop(4)

def mine(number, frame): ...
signal.signal(signal.SIGTERM, mine)
code = Framework({"logging": {"console": False}}, components=[Brief]).run()
assert signal.getsignal(signal.SIGTERM) is mine
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
result = []
def in_a_thread():
    result.append(Framework({"logging": {"console": False}}, components=[Brief]).run())
thread = threading.Thread(target=in_a_thread)
thread.start()
thread.join()
print(code, result)
"""
    )
    assert program.end() == (0, ["4 [4]"], "")


BLOCKING = {
    "request": "bus.request('hold', timeout=600).wait()",
    "drain": "bus.publish('hold'); bus.drain_sync()",
    "close": "bus.publish('hold'); bus.close_sync(600)",
    "publish": (
        "bus.subscribe('full', hold, capacity=1)\n"
        "    receipts = [bus.publish('full') for _ in range(3)]\n"
        "    receipts[-1].wait()"
    ),
}


@pytest.mark.parametrize("what", BLOCKING)
def test_ctrl_c_ends_a_blocking_call(start: Any, what: str) -> None:
    program = start(
        f"""
from tiebeam import EventBus

async def hold(event):
    await asyncio.Event().wait()

def tell_when_blocked():
    # The main thread gives the GIL away for good only where it blocks.
    frame = sys._current_frames()[threading.main_thread().ident]
    while frame.f_code.co_name != "block":
        frame = sys._current_frames()[threading.main_thread().ident]
    print("blocked", flush=True)

def block():
    {BLOCKING[what]}

bus = EventBus()
bus.respond("hold", hold, concurrency=10)
bus.subscribe("hold", hold, concurrency=10)
threading.Thread(target=tell_when_blocked, daemon=True).start()
try:
    block()
except KeyboardInterrupt:
    print("interrupted", flush=True)
bus.respond("alive", lambda event: event.payload)
print(bus.request("alive", {{"n": 1}}).wait(20))
"""
    )
    program.wait_for("blocked")
    begun = time.monotonic()
    program.send(signal.SIGINT)
    program.wait_for("interrupted")
    # It looks every 50 ms; the rest is for a machine that is busy with something else.
    assert time.monotonic() - begun < 1.0
    code, said, stderr = program.end()
    if what == "close":
        assert "ClosedError" in stderr  # closing has begun, and is not taken back
    else:
        assert (code, said, stderr) == (0, ["{'n': 1}"], "")


def test_a_handler_of_the_user_runs_during_a_blocking_call(start: Any) -> None:
    """SIGUSR1 with a handler that raises nothing: the call goes on."""
    program = start(
        """
from tiebeam import EventBus

opened = threading.Event()

def handler(event):
    opened.wait()
    return event.payload

def on_signal(number, frame):
    print("signal seen", flush=True)
    opened.set()

signal.signal(signal.SIGUSR1, on_signal)
bus = EventBus()
bus.respond("r", handler)
bus.respond("begun", lambda event: print("begun", flush=True))
receipt = bus.request("r", {"n": 1}, timeout=600)
bus.request("begun").wait()
print(receipt.wait())
"""
    )
    program.wait_for("begun")
    program.send(signal.SIGUSR1)
    assert program.end() == (0, ["signal seen", "{'n': 1}"], "")
