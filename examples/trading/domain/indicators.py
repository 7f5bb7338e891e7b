"""Streaming technical indicators.

Each takes one value at a time and answers `None` while it warms up. Window sums are added exactly
(`math.fsum`), so a long run does not drift.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


def _checked(period: int) -> int:
    if period < 1:
        raise ValueError(f"an indicator's period must be at least 1, not {period}")
    return period


class Sma:
    """Simple moving average: the mean of the last `period` values; ready after `period`."""

    def __init__(self, period: int) -> None:
        self._window: deque[float] = deque(maxlen=_checked(period))
        self.period = period
        self.value: float | None = None

    def update(self, x: float) -> float | None:
        self._window.append(x)
        if len(self._window) == self.period:
            self.value = math.fsum(self._window) / self.period
        return self.value


class Ema:
    """Exponential moving average with alpha = 2 / (period + 1).

    EMA_t = EMA_(t-1) + alpha * (x_t - EMA_(t-1)), seeded by the simple mean of the first `period`
    values (the convention of TA-Lib and StockCharts); ready after `period` values.
    """

    def __init__(self, period: int) -> None:
        self._seed = Sma(period)
        self._alpha = 2.0 / (period + 1)
        self.value: float | None = None

    def update(self, x: float) -> float | None:
        if self.value is None:
            self.value = self._seed.update(x)
        else:
            self.value += self._alpha * (x - self.value)
        return self.value


class _Wilder:
    """Wilder's smoothing: a mean of `period` values first, then (previous * (n-1) + x) / n."""

    def __init__(self, period: int) -> None:
        self._seed = Sma(period)
        self._period = period
        self.value: float | None = None

    def update(self, x: float) -> float | None:
        if self.value is None:
            self.value = self._seed.update(x)
        else:
            self.value = (self.value * (self._period - 1) + x) / self._period
        return self.value


class Rsi:
    """Relative strength index, 0 to 100.

    J. Welles Wilder, "New Concepts in Technical Trading Systems" (1978), chapter VI:
    RSI = 100 - 100 / (1 + average gain / average loss) with Wilder's smoothing of gains and
    losses; ready after `period + 1` values. 100 without any loss, 50 without any movement.
    """

    def __init__(self, period: int = 14) -> None:
        self._gain = _Wilder(_checked(period))
        self._loss = _Wilder(period)
        self._last: float | None = None
        self.value: float | None = None

    def update(self, x: float) -> float | None:
        last, self._last = self._last, x
        if last is None:
            return None
        gain = self._gain.update(max(x - last, 0.0))
        loss = self._loss.update(max(last - x, 0.0))
        if gain is not None and loss is not None:
            total = gain + loss
            self.value = 50.0 if total == 0.0 else 100.0 * gain / total
        return self.value


@dataclass(frozen=True, slots=True)
class MacdValue:
    """The three lines of MACD, in the unit of the price."""

    line: float
    signal: float
    histogram: float


class Macd:
    """Moving average convergence divergence (Gerald Appel).

    line = EMA(fast) - EMA(slow); signal = EMA(line); histogram = line - signal. Ready after
    `slow + signal - 1` values.
    """

    def __init__(self, fast: int = 12, slow: int = 26, signal: int = 9) -> None:
        if not fast < slow:
            raise ValueError(f"MACD's fast period {fast} must be shorter than its slow one {slow}")
        self._fast, self._slow, self._signal = Ema(fast), Ema(slow), Ema(signal)
        self.value: MacdValue | None = None

    def update(self, x: float) -> MacdValue | None:
        fast, slow = self._fast.update(x), self._slow.update(x)
        if fast is not None and slow is not None:
            line = fast - slow
            signal = self._signal.update(line)
            if signal is not None:
                self.value = MacdValue(line, signal, line - signal)
        return self.value


@dataclass(frozen=True, slots=True)
class BollingerValue:
    """The bands, in the unit of the price; `percent_b` is 0 at the lower, 1 at the upper one."""

    lower: float
    middle: float
    upper: float
    percent_b: float


class Bollinger:
    """Bollinger bands (John Bollinger): mean of `period` values -/+ `width` standard deviations.

    The population's standard deviation is taken, as Bollinger does; `percent_b` is 0.5 where the
    bands coincide. Ready after `period` values.
    """

    def __init__(self, period: int = 20, width: float = 2.0) -> None:
        self._window: deque[float] = deque(maxlen=_checked(period))
        self.period, self.width = period, width
        self.value: BollingerValue | None = None

    def update(self, x: float) -> BollingerValue | None:
        self._window.append(x)
        if len(self._window) == self.period:
            mean = math.fsum(self._window) / self.period
            deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in self._window) / self.period)
            half = self.width * deviation
            position = 0.5 if half == 0.0 else (x - mean + half) / (2.0 * half)
            self.value = BollingerValue(mean - half, mean, mean + half, position)
        return self.value


class Atr:
    """Average true range, in the unit of the price.

    Wilder (1978), chapter III: the true range is the largest of high - low, |high - last close|
    and |low - last close|, smoothed by Wilder's method. The first bar has no last close; its true
    range is high - low. Ready after `period` bars.
    """

    def __init__(self, period: int = 14) -> None:
        self._smooth = _Wilder(_checked(period))
        self._close: float | None = None

    @property
    def value(self) -> float | None:
        return self._smooth.value

    def update(self, high: float, low: float, close: float) -> float | None:
        last, self._close = self._close, close
        true_range = high - low
        if last is not None:
            true_range = max(true_range, abs(high - last), abs(low - last))
        return self._smooth.update(true_range)
