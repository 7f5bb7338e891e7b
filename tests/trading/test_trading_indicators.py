from __future__ import annotations

import math

import pytest

from examples.trading.domain.indicators import Atr, Bollinger, Ema, Macd, Rsi, Sma

# The worked example of StockCharts' ChartSchool for the 14-day RSI (QQQQ closes).
QQQQ = [44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245, 45.8433, 46.0826]
QQQQ += [45.8931, 46.0328, 45.6140, 46.2820, 46.2820, 46.0028, 46.0328, 46.4116, 46.2222, 45.6439]
# ... and for the 10-day EMA (Intel closes).
INTEL = [22.27, 22.19, 22.08, 22.17, 22.18, 22.13, 22.23, 22.43, 22.24, 22.29, 22.15, 22.39, 22.38]


def test_sma_warms_up_then_slides():
    sma = Sma(3)
    assert [sma.update(x) for x in (1.0, 2.0, 3.0, 7.0)] == [None, None, 2.0, 4.0]


def test_sma_does_not_drift():
    sma = Sma(10)
    for _ in range(10):
        sma.update(1e16)
    for _ in range(10):
        sma.update(0.1)
    assert sma.value == 0.1


def test_ema_follows_the_published_example():
    ema = Ema(10)
    values = [ema.update(x) for x in INTEL]
    assert values[8] is None
    assert [round(v, 2) for v in values[9:]] == [22.22, 22.21, 22.24, 22.27]


def test_rsi_follows_the_published_example():
    rsi = Rsi(14)
    values = [rsi.update(x) for x in QQQQ]
    assert values[:14] == [None] * 14
    assert [round(v, 1) for v in values[14:]] == [70.5, 66.3, 66.5, 69.4, 66.4, 58.0]


def test_rsi_by_hand():
    rsi = Rsi(2)
    # gains 1, 0 and losses 0, 2: means 0.5 and 1.0; then a gain of 3: means 1.75 and 0.5
    assert [rsi.update(x) for x in (10.0, 11.0, 9.0)][-1] == pytest.approx(100 / 3)
    assert rsi.update(12.0) == pytest.approx(100 * 1.75 / 2.25)


@pytest.mark.parametrize(
    ("values", "expected"), [((1, 2, 3, 4), 100.0), ((4, 3, 2, 1), 0.0), ((5, 5, 5, 5), 50.0)]
)
def test_rsi_at_its_limits(values, expected):
    rsi = Rsi(3)
    assert [rsi.update(float(x)) for x in values][-1] == expected


def test_macd_on_a_straight_line_is_the_lag_between_the_averages():
    macd = Macd(3, 5, 2)
    values = [macd.update(float(x)) for x in range(12)]
    assert values[:5] == [None] * 5
    # An EMA seeded by an SMA lags a line of slope 1 by (n - 1) / 2 exactly: 2 - 1 = 1.
    assert values[5].line == pytest.approx(1.0)
    assert values[-1].line == pytest.approx(1.0)
    assert values[-1].histogram == pytest.approx(0.0, abs=1e-12)


def test_macd_refuses_periods_in_the_wrong_order():
    with pytest.raises(ValueError, match="shorter"):
        Macd(26, 12)


def test_bollinger_by_hand():
    bands = Bollinger(4, 2.0)
    value = [bands.update(x) for x in (2.0, 4.0, 4.0, 6.0)][-1]
    assert value.middle == 4.0
    assert value.upper == pytest.approx(4 + 2 * math.sqrt(2))
    assert value.lower == pytest.approx(4 - 2 * math.sqrt(2))
    assert value.percent_b == pytest.approx(0.5 + 2 / (4 * math.sqrt(2)))


def test_bollinger_without_movement():
    bands = Bollinger(2)
    bands.update(3.0)
    assert bands.update(3.0).percent_b == 0.5


def test_atr_by_hand():
    atr = Atr(3)
    bars = [(10, 8, 9), (12, 9, 11), (11, 7, 8), (9, 8.5, 9)]
    values = [atr.update(*map(float, bar)) for bar in bars]
    assert values[:2] == [None, None]
    assert values[2] == pytest.approx((2 + 3 + 4) / 3)  # ranges 2; max(3, 3, 0); max(4, 0, 4)
    assert values[3] == pytest.approx((3 * 2 + 1) / 3)  # range max(0.5, 1, 0.5) = 1


@pytest.mark.parametrize("make", [Sma, Ema, Rsi, Bollinger, Atr])
def test_periods_are_checked(make):
    with pytest.raises(ValueError, match="at least 1"):
        make(0)
