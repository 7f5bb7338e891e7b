from __future__ import annotations

import pytest

from examples.trading.domain.candles import Candle, CandleBuilder


def test_a_bar_closes_with_the_first_trade_beyond_it(trade):
    builder = CandleBuilder(1000)
    assert builder.add(trade(5000, 10.0, 1.0)) is None
    assert builder.add(trade(5400, 12.0, 2.0, "sell")) is None
    assert builder.add(trade(5999, 9.0, 4.0)) is None
    assert builder.add(trade(6000, 11.0)) == Candle(
        0, 5000, 6000, 10.0, 12.0, 9.0, 9.0, 7.0, 5.0, 3
    )
    assert builder.seq == 1


def test_bars_without_trades_do_not_exist_and_numbers_have_no_gaps(trade):
    builder = CandleBuilder(1000)
    builder.add(trade(0))
    assert builder.add(trade(7500)).seq == 0
    last = builder.flush()
    assert (last.seq, last.open_time, last.close_time) == (1, 7000, 8000)
    assert builder.flush() is None


def test_the_bar_is_aligned_to_the_epoch_not_to_the_first_trade(trade):
    builder = CandleBuilder(60_000)
    builder.add(trade(1_570_752_011_620))
    assert builder.flush().open_time == 1_570_752_000_000


def test_a_trade_before_the_open_bar_is_refused_with_advice(trade):
    builder = CandleBuilder(1000)
    builder.add(trade(2000))
    with pytest.raises(ValueError, match="sort the trades by time"):
        builder.add(trade(1999))


def test_an_interval_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        CandleBuilder(0)


def test_a_candle_survives_its_payload(candle):
    bar = candle(10.0, 15.0, 8.0, 12.0, seq=3)
    assert Candle.from_payload({"symbol": "X", **bar.to_payload()}) == bar


def test_shadows_and_body(candle):
    bar = candle(10.0, 15.0, 8.0, 12.0)
    assert (bar.body, bar.span, bar.upper_shadow, bar.lower_shadow) == (2.0, 7.0, 3.0, 2.0)
    assert bar.bullish
    assert not bar.bearish
