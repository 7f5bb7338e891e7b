from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from examples.trading.domain.technical import Periods, TechnicalModel

SHORT = Periods(fast=3, slow=6, rsi=5, bollinger=5, atr=5)


def scores(candle, closes):
    model = TechnicalModel(SHORT)
    return [model.update(candle(c, c + 1.0, c - 1.0, c))["score"] for c in map(float, closes)]


def test_no_score_until_every_indicator_is_warm(candle):
    result = scores(candle, range(100, 140))
    assert result[:33] == [None] * 33  # MACD is the last: 26 + 9 - 1 candles
    assert None not in result[33:]


def test_it_follows_the_trend_both_ways(candle):
    up = scores(candle, range(100, 160))[-1]
    down = scores(candle, range(160, 100, -1))[-1]
    assert up > 0.3
    assert down == pytest.approx(-up)


def test_a_market_that_stands_still_says_nothing(candle):
    assert scores(candle, [100.0] * 40)[-1] == 0.0


def test_the_periods_are_checked():
    with pytest.raises(ValueError, match="shorter"):
        TechnicalModel(Periods(fast=60, slow=20))


def test_the_score_is_the_blend_that_it_says(candle):
    rng, price, stretched = random.Random(2), 100.0, []
    # Of five values, none is two deviations from their mean.
    model = TechnicalModel(replace(SHORT, bollinger=20))
    for _ in range(200):
        price *= math.exp(rng.gauss(0.0, 0.01))
        now = model.update(candle(price, price + 1.0, price - 1.0, price))
        if now["score"] is None:
            continue
        trend = math.tanh((now["ema_fast"] - now["ema_slow"]) / (2 * now["atr"]))
        momentum = math.tanh((now["macd"] - now["macd_signal"]) / now["atr"])
        blend = 0.5 * trend + 0.3 * momentum + 0.2 * (now["rsi"] / 50 - 1)
        stretched.append(not 0 <= now["percent_b"] <= 1)
        assert now["score"] == pytest.approx(blend / 2 if stretched[-1] else blend)
    assert set(stretched) == {True, False}
