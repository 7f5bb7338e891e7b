"""The wheel depends on nothing: it is imported where nothing else is installed."""

from __future__ import annotations

import subprocess
import sys

from conftest import GUARD

PROGRAM = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        first = name.partition(".")[0]
        if first != "tiebeam" and first not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nothing())
import tiebeam, tiebeam.cli, tiebeam.conformance, tiebeam.resilience, tiebeam.testing

with tiebeam.EventBus("bare") as bus:
    seen = []
    bus.subscribe("a", lambda event: seen.append(event.payload), run_in="inline")
    tiebeam.resilience.Retry().call(bus.publish, "a", 1)
    with tiebeam.resilience.CircuitBreaker("bare"):
        pass
assert seen == [1], seen
"""


def test_nothing_else_is_needed() -> None:
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=GUARD, check=False
    )
    assert program.returncode == 0, program.stderr
