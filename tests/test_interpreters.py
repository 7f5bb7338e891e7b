"""Sub-interpreters: they are refused, and the main interpreter is not disturbed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import GUARD


def ends(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script],
        capture_output=True,
        text=True,
        timeout=GUARD,
    )


# The module has had three names; the way to run a string is the same in all of them.
INTERPRETERS = """
import sys, warnings
warnings.simplefilter("ignore")
try:
    import _interpreters as interpreters
    isolated = [interpreters.create(), interpreters.create("legacy")]
except ImportError:
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        sys.exit(77)
    isolated = [interpreters.create(isolated=True), interpreters.create(isolated=False)]

INSIDE = '''
try:
    import tiebeam
except ImportError as error:
    print("ImportError:", error, flush=True)
except BaseException as error:
    print("not that:", repr(error), flush=True)
else:
    print("imported", flush=True)
'''
"""


def in_sub_interpreters(script: str) -> subprocess.CompletedProcess[str]:
    done = ends(INTERPRETERS + script)
    if done.returncode == 77:
        pytest.skip("this interpreter has no _xxsubinterpreters")
    return done


@pytest.mark.parametrize("before", ["", "import tiebeam\n"])
def test_a_sub_interpreter_gets_an_import_error(before: str) -> None:
    """Threads from Rust can enter only the main interpreter."""
    done = in_sub_interpreters(
        f"{before}for one in isolated:\n    interpreters.run_string(one, INSIDE)\nexec(INSIDE)\n"
    )
    assert done.returncode == 0, done.stderr
    *refused, main = done.stdout.splitlines()
    assert main == "imported"
    assert len(refused) == 2
    for line in refused:
        assert line.startswith("ImportError:")
        assert "interpreter" in line


def test_the_main_interpreter_is_not_disturbed() -> None:
    done = in_sub_interpreters(
        "from tiebeam import EventBus\n"
        "bus = EventBus()\n"
        "bus.respond('r', lambda event: event.payload['n'])\n"
        "for one in isolated:\n"
        "    interpreters.run_string(one, INSIDE)\n"
        "    interpreters.destroy(one)\n"
        "print(bus.request('r', {'n': 5}).wait(20))\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "5"


def test_a_module_that_is_imported_anew_works_on() -> None:
    """Tests and notebooks throw modules away to have them read again."""
    done = ends("""
import asyncio, importlib, sys
import tiebeam._core
sys.modules.pop("tiebeam._core")
importlib.import_module("tiebeam._core")
from tiebeam import EventBus

async def main():
    async with EventBus() as bus:
        async def quick(event): return 1
        async def slow(event):
            await asyncio.sleep(0)
            return 2
        bus.respond("quick", quick)
        bus.respond("slow", slow)
        await bus.publish("a")
        print(await bus.request("quick"), await bus.request("slow"))

asyncio.run(main())
""")
    assert (done.returncode, done.stdout) == (0, "1 2\n"), done.stderr
