"""Candlestick patterns.

Definitions follow Steve Nison, "Japanese Candlestick Charting Techniques" (1991), with his words
turned into thresholds. Markets that never close have no gaps between candles, so stars and
engulfings are recognised without one: equality of close and next open counts as touching. The
trend before a pattern, which gives it its meaning, is left to the technical analysis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .candles import Candle

Direction = Literal[-1, 0, 1]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Fractions; of the candle's span unless said otherwise."""

    doji_body: float = 0.1
    """A doji's body is at most this much of its span."""
    small_body: float = 0.35
    """A hammer's or star's body is at most this much of its span."""
    long_body: float = 0.6
    """A strong candle's body is at least this much of its span."""
    shadow_to_body: float = 2.0
    """A hammer's long shadow is at least this many bodies long."""
    other_shadow: float = 0.15
    """A hammer's short shadow is at most this much of its span."""
    star_body: float = 0.5
    """The star in the middle has at most this much of the first candle's body."""
    penetration: float = 0.5
    """A star's third candle closes at least this far into the first one's body."""


@dataclass(frozen=True, slots=True)
class Match:
    """A pattern found at the last candle: `direction` is what it foretells, `strength` 0 to 1."""

    name: str
    direction: Direction
    strength: float


DEFAULT = Thresholds()


def is_doji(c: Candle, th: Thresholds = DEFAULT) -> bool:
    """Open and close nearly equal in a candle that moved at all."""
    return c.span > 0.0 and c.body <= th.doji_body * c.span


def is_hammer(c: Candle, th: Thresholds = DEFAULT) -> bool:
    """A small body at the top and a long lower shadow."""
    return _pin(c, c.lower_shadow, c.upper_shadow, th)


def is_shooting_star(c: Candle, th: Thresholds = DEFAULT) -> bool:
    """A small body at the bottom and a long upper shadow."""
    return _pin(c, c.upper_shadow, c.lower_shadow, th)


def is_bullish_engulfing(first: Candle, second: Candle) -> bool:
    """A falling candle whose body lies inside the rising one after it."""
    return first.bearish and second.bullish and _engulfs(first, second)


def is_bearish_engulfing(first: Candle, second: Candle) -> bool:
    """A rising candle whose body lies inside the falling one after it."""
    return first.bullish and second.bearish and _engulfs(first, second)


def is_morning_star(a: Candle, b: Candle, c: Candle, th: Thresholds = DEFAULT) -> bool:
    """A strong fall, a star, and a rise well into the first body."""
    return (
        a.bearish
        and _long(a, th)
        and b.body <= th.star_body * a.body
        and max(b.open, b.close) <= a.close + th.star_body * a.body
        and c.bullish
        and c.close >= a.close + th.penetration * a.body
    )


def is_evening_star(a: Candle, b: Candle, c: Candle, th: Thresholds = DEFAULT) -> bool:
    """A strong rise, a star, and a fall well into the first body."""
    return (
        a.bullish
        and _long(a, th)
        and b.body <= th.star_body * a.body
        and min(b.open, b.close) >= a.close - th.star_body * a.body
        and c.bearish
        and c.close <= a.close - th.penetration * a.body
    )


def is_three_white_soldiers(a: Candle, b: Candle, c: Candle, th: Thresholds = DEFAULT) -> bool:
    """Three strong rises, each opening in the last one's body and closing above it."""
    return all(x.bullish and _long(x, th) for x in (a, b, c)) and all(
        last.open <= x.open <= last.close < x.close for last, x in ((a, b), (b, c))
    )


def is_three_black_crows(a: Candle, b: Candle, c: Candle, th: Thresholds = DEFAULT) -> bool:
    """Three strong falls, each opening in the last one's body and closing below it."""
    return all(x.bearish and _long(x, th) for x in (a, b, c)) and all(
        last.open >= x.open >= last.close > x.close for last, x in ((a, b), (b, c))
    )


def detect(candles: Sequence[Candle], th: Thresholds = DEFAULT) -> list[Match]:
    """Every pattern that the last one, two or three of `candles` complete, in a fixed order."""
    found: list[Match] = []
    if candles:
        last = candles[-1]
        if is_doji(last, th):
            found.append(Match("doji", 0, 0.0))
        if is_hammer(last, th):
            found.append(Match("hammer", 1, 0.5))
        if is_shooting_star(last, th):
            found.append(Match("shooting_star", -1, 0.5))
    if len(candles) >= 2:
        first, second = candles[-2], candles[-1]
        if is_bullish_engulfing(first, second):
            found.append(Match("bullish_engulfing", 1, 0.7))
        if is_bearish_engulfing(first, second):
            found.append(Match("bearish_engulfing", -1, 0.7))
    if len(candles) >= 3:
        a, b, c = candles[-3], candles[-2], candles[-1]
        if is_morning_star(a, b, c, th):
            found.append(Match("morning_star", 1, 0.9))
        if is_evening_star(a, b, c, th):
            found.append(Match("evening_star", -1, 0.9))
        if is_three_white_soldiers(a, b, c, th):
            found.append(Match("three_white_soldiers", 1, 1.0))
        if is_three_black_crows(a, b, c, th):
            found.append(Match("three_black_crows", -1, 1.0))
    return found


def score(matches: Sequence[Match]) -> float:
    """What the matches foretell together, -1 to 1: the sum of their votes, cut off."""
    return max(-1.0, min(1.0, sum(m.direction * m.strength for m in matches)))


def _pin(c: Candle, long_shadow: float, short_shadow: float, th: Thresholds) -> bool:
    return (
        c.body > 0.0
        and c.body <= th.small_body * c.span
        and long_shadow >= th.shadow_to_body * c.body
        and short_shadow <= th.other_shadow * c.span
    )


def _engulfs(first: Candle, second: Candle) -> bool:
    return (
        second.body > first.body
        and min(second.open, second.close) <= min(first.open, first.close)
        and max(second.open, second.close) >= max(first.open, first.close)
    )


def _long(c: Candle, th: Thresholds) -> bool:
    return c.body > 0.0 and c.body >= th.long_body * c.span
