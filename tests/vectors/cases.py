"""Where the cases come from: the files beside this one, and those of a directory of the user's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["HERE", "Areas", "Case", "all_cases", "read"]

HERE = Path(__file__).parent

Case = dict[str, Any]
"""One case, as its file has it."""

Areas = dict[str, Callable[[Case], None]]
"""What plays the cases of an area."""


def read(directory: Path) -> list[Case]:
    """The cases of all files of a directory, in the order of their names."""
    cases: list[Case] = []
    for file in sorted(directory.glob("*.json")):
        document = json.loads(file.read_text(encoding="utf-8"))
        assert document["schema"] == "resilience-vectors/1", f"{file} is of another form"
        cases += document["cases"]
    return cases


def all_cases() -> list[Case]:
    """The cases of this package, and those of the directory that `TIEBEAM_VECTORS` names."""
    more = os.environ.get("TIEBEAM_VECTORS")
    if not more:
        return read(HERE)
    # A directory that is not there, or is empty, is a slip: its cases were meant to be played.
    found = read(Path(more))
    assert found, f"TIEBEAM_VECTORS: there are no cases in {more}"
    return read(HERE) + found
