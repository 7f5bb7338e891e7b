"""The technical view of one candle: a trend, a momentum and a stretch, blended to one score."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .candles import Candle
from .indicators import Atr, Bollinger, Ema, Macd, Rsi


@dataclass(frozen=True, slots=True)
class Periods:
    """Lookbacks of the indicators, in candles."""

    fast: int = 20
    slow: int = 60
    rsi: int = 14
    bollinger: int = 20
    atr: int = 14


class TechnicalModel:
    """Feeds every indicator and scores trend-following, -1 (sell) to 1 (buy).

    The trend counts half: the distance of the moving averages in average true ranges. MACD's
    histogram counts three tenths, the RSI's distance from 50 two tenths. Where the price stands
    outside its Bollinger bands, the score is damped: a stretched move is late to join.
    """

    def __init__(self, periods: Periods | None = None) -> None:
        p = periods if periods is not None else Periods()
        if not p.fast < p.slow:
            raise ValueError(f"the fast period {p.fast} must be shorter than the slow {p.slow}")
        self._fast, self._slow = Ema(p.fast), Ema(p.slow)
        self._rsi, self._macd = Rsi(p.rsi), Macd()
        self._bollinger, self._atr = Bollinger(p.bollinger), Atr(p.atr)

    def update(self, candle: Candle) -> dict[str, float | None]:
        """The indicators after `candle`, and `score`: `None` until all of them are warm."""
        close = candle.close
        fast, slow = self._fast.update(close), self._slow.update(close)
        rsi, macd = self._rsi.update(close), self._macd.update(close)
        bands = self._bollinger.update(close)
        atr = self._atr.update(candle.high, candle.low, close)
        score: float | None = None
        if None not in (fast, slow, rsi, atr) and macd is not None and bands is not None:
            assert fast is not None
            assert slow is not None
            assert rsi is not None
            assert atr is not None
            unit = atr if atr > 0.0 else close * 1e-6
            trend = math.tanh((fast - slow) / (2.0 * unit))
            momentum = math.tanh(macd.histogram / unit)
            score = 0.5 * trend + 0.3 * momentum + 0.2 * (rsi - 50.0) / 50.0
            if not 0.0 <= bands.percent_b <= 1.0:
                score *= 0.5
        return {
            "ema_fast": fast,
            "ema_slow": slow,
            "rsi": rsi,
            "macd": macd.line if macd else None,
            "macd_signal": macd.signal if macd else None,
            "percent_b": bands.percent_b if bands else None,
            "atr": atr,
            "score": score,
        }
