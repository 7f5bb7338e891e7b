"""Time bars from trades, cut by event time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .trade import Trade


@dataclass(frozen=True, slots=True)
class Candle:
    """One bar. Bars without a trade do not exist; `seq` counts those that do, from 0.

    A bar covers `open_time <= event_time < close_time`, both in ms since the epoch and multiples
    of the interval. `volume` and `buy_volume` (the part bought by takers) are in base currency.
    """

    seq: int
    open_time: int
    close_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    buy_volume: float
    trades: int

    @property
    def body(self) -> float:
        """Distance between open and close, never negative."""
        return abs(self.close - self.open)

    @property
    def span(self) -> float:
        """Distance between high and low, never negative."""
        return self.high - self.low

    @property
    def upper_shadow(self) -> float:
        return self.high - max(self.open, self.close)

    @property
    def lower_shadow(self) -> float:
        return min(self.open, self.close) - self.low

    @property
    def bullish(self) -> bool:
        return self.close > self.open

    @property
    def bearish(self) -> bool:
        return self.close < self.open

    def to_payload(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Candle:
        return cls(**{field.name: payload[field.name] for field in fields(cls)})


class CandleBuilder:
    """Builds bars of `interval_ms` from trades in order of event time.

    A bar closes with the first trade beyond it, or with `flush` at the end of the stream; the
    wall clock has no part in it.
    """

    def __init__(self, interval_ms: int) -> None:
        if interval_ms <= 0:
            raise ValueError(f"a candle's interval must be positive, not {interval_ms} ms")
        self.interval_ms = interval_ms
        self._seq = -1
        self._open: Candle | None = None

    @property
    def seq(self) -> int:
        """The number of the bar that holds the last trade added, or -1 before the first."""
        return self._seq

    def add(self, trade: Trade) -> Candle | None:
        """Take one trade; the bar it closed, if it lies beyond the open one."""
        start = trade.event_time - trade.event_time % self.interval_ms
        current = self._open
        if current is not None and start < current.open_time:
            raise ValueError(
                f"trade {trade.trade_id} at {trade.event_time} belongs before the open candle "
                f"at {current.open_time}: sort the trades by time"
            )
        if current is not None and start == current.open_time:
            self._open = _extended(current, trade)
            return None
        self._seq += 1
        self._open = _opened(self._seq, start, start + self.interval_ms, trade)
        return current

    def flush(self) -> Candle | None:
        """Close and return the open bar; `None` if there is none."""
        current, self._open = self._open, None
        return current


def _bought(trade: Trade) -> float:
    return trade.amount if trade.side == "buy" else 0.0


def _opened(seq: int, start: int, end: int, trade: Trade) -> Candle:
    price = trade.price
    return Candle(seq, start, end, price, price, price, price, trade.amount, _bought(trade), 1)


def _extended(bar: Candle, trade: Trade) -> Candle:
    return Candle(
        bar.seq,
        bar.open_time,
        bar.close_time,
        bar.open,
        max(bar.high, trade.price),
        min(bar.low, trade.price),
        trade.price,
        bar.volume + trade.amount,
        bar.buy_volume + _bought(trade),
        bar.trades + 1,
    )
