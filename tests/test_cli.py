"""The command line: what it prints, where it complains, and how it exits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import GUARD
from tiebeam.cli import main

FIXTURES = Path(__file__).parent / "fixtures" / "config"
"""The requirement's own two files, as they stand."""

NAMES = [
    "data_collection",
    "impact_factor",
    "technical_analysis",
    "pattern_recognition",
    "sentiment_analysis",
    "decision_engine",
    "virtual_trading",
    "notification",
    "dashboard",
    "authentication",
]

CLASSES = """
import os
from tiebeam import Component

class Part(Component):
    async def start(self):
        print("start", self.name, flush=True)

    async def stop(self):
        print("stop", self.name, flush=True)

""" + "\n".join(
    f'class C{number}(Part):\n    name = "{name}"\n' for number, name in enumerate(NAMES)
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory whose components are installed as entry points."""
    (tmp_path / "trading_parts.py").write_text(CLASSES)
    info = tmp_path / "trading_parts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trading-parts\nVersion: 1.0\n")
    points = [f"{name} = trading_parts:C{number}" for number, name in enumerate(NAMES)]
    (info / "entry_points.txt").write_text("[tiebeam.components]\n" + "\n".join(points) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in os.environ if name.startswith("TIEBEAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REDIS_CONNECTION_STRING", "redis://me:hunter2@localhost:6379")
    monkeypatch.setenv("EVENT_BUS_CONNECTION_STRING", "redis://me:hunter2@localhost:6379")
    yield tmp_path
    sys.modules.pop("trading_parts", None)


TWO_FILES = [str(FIXTURES / "system.yaml"), str(FIXTURES / "integration.yaml")]
IN_MEMORY = ["--set", "event_bus.implementation=in_memory"]


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_check_of_the_requirements_files(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *TWO_FILES, *IN_MEMORY]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "ok: 10 components, starting in this order: data_collection, impact_factor"
    )
    assert main(["check", *TWO_FILES, *IN_MEMORY, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["order"][:2] == ["data_collection", "impact_factor"]
    assert set(found["order"]) == set(NAMES)


def test_a_variable_that_is_not_set_is_named_with_its_place(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EVENT_BUS_CONNECTION_STRING")
    assert main(["check", *TWO_FILES, *IN_MEMORY]) == 2
    error = capsys.readouterr().err
    assert "integration.yaml:3" in error
    assert "EVENT_BUS_CONNECTION_STRING" in error
    assert "Traceback" not in error


def test_every_problem_has_its_line(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(
        site / "wrong.yaml",
        "event_bus:\n  batch_sise: 5\nhealth:\n  check_interval: -1\ncomponents:\n  nobody: {}\n",
    )
    assert main(["check", file]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "wrong.yaml:2: event_bus.batch_sise" in captured.err
    assert "did you mean" in captured.err
    assert "wrong.yaml:4: health.check_interval" in captured.err
    file = write(site / "wrong.yaml", "components:\n  nobody:\n    enabled: true\n")
    assert main(["check", file]) == 2
    assert "wrong.yaml:2: components.nobody: nothing is known" in capsys.readouterr().err


def test_errors_as_json(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(site / "wrong.yaml", "event_bus:\n  batch_sise: 5\n")
    assert main(["check", file, "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert any("wrong.yaml:2: event_bus.batch_sise" in line for line in found["problems"])


def test_a_file_that_is_none(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nowhere.yaml"]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err
    file = write(site / "torn.yaml", "system: [\n")
    assert main(["check", file]) == 2
    assert "torn.yaml:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["check"], ["config"], ["check", "--what", "a"]]
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: tiebeam" in capsys.readouterr().err


def test_config_show(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", *TWO_FILES]) == 0
    out = capsys.readouterr().out
    shown = json.loads(out)
    assert shown["system"]["name"] == "AI Crypto Trading System"
    assert shown["event_bus"]["channel_prefix"] == "crypto_trading"
    assert shown["error_handling"]["retry"]["initial_delay"] == 100
    assert "hunter2" not in out
    assert main(["config", "show", *TWO_FILES, "--path", "health.history_length"]) == 0
    assert capsys.readouterr().out == "100\n"


def test_config_show_with_origin(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["config", "show", *TWO_FILES, "--origin", "--set", "event_bus.batch_size=7"]
    assert main([*asked, "--path", "event_bus"]) == 0
    out = capsys.readouterr().out
    assert "event_bus.batch_size = 7" in out
    assert "--set event_bus.batch_size" in out
    assert f"over {FIXTURES / 'integration.yaml'}:6" in out
    assert "system.name" not in out
    assert "hunter2" not in out
    assert main(asked) == 0
    assert f"{FIXTURES / 'system.yaml'}:2" in capsys.readouterr().out


def test_no_secret_is_shown_by_its_path(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(
        site / "secret.yaml",
        "components:\n  data_collection:\n    credentials:\n      user: me\n    api_key: hunter2\n",
    )
    for path in ("components.data_collection.api_key", "components.data_collection.credentials"):
        for more in ([], ["--origin"]):
            assert main(["config", "show", file, "--path", path, *more]) == 0
            out = capsys.readouterr().out
            assert "hunter2" not in out
            assert '"me"' not in out


@pytest.mark.parametrize("more", [[], ["--origin"]])
def test_config_show_of_a_path_that_is_not_there(
    site: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    assert main(["config", "show", *TWO_FILES, "--path", "no.such", *more]) == 2
    assert "`no.such`" in capsys.readouterr().err


def test_graph(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", *TWO_FILES, *IN_MEMORY]) == 0
    assert sorted(capsys.readouterr().out.split()) == sorted(NAMES)
    assert main(["graph", *TWO_FILES, *IN_MEMORY, "--mermaid"]) == 0
    assert capsys.readouterr().out.startswith("flowchart TD\n")


def test_a_circle_is_an_error_with_its_circle(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "circle.py").write_text(
        "from tiebeam import Component\n"
        "class A(Component):\n    name = 'a'\n    depends_on = ['b']\n"
        "class B(Component):\n    name = 'b'\n    depends_on = ['a']\n"
    )
    file = write(
        site / "circle.yaml",
        'components:\n  a:\n    class: "circle:A"\n  b:\n    class: "circle:B"\n',
    )
    assert main(["check", file]) in (1, 2)
    error = capsys.readouterr().err
    assert "a -> b -> a" in error or "b -> a -> b" in error
    assert "Traceback" not in error


# -- run ----------------------------------------------------------------------------------


def tiebeam(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tiebeam", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])},
    )


def test_run_of_the_requirements_files(site: Path) -> None:
    with tiebeam("run", *TWO_FILES, *IN_MEMORY) as process:
        assert process.stdout is not None
        started = [process.stdout.readline().split() for _ in NAMES]
        assert [words[0] for words in started] == ["start"] * len(NAMES)
        assert {words[1] for words in started} == set(NAMES)
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=GUARD)
    assert process.returncode == 0, error
    assert {line.split()[1] for line in out.splitlines() if line.startswith("stop")} == set(NAMES)
    assert "SIGTERM: stopping in order" in error
    # The log file that system.yaml names, as JSON.
    lines = (site / "logs" / "system.log").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert any(record.get("component") == "data_collection" for record in records)
    assert "hunter2" not in "".join(lines)


FAILING = """
from tiebeam import Component

class Fails(Component):
    name = "fails"
    async def start(self):
        raise ConnectionError("no route to the exchange")

class Runs(Component):
    name = "runs"

class Ends(Component):
    name = "ends"
    def start(self):
        self.framework.request_stop(7)
"""


@pytest.mark.parametrize(
    ("names", "more", "code", "words"),
    [
        (["ends"], [], 7, ""),
        (["fails"], [], 1, "no route to the exchange"),
        (["fails", "ends"], [], 7, "no route to the exchange"),
        (["fails", "runs"], ["--fail-fast"], 1, "the system did not start"),
    ],
)
def test_exit_codes_of_run(
    site: Path, names: list[str], more: list[str], code: int, words: Any
) -> None:
    (site / "failing.py").write_text(FAILING)
    sections = "".join(f'  {name}:\n    class: "failing:{name.title()}"\n' for name in names)
    file = write(site / "system.yaml", "components:\n" + sections)
    with tiebeam("run", file, *more) as process:
        out, error = process.communicate(timeout=GUARD)
    assert process.returncode == code, error
    assert words in out + error
