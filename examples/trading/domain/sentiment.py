"""Sentiment from order flow: who takes, how much, and how often."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from .trade import Trade


@dataclass(frozen=True, slots=True)
class SentimentReading:
    """The mood at the end of one bucket of trades."""

    imbalance: float
    """(bought - sold) / (bought + sold) of decayed taker volume, -1 to 1 (Cont, Kukanov and
    Stoikov, "The Price Impact of Order Book Events", 2014, reduced to trades)."""
    intensity: float
    """Trades in this bucket, as a z-score against the buckets before it; 0 during warm-up."""
    score: float
    """The imbalance, weighted by a logistic of the intensity: a mood among few counts less."""
    ready: bool


class Sentiment:
    """Decayed taker flow in event time: a trade's weight halves every `half_life_ms`.

    Trades must come in order of event time. `window` is the number of earlier buckets that the
    intensity is compared with, at least 2; readings are `ready` once there are so many.
    """

    def __init__(self, *, half_life_ms: int = 300_000, window: int = 30) -> None:
        if half_life_ms <= 0:
            raise ValueError(f"the half-life must be positive, not {half_life_ms} ms")
        if window < 2:
            raise ValueError(f"the window must hold at least 2 buckets, not {window}")
        self.half_life_ms = half_life_ms
        self._counts: deque[int] = deque(maxlen=window)
        self._window = window
        self._bought = self._sold = 0.0
        self._time: int | None = None
        self._trades = 0

    def add(self, trade: Trade) -> None:
        """Take one trade into the open bucket."""
        if self._time is not None:
            decay = 0.5 ** ((trade.event_time - self._time) / self.half_life_ms)
            self._bought *= decay
            self._sold *= decay
        self._time = trade.event_time
        if trade.side == "buy":
            self._bought += trade.amount
        else:
            self._sold += trade.amount
        self._trades += 1

    def close(self) -> SentimentReading:
        """Close the bucket and read the mood; decaying further would not change the ratio."""
        total = self._bought + self._sold
        imbalance = (self._bought - self._sold) / total if total > 0.0 else 0.0
        ready = len(self._counts) == self._window
        intensity = _z_score(self._trades, self._counts) if ready else 0.0
        self._counts.append(self._trades)
        self._trades = 0
        weight = 1.0 / (1.0 + math.exp(-intensity))
        return SentimentReading(imbalance, intensity, imbalance * weight, ready)


def _z_score(x: int, history: deque[int]) -> float:
    """Distance of `x` from the mean in sample standard deviations, within -6 and 6."""
    mean = math.fsum(history) / len(history)
    variance = math.fsum((v - mean) ** 2 for v in history) / (len(history) - 1)
    if variance == 0.0:
        return 0.0
    return max(-6.0, min(6.0, (x - mean) / math.sqrt(variance)))
