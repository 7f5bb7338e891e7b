"""The notebook of the examples, and cells that are run again or interrupted, in a real kernel."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import GUARD

nbformat: Any = pytest.importorskip("nbformat")
nbclient: Any = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

FIRST_STEPS = Path(__file__).parents[1] / "examples" / "notebooks" / "first_steps.ipynb"

# The kernel's own machinery, not what runs in it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Kernel:
    """A notebook in a kernel of its own; cells may be added."""

    def __init__(self, notebook: Any) -> None:
        self.notebook = notebook
        self.client = nbclient.NotebookClient(notebook, timeout=GUARD, kernel_name="python3")

    def run(self, cell: Any) -> list[Any]:
        """Executes one cell; an error in it is an error of the test."""
        index = self.notebook.cells.index(cell)
        return list(self.client.execute_cell(cell, index).outputs)

    def add(self, source: str) -> Any:
        cell = nbformat.v4.new_code_cell(source)
        self.notebook.cells.append(cell)
        return cell

    def do(self, source: str) -> str:
        """What a new cell says, as text."""
        return text(self.run(self.add(source)))


def text(outputs: list[Any]) -> str:
    said = []
    for output in outputs:
        if output.output_type == "stream":
            said.append(output.text)
        elif "data" in output:
            said.append(output.data["text/plain"])
    return "".join(said).strip()


def html(outputs: list[Any]) -> str:
    return "".join(output.data.get("text/html", "") for output in outputs if "data" in output)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel(nbformat.v4.new_notebook())
    with made.client.setup_kernel():
        yield made


def test_first_steps_twice_in_one_kernel() -> None:
    notebook = nbformat.read(FIRST_STEPS, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), "commit it without"
    kernel = Kernel(notebook)
    with kernel.client.setup_kernel():
        for _ in range(2):
            outputs = {cell.source.splitlines()[-1]: kernel.run(cell) for cell in code}
            assert not any(
                o.output_type == "stream" and o.name == "stderr" for o in kernel_outputs(outputs)
            )
            averages = outputs['[event.payload["average"] for event in framework.get(Watch).seen]']
            assert text(averages) == "[38000.0, 38250.0, 38248.5]"
            request = 'await bus.request("analysis.count", {"symbol": "BTCUSDT"}, timeout=1.0)'
            assert text(outputs[request]) == "{'prices': 3}"
            event = html(outputs["framework.get(Watch).seen[-1]"])
            assert event.startswith("<details><summary><b>analysis.average</b>")
            assert "38248.5" in event.partition("</summary>")[0]
            assert "causation_id" in event
            books = html(outputs["bus"])
            assert "<b>notebook</b> open, 0 dead letters" in books
            assert "<td>watch.on_average</td><td>3</td><td>3</td>" in books
            assert "+ watch.on_average" in text(outputs['print(bus.explain("analysis.average"))'])
            letters = next(value for key, value in outputs.items() if key.startswith("[(letter."))
            assert text(letters) == "[('average.on_price', 'KeyError')]"
            system = html(outputs["framework"])
            assert "<td>average</td><td>running</td><td>warn</td>" in system
            assert text(outputs['report["stopped"]']) == "['watch', 'average']"


def kernel_outputs(outputs: dict[str, list[Any]]) -> Iterator[Any]:
    for of_cell in outputs.values():
        yield from of_cell


def test_a_cell_that_defines_a_handler_anew_replaces_it(kernel: Kernel) -> None:
    kernel.do("from tiebeam import EventBus\nbus = EventBus()\nseen = []")
    define = kernel.add(
        "version = globals().get('version', 0) + 1\n"
        "@bus.subscribe('a')\n"
        "async def collect(event, version=version):\n"
        "    seen.append(version)\n"
        "@bus.respond('r')\n"
        "def answer(event, version=version):\n"
        "    return version\n"
        "@bus.handle('c')\n"
        "def command(event, version=version):\n"
        "    seen.append(-version)\n"
        "for _ in range(2):\n"
        "    bus.subscribe('b', lambda event: seen.append('b'))\n"  # no name, no replacement
    )
    use = kernel.add(
        "seen.clear()\n"
        "for _ in range(2):\n"
        "    await bus.publish('a')\n"
        "    await bus.send('c')\n"
        "await bus.publish('b')\n"
        "await bus.drain()\n"
        "print(sorted(seen, key=str), [await bus.request('r') for _ in range(4)])"
    )
    for version in range(1, 4):
        kernel.run(define)
        seen = sorted([version, version, -version, -version] + ["b"] * 2 * version, key=str)
        assert text(kernel.run(use)) == f"{seen} {[version] * 4}"


def test_one_function_may_serve_twice(kernel: Kernel) -> None:
    """The second subscription of one definition is meant."""
    said = kernel.do(
        "from tiebeam import EventBus\n"
        "bus, seen = EventBus(), []\n"
        "async def collect(event):\n"
        "    seen.append(event.payload['n'])\n"
        "bus.subscribe('a', collect, where={'payload.n': 1})\n"
        "bus.subscribe('a', collect, where={'payload.n': 2})\n"
        "for n in range(4):\n"
        "    await bus.publish('a', {'n': n})\n"
        "await bus.drain()\n"
        "print(seen)"
    )
    assert said == "[1, 2]"


def test_a_system_that_is_started_anew_replaces_the_old_one(kernel: Kernel) -> None:
    kernel.do(
        "from tiebeam import Component, Framework, subscribe\n"
        "stopped, systems, count = [], [], 0\n"
        "quiet = {'logging': {'console': False}}"
    )
    start = kernel.add(
        "count += 1\n"
        "class Mine(Component):\n"
        "    number = count\n"
        "    async def stop(self):\n"
        "        stopped.append(self.number)\n"
        "framework = Framework(quiet, components=[Mine])\n"
        "systems.append(framework)\n"
        "await framework.start()\n"
        "print([system.state for system in systems], stopped)"
    )
    assert text(kernel.run(start)) == "['running'] []"
    assert text(kernel.run(start)) == "['stopped', 'running'] [1]"
    said = kernel.do(
        "class Another(Component): ...\n"
        "other = Framework(quiet, components=[Another])\n"
        "await other.start()\n"
        "print(framework.state, other.state)"
    )
    assert said == "running running"


BLOCKING = {
    "a request": "bus.request('hold', timeout=600).wait()",
    "a drain": "bus.publish('hold')\nbus.drain_sync()",
    "an await": "await bus.request('hold', timeout=600)",
}


@pytest.mark.parametrize("what", BLOCKING)
def test_a_kernel_that_is_interrupted_goes_on(kernel: Kernel, what: str, tmp_path: Path) -> None:
    kernel.do(
        "import asyncio, threading\n"
        "from pathlib import Path\n"
        "from tiebeam import Component, Framework, respond, subscribe\n"
        "class Holds(Component):\n"
        "    held = threading.Event()\n"
        f"    sign = Path({str(tmp_path / 'blocked')!r})\n"
        "    @respond('hold', concurrency=2)\n"
        "    def hold(self, event):\n"
        "        self.sign.touch()\n"
        "        self.held.wait()\n"
        "    @subscribe('hold')\n"
        "    def hold_too(self, event):\n"
        "        self.sign.touch()\n"
        "        self.held.wait()\n"
        "    @respond('alive')\n"
        "    async def alive(self, event):\n"
        "        return event.payload\n"
        "framework = Framework({'logging': {'console': False}}, components=[Holds])\n"
        "await framework.start()\n"
        "bus = framework.bus"
    )
    cell = kernel.add(BLOCKING[what])
    interrupter = threading.Thread(target=interrupt, args=(kernel, tmp_path / "blocked"))
    interrupter.start()
    with pytest.raises(
        nbclient.exceptions.CellExecutionError, match=r"KeyboardInterrupt|CancelledError"
    ):
        kernel.run(cell)
    interrupter.join()
    assert kernel.do("await bus.request('alive', {'n': 1})") == "{'n': 1}"
    said = kernel.do("Holds.held.set()\nreport = await framework.stop()\nreport['stopped']")
    assert said == "['holds']"


def interrupt(kernel: Kernel, sign: Path) -> None:
    """What the button does, as soon as the cell has come to where it blocks."""
    end = threading.Event()
    for _ in range(int(GUARD * 1000)):
        if sign.exists():
            break
        end.wait(0.001)
    asyncio.run(kernel.client.km.interrupt_kernel())
