"""The benchmark runs, counts right and says what it measured; how fast is no test's affair."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("blinker", reason="a peer of the benchmark")

RUN = Path(__file__).resolve().parents[1] / "benches" / "python" / "run.py"


def test_a_tiny_run_counts_every_event(tmp_path):
    file = tmp_path / "figures.json"
    command = [sys.executable, "-W", "error", str(RUN), "--events", "50", "--rounds", "3"]
    ended = subprocess.run(
        [*command, "--json", str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    report = json.loads(file.read_text())
    assert [len(figures) for figures in report["figures"].values()] == [2, 3]
    for figures in report["figures"].values():
        for name, figure in figures.items():
            assert name in ended.stdout
            assert figure["handled"] == 50 * (3 + 2)
            assert len(figure["rounds"]) == 3
            assert figure["min"] <= figure["median"] <= figure["max"]
