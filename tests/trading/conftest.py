"""Makes the example importable; trades, candles and the folder of recorded trades for its tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.trading.domain.candles import Candle
from examples.trading.domain.trade import Side, Trade

MakeCandle = Callable[..., Candle]
MakeTrade = Callable[..., Trade]


@pytest.fixture
def candle() -> MakeCandle:
    def make(open_: float, high: float, low: float, close: float, seq: int = 0) -> Candle:
        start = seq * 60_000
        return Candle(seq, start, start + 60_000, open_, high, low, close, 1.0, 0.5, 1)

    return make


@pytest.fixture
def trade() -> MakeTrade:
    def make(time: int, price: float = 100.0, amount: float = 1.0, side: Side = "buy") -> Trade:
        return Trade(time, time, side, price, amount)

    return make


@pytest.fixture
def recorded() -> Callable[[str], Path]:
    """The path of a file of recorded trades; the test is skipped where it is not at hand."""

    def find(name: str) -> Path:
        beside = Path(__file__).resolve().parents[3] / "shared" / "data"
        folder = Path(os.environ.get("TIEBEAM_DATA") or beside)
        if not (folder / name).is_file():
            pytest.skip(f"no {name} in {folder}: name its folder in TIEBEAM_DATA")
        return folder / name

    return find
