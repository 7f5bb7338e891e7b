"""Each case of behaviour is played, or is listed with the reason why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from vectors import cases
from vectors.adapters import ADAPTERS
from vectors.cases import Case
from vectors.listed import CONTRADICTS, MISSING
from vectors.stance import Lacking

OWN = cases.read(cases.HERE)


def play(case: Case) -> None:
    """Play one case; one that is listed is skipped with its reason."""
    area = case["area"]
    adapter = ADAPTERS.get(area)
    if adapter is None:
        assert area in MISSING, f"there is no adapter for the area {area!r}"
        pytest.skip(f"missing: {MISSING[area]}")
    if case["id"] in CONTRADICTS:
        with pytest.raises(AssertionError):
            adapter(case)
        pytest.skip(f"otherwise defined: {CONTRADICTS[case['id']]}")
    lacking = what_it_lacks(adapter, case)
    if lacking is not None:
        assert area in MISSING, f"{area} needs {lacking}, and is not listed"
        pytest.skip(f"missing: {lacking}")


def what_it_lacks(adapter: Callable[[Case], None], case: Case) -> Lacking | None:
    """Play a case, and say what the rest of it needs, if there is a rest."""
    try:
        adapter(case)
    except Lacking as lacking:
        return lacking
    return None


@pytest.mark.parametrize("case", cases.all_cases(), ids=lambda case: str(case["id"]))
def test_case(case: Case) -> None:
    play(case)


def test_what_is_listed_is_there() -> None:
    areas = {case["area"] for case in OWN}
    assert areas >= MISSING.keys() | ADAPTERS.keys()
    assert {case["id"] for case in OWN} >= CONTRADICTS.keys()


def test_what_is_missing_is_missing() -> None:
    for area in MISSING.keys() & ADAPTERS.keys():
        of_area = [case for case in OWN if case["area"] == area]
        assert any(what_it_lacks(ADAPTERS[area], case) for case in of_area), (
            f"nothing is missing for {area}"
        )


def test_an_area_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(AssertionError, match="no adapter for the area 'astrology'"):
        play({"id": "as-001", "area": "astrology", "stance": "adopt"})


def test_cases_of_another_directory_are_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '{"schema": "resilience-vectors/1", "cases": [{"id": "as-001", "area": "astrology"}]}'
    (tmp_path / "more.json").write_text(text)
    monkeypatch.setenv("TIEBEAM_VECTORS", str(tmp_path))
    assert cases.all_cases() == [*OWN, {"id": "as-001", "area": "astrology"}]


def test_a_directory_without_cases_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIEBEAM_VECTORS", str(tmp_path / "nowhere"))
    with pytest.raises(AssertionError, match="there are no cases in"):
        cases.all_cases()
