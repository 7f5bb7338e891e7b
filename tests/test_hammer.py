"""No deadlock between the GIL and the locks of the core: many threads do everything at once.

In a process of its own, which faulthandler ends with every thread's stack if it hangs.
``TIEBEAM_HAMMER`` sets for how many seconds it goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SECONDS = float(os.environ.get("TIEBEAM_HAMMER", "3"))

PROGRAM = """
import asyncio, faulthandler, logging, sys, threading, time
from tiebeam import Component, Framework, TiebeamError, on_config, subscribe

seconds, path = float(sys.argv[1]), sys.argv[2]
faulthandler.dump_traceback_later(seconds + 60, exit=True)
sys.setswitchinterval(1e-5)
log = logging.getLogger("hammer")
errors, rounds, changes = [], [0] * 8, []


class Agent(Component):
    name = "agent"
    config_schema = {"type": "object", "properties": {"number": {"type": "integer"}}}

    @subscribe("a.*", run_in="inline")
    def on_inline(self, event):
        log.debug("inline %s", event.payload)

    @subscribe("a.#")
    def on_thread(self, event):
        log.debug("thread %s", event.payload)

    @subscribe("a.#")
    async def on_loop(self, event):
        log.debug("loop %s", event.payload)

    @on_config("components.agent.number")
    def on_number(self, path, old, new):
        changes.append(new)


def write(number):
    with open(path, "w") as file:
        file.write(
            "system: {name: hammer}\\n"
            "logging: {level: debug, console: false, file: %s.log}\\n"
            "event_bus: {overflow: drop_oldest, capacity: 100}\\n"
            "components: {agent: {number: %d}}\\n" % (path, number)
        )


def work(bus, number, until):
    try:
        while time.monotonic() < until:
            rounds[number] += 1
            subscription = bus.subscribe("a.*", lambda event: log.info("%s", event.payload))
            for n in range(20):
                bus.publish(f"a.{number}", {"n": n})
                log.debug("published %d", n)
            with bus.subscribe("a.#", lambda event: None, run_in="inline"):
                bus.publish("a.inline").wait(30)
            assert bus.books().balanced
            bus.explain("a.b")
            repr(bus)
            subscription.cancel()
    except BaseException as error:
        errors.append(error)


async def main():
    write(0)
    async with Framework.from_config(path, components=[Agent()]) as framework:
        until = time.monotonic() + seconds
        threads = [
            threading.Thread(target=work, args=(framework.bus, number, until))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        number = 0
        while any(thread.is_alive() for thread in threads):
            number += 1
            write(number)
            await framework.reload()
            assert framework.configuration.get("components.agent.number") == number
            await asyncio.sleep(0.005)
        for thread in threads:
            thread.join()
        assert not errors, errors[0]
        await framework.bus.drain()
        assert framework.bus.books().balanced
        assert changes[-1] == number, (changes[-3:], number)
    assert all(rounds), rounds
    print(sum(rounds), number)


asyncio.run(main())
"""


def test_threads_that_publish_subscribe_and_log_while_configuration_changes(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", PROGRAM, str(SECONDS), str(tmp_path / "config.yaml")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=SECONDS + 120)
    assert done.returncode == 0, done.stderr[-4000:]
    rounds, reloads = map(int, done.stdout.split())
    assert rounds >= 8
    assert reloads >= 1
