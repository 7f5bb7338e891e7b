"""The streaming computations against the textbook's formulas over whole series.

The other side is written with pandas and NumPy, or in exact fractions, and shares no code with
the example.
"""

from __future__ import annotations

import math
import random
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from examples.trading.domain.candles import CandleBuilder
from examples.trading.domain.impact import Impact
from examples.trading.domain.indicators import Atr, Bollinger, Ema, Macd, Rsi, Sma
from examples.trading.domain.portfolio import Costs, Portfolio
from examples.trading.domain.sentiment import Sentiment
from examples.trading.domain.trade import Trade


@pytest.fixture(params=range(3))
def closes(request):
    steps = np.random.default_rng(request.param).normal(0.0, 0.01, 300)
    return pd.Series(100.0 * np.exp(np.cumsum(steps)))


def streamed(indicator, values):
    return pd.Series([math.nan if (v := indicator.update(float(x))) is None else v for x in values])


def same(ours, textbook):
    pd.testing.assert_series_equal(ours, textbook, check_names=False, rtol=1e-9)


def seeded(values, period, alpha):
    """Exponential smoothing that begins with the mean of the first `period` values."""
    values = values.dropna()
    start = values.iloc[:period].mean()
    rest = pd.concat([pd.Series([start]), values.iloc[period:]], ignore_index=True)
    smooth = rest.ewm(alpha=alpha, adjust=False).mean()
    smooth.index = values.index[period - 1 :]
    return smooth


def ema(values, period):
    return seeded(values, period, 2.0 / (period + 1)).reindex(values.index)


def wilder(values, period):
    return seeded(values, period, 1.0 / period).reindex(values.index)


@pytest.mark.parametrize("period", [1, 5, 14, 50])
def test_averages(closes, period):
    same(streamed(Sma(period), closes), closes.rolling(period).mean())
    same(streamed(Ema(period), closes), ema(closes, period))


@pytest.mark.parametrize("period", [2, 14])
def test_rsi(closes, period):
    change = closes.diff()
    gain, loss = wilder(change.clip(lower=0), period), wilder(-change.clip(upper=0), period)
    same(streamed(Rsi(period), closes), 100 - 100 / (1 + gain / loss))


def test_macd(closes):
    line = ema(closes, 12) - ema(closes, 26)
    signal = ema(line, 9)
    macd = Macd()
    found = [macd.update(x) for x in closes]
    assert found[:33] == [None] * 33
    wanted = pd.DataFrame({"line": line, "signal": signal, "histogram": line - signal})[33:]
    for name in wanted:
        same(pd.Series([getattr(v, name) for v in found[33:]], index=wanted.index), wanted[name])


def test_bollinger(closes):
    bands = Bollinger(20, 2.0)
    found = [bands.update(x) for x in closes][19:]
    middle, spread = closes.rolling(20).mean()[19:], 2.0 * closes.rolling(20).std(ddof=0)[19:]
    same(pd.Series([v.upper for v in found], index=middle.index), middle + spread)
    same(pd.Series([v.lower for v in found], index=middle.index), middle - spread)
    position = (closes[19:] - (middle - spread)) / (2.0 * spread)
    same(pd.Series([v.percent_b for v in found], index=middle.index), position)


def test_average_true_range(closes):
    rng = np.random.default_rng(1)
    high, low = closes + rng.uniform(0, 2, len(closes)), closes - rng.uniform(0, 2, len(closes))
    last = closes.shift()
    ranges = pd.concat([high - low, (high - last).abs(), (low - last).abs()], axis=1).max(axis=1)
    atr = Atr(14)
    found = [atr.update(*bar) for bar in zip(high, low, closes, strict=True)]
    same(pd.Series(found, dtype=float), wilder(ranges, 14))


@pytest.fixture
def trades():
    rng = random.Random(5)
    time, price, found = 1_700_000_000_000, 100.0, []
    for number in range(4000):
        time += rng.choice([0, 0, 200, 900, 5_000, 90_000])
        price = round(price * math.exp(rng.gauss(0, 0.001)), 2)
        amount = rng.randint(1, 9) / 4
        found.append(Trade(time, number, rng.choice(["buy", "sell"]), price, amount))
    return found


@pytest.fixture
def frame(trades):
    rows = [(t.event_time, t.side, t.price, t.amount) for t in trades]
    return pd.DataFrame(rows, columns=["time", "side", "price", "amount"])


def bars(frame, interval_ms=60_000):
    return frame.groupby(frame["time"] // interval_ms)


def test_candles(trades, frame):
    builder = CandleBuilder(60_000)
    found = [c for t in trades if (c := builder.add(t)) is not None]
    found.append(builder.flush())
    wanted = bars(frame)["price"].ohlc()
    assert [(c.open, c.high, c.low, c.close) for c in found] == list(wanted.itertuples(index=False))
    assert [c.open_time for c in found] == list(wanted.index * 60_000)
    assert [c.volume for c in found] == list(bars(frame)["amount"].sum())
    bought = bars(frame.assign(amount=frame["amount"].where(frame["side"] == "buy", 0.0)))
    assert [c.buy_volume for c in found] == list(bought["amount"].sum())
    assert [c.trades for c in found] == list(bars(frame).size())


def bucketed(consumer, trades, interval_ms=60_000):
    """What `consumer` says at the end of each bar of trades."""
    found, last = [], trades[0].event_time // interval_ms
    for trade in trades:
        if trade.event_time // interval_ms != last:
            found.append(consumer.close())
            last = trade.event_time // interval_ms
        consumer.add(trade)
    return [*found, consumer.close()]


def test_impact_factors(trades, frame):
    window = 30
    found = bucketed(Impact(window=window), trades)
    sign = frame["side"].map({"buy": 1.0, "sell": -1.0})
    frame = frame.assign(flow=sign * frame["amount"], quote=frame["price"] * frame["amount"])
    close = bars(frame)["price"].last().reset_index(drop=True)
    flow, quote = (bars(frame)[k].sum().reset_index(drop=True) for k in ("flow", "quote"))
    returns = np.log(close).diff()
    for end in (window, window + 7, len(close) - 1):
        r, f = returns[end - window + 1 : end + 1], flow[end - window + 1 : end + 1]
        factors = found[end]
        assert factors.kyle_lambda == pytest.approx(np.polyfit(f, r, 1)[0])
        assert factors.realised_volatility == pytest.approx(math.sqrt((r**2).sum()))
        assert factors.amihud == pytest.approx((r.abs() / quote[r.index]).mean())


def test_sentiment(trades, frame):
    found = bucketed(Sentiment(half_life_ms=300_000, window=30), trades)
    ends = list(bars(frame)["time"].max())
    counts = bars(frame).size().reset_index(drop=True)
    for bar in (0, 40, len(ends) - 1):
        past = frame[frame["time"] <= ends[bar]]
        weight = past["amount"] * 0.5 ** ((ends[bar] - past["time"]) / 300_000)
        buys, sells = weight[past["side"] == "buy"].sum(), weight[past["side"] == "sell"].sum()
        imbalance = (buys - sells) / (buys + sells)
        assert found[bar].imbalance == pytest.approx(imbalance)
        if bar >= 30:
            before = counts[bar - 30 : bar]
            z = (counts[bar] - before.mean()) / before.std(ddof=1)
            assert found[bar].intensity == pytest.approx(z)
            assert found[bar].score == pytest.approx(imbalance / (1 + math.exp(-z)))


@pytest.mark.parametrize("seed", range(5))
def test_profit_fees_and_drawdown_in_exact_fractions(seed):
    rng = random.Random(seed)
    book = Portfolio(Decimal(10_000), Costs(fee_bps=Decimal(4), slippage_bps=Decimal(1)))
    cash, held, average, realised, fees = map(Fraction, (10_000, 0, 0, 0, 0))
    equity = [cash]
    for seq in range(300):
        price = Decimal(rng.randint(9_000, 11_000)) / 100
        quantity = Decimal(rng.randint(-50, 50)) / 10
        if seq % 3 == 0 and held + Fraction(quantity) >= 0 and quantity:
            book.execute(quantity, price, seq=seq, event_time=seq)
            q = Fraction(quantity)
            paid = Fraction(price) * (1 + Fraction(1 if q > 0 else -1, 10_000))
            fee = abs(q) * paid * Fraction(4, 10_000)
            if q > 0:
                average = (average * held + paid * q) / (held + q)
            else:
                realised += -q * (paid - average)
            held, cash, fees = held + q, cash - q * paid - fee, fees + fee
        book.mark(price)
        equity.append(cash + held * Fraction(price))
    near = Fraction(1, 10**8)  # the book rounds quotients to 12 digits
    assert book.ledger
    assert abs(Fraction(book.cash) - cash) < near
    assert abs(Fraction(book.realised) - realised) < near
    assert abs(Fraction(book.fees) - fees) < near
    assert abs(Fraction(book.equity(price)) - equity[-1]) < near
    assert abs(Fraction(book.unrealised(price)) - held * (Fraction(price) - average)) < near
    falls = [1 - now / max(equity[: i + 1]) for i, now in enumerate(equity)]
    assert abs(Fraction(book.max_drawdown) - max(falls)) < near
