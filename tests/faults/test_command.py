"""The command goes on where it was interrupted, and fails when anything was wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faults import command
from faults.report import Result
from faults.runs import PLANS, Plan, Scale


class _Rounds(Plan):
    """A plan of which only the rounds are counted."""

    carried_out: list[int] = []
    wrong: set[int] = set()

    def round(self, folder: Path, seed: int, scale: Scale) -> Result:
        folder.mkdir()
        if seed in self.wrong:
            raise TimeoutError("nothing came")
        self.carried_out.append(seed)
        return Result(self.name, seed, figures={"acked": 10, "recovery_s": seed / 10})


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> _Rounds:
    monkeypatch.setattr(_Rounds, "carried_out", [])
    monkeypatch.setattr(_Rounds, "wrong", set())
    scale = Scale(events=10, faults=0, rounds=4)
    whole = replace(PLANS["T1"], quick=scale, full=scale)
    return _Rounds(**vars(whole))


def test_rounds_that_are_done_are_not_done_again(plan: _Rounds, tmp_path: Path) -> None:
    first = command.carry_out(plan, plan.full, tmp_path, 7, minutes=0.0)
    assert (first.rounds, plan.carried_out) == (1, [7])
    (tmp_path / "seed-8").mkdir()  # it was interrupted in this one
    (tmp_path / "seed-8" / "p0.ledger").write_text("half of a li")
    whole = command.carry_out(plan, plan.full, tmp_path, 7, minutes=1.0)
    assert plan.carried_out == [7, 8, 9, 10]
    assert (whole.rounds, whole.figures) == (4, {"acked": 40, "recovery_s": 1.0})
    assert not (tmp_path / "seed-8" / "p0.ledger").exists()
    again = command.carry_out(plan, plan.full, tmp_path, 7, minutes=1.0)
    assert plan.carried_out == [7, 8, 9, 10]
    assert again == whole


def test_a_round_that_does_not_come_to_its_end_is_a_problem(
    plan: _Rounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(PLANS, "T1", plan)
    arguments = ["T1", "--seed", "7", "--folder", str(tmp_path)]
    assert command.main(arguments) == 0
    assert "all as it should be" in capsys.readouterr().out
    plan.wrong.add(20)
    assert command.main(["T1", "--seed", "20", "--json"]) == 1
    printed = capsys.readouterr().out
    assert Result.from_json(printed).problems == [
        "seed 20: it did not come to its end: nothing came"
    ]
