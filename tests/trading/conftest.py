"""Makes the example importable as `trading`, and builds candles from four prices."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

from trading.domain.candles import Candle
from trading.domain.trade import Side, Trade

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
