"""The whole system on the in-memory bus: every agent, every event category, twice the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("tiebeam")
pytest.importorskip("pydantic")

REPLAYS = (
    sorted(Path(os.environ["TRADING_DATA"]).glob("*.csv")) if "TRADING_DATA" in os.environ else []
)


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs `python -m trading` in this process; its exit code and the JSON summary."""
    from trading.__main__ import arguments, environment, main

    monkeypatch.chdir(tmp_path)  # logs are written beside the working directory

    def once(*options):
        argv = [*options, "--json"]
        for name in environment(arguments(argv)):
            monkeypatch.setenv(name, "")  # so that what `main` sets is undone afterwards
        code = main(argv)
        out = capsys.readouterr().out
        return code, out

    return once


def test_a_simulated_day_runs_to_its_end_and_twice_the_same(run):
    code, out = run("--seed", "7")
    summary = json.loads(out)
    assert code == 0
    assert summary["complete"]
    assert summary["candles"] == sum(summary["signals"].values()) == 1440
    assert summary["trades"] > 0
    assert summary["commands"] == {"accepted": 2, "rejected": 1}
    assert run("--seed", "7") == (code, out)


def test_another_seed_is_another_day(run):
    first, second = (json.loads(run("--seed", seed)[1]) for seed in ("1", "2"))
    assert first["ledger_sha256"] != second["ledger_sha256"]


def test_a_file_that_turns_back_ends_the_run_with_its_line(run, tmp_path, capsys):
    path = tmp_path / "trades.csv"
    path.write_text("timestamp,trade_id,side,price,amount\n5,1,buy,1,1\n4,2,buy,1,1\n")
    code, out = run("--replay", str(path))
    assert code == 1
    assert f"{path}:3: timestamp 4 is before 5" in json.loads(out)["error"]


def test_a_file_that_is_not_there_starts_nothing(run, tmp_path):
    assert run("--replay", str(tmp_path / "none.csv")) == (2, "")


@pytest.mark.parametrize("path", REPLAYS, ids=lambda path: path.name)
def test_recorded_trades_twice_the_same(run, path):
    code, out = run("--replay", str(path))
    assert code == 0
    assert run("--replay", str(path)) == (code, out)


def test_no_agent_imports_another():
    from trading import components

    names = {p.stem for p in Path(components.__file__).parent.glob("*.py")} - {"__init__"}
    assert len(names) == 11
    for name in names:
        source = (Path(components.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
        imports = [line for line in source.splitlines() if line.startswith(("from .", "import "))]
        assert not [line for line in imports if line.startswith("from . ") or "components" in line]
        assert not [n for n in names for line in imports if line.startswith(f"from .{n} ")]
