"""Impact factors: how strongly trading moves the price, and how wild the market is."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from .trade import Trade


@dataclass(frozen=True, slots=True)
class Factors:
    """The factors at the end of one bucket; all are 0 (and `risk_scale` 1) during warm-up."""

    kyle_lambda: float
    """Log return per unit of signed base volume: the slope of a rolling regression (Kyle,
    "Continuous Auctions and Insider Trading", Econometrica 1985)."""
    realised_volatility: float
    """Square root of the sum of squared log returns over the window (Andersen and Bollerslev
    1998); per window, not annualised."""
    relative_volume: float
    """This bucket's base volume over the mean of the window before it."""
    amihud: float
    """Mean of |log return| per unit of quote volume (Amihud, "Illiquidity and Stock Returns",
    2002)."""
    score: float
    """The return that the bucket's flow explains, in standard deviations, squashed to -1..1."""
    risk_scale: float
    """What part of a full position the volatility allows, 0 to 1: usual over present."""
    ready: bool


WARMING_UP = Factors(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, False)


class Impact:
    """Rolling factors over the last `window` buckets (at least 3).

    `baseline` is the number of buckets of the slow average of the volatility that `risk_scale`
    compares with.
    """

    def __init__(self, *, window: int = 60, baseline: int = 240) -> None:
        if window < 3:
            raise ValueError(f"the window must hold at least 3 buckets, not {window}")
        self._window = window
        self._alpha = 2.0 / (baseline + 1)
        self._returns: deque[float] = deque(maxlen=window)
        self._flows: deque[float] = deque(maxlen=window)
        self._volumes: deque[float] = deque(maxlen=window)
        self._illiquidity: deque[float] = deque(maxlen=window)
        self._usual: float | None = None
        self._last_close: float | None = None
        self._close = self._flow = self._volume = self._quote = 0.0

    def add(self, trade: Trade) -> None:
        """Take one trade into the open bucket."""
        self._close = trade.price
        self._flow += trade.signed_amount
        self._volume += trade.amount
        self._quote += trade.amount * trade.price

    def close(self) -> Factors:
        """Close the bucket and compute its factors."""
        last, self._last_close = self._last_close, self._close
        flow, volume, quote = self._flow, self._volume, self._quote
        self._flow = self._volume = self._quote = 0.0
        if last is None:
            return WARMING_UP
        mean_volume = math.fsum(self._volumes) / len(self._volumes) if self._volumes else 0.0
        change = math.log(self._close / last)
        self._returns.append(change)
        self._flows.append(flow)
        self._volumes.append(volume)
        self._illiquidity.append(abs(change) / quote if quote > 0.0 else 0.0)
        if len(self._returns) < self._window:
            return WARMING_UP
        volatility = math.sqrt(math.fsum(r * r for r in self._returns))
        if self._usual is None:
            self._usual = volatility
        self._usual += self._alpha * (volatility - self._usual)
        slope = regression_slope(self._flows, self._returns)
        per_bucket = volatility / math.sqrt(self._window)
        return Factors(
            kyle_lambda=slope,
            realised_volatility=volatility,
            relative_volume=volume / mean_volume if mean_volume > 0.0 else 0.0,
            amihud=math.fsum(self._illiquidity) / self._window,
            score=math.tanh(slope * flow / per_bucket) if per_bucket > 0.0 else 0.0,
            risk_scale=min(1.0, self._usual / volatility) if volatility > 0.0 else 1.0,
            ready=True,
        )


def regression_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Ordinary least squares slope of y on x, with intercept; 0 where x does not vary."""
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    variance = math.fsum((a - mean_x) ** 2 for a in x)
    if variance == 0.0:
        return 0.0
    return math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / variance
