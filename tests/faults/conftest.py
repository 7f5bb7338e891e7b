"""The results of the runs go to the end of the report, whether they were good or bad."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from faults.report import Result

_results: list[Result] = []


@pytest.fixture
def seed() -> int:
    """A new one each time; ``FAULTS_SEED`` gives an old one again."""
    given = os.environ.get("FAULTS_SEED")
    return random.randrange(2**32) if given is None else int(given)


@pytest.fixture
def report() -> Callable[[Result], None]:
    """Have a result shown."""
    return _results.append


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _results:
        terminalreporter.section("faults")
        for result in _results:
            terminalreporter.write_line(str(result))
        _results.clear()
