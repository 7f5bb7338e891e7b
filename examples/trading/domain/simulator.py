"""A seeded market: one day of trades that behave like a market's.

The price is a geometric random walk whose drift and volatility depend on a hidden regime
(Hamilton, "A New Approach to the Economic Analysis of Nonstationary Time Series", Econometrica
1989). Trades arrive in clusters: each raises the rate of the next for a while (Hawkes 1971), and
takers lean to the side the price is moving to.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from .trade import Side, Trade

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Regime:
    """A mood of the market; rates are per day, as log returns."""

    name: str
    drift: float
    volatility: float
    activity: float
    """Factor on the rate of trades."""
    mean_duration_ms: float


REGIMES = (
    Regime("calm", 0.0, 0.012, 0.7, 5_400_000.0),
    Regime("rally", 0.22, 0.018, 1.2, 4_500_000.0),
    Regime("slide", -0.20, 0.020, 1.2, 3_600_000.0),
    Regime("turmoil", 0.0, 0.06, 2.2, 1_200_000.0),
)


@dataclass(frozen=True, slots=True)
class Market:
    """What the simulated market is like. Prices are in quote, amounts in base currency."""

    start_time: int = 1_700_006_400_000
    """The first instant, in ms since the epoch: 2023-11-15 00:00 UTC."""
    duration_ms: int = DAY_MS
    start_price: float = 38_000.0
    tick: float = 0.01
    lot: float = 0.0001
    median_amount: float = 0.05
    trades_per_second: float = 0.2
    """Rate of trades that no other trade caused, before the regime's factor."""
    excitation: float = 0.4
    """Mean number of further trades that one trade causes, directly; below 1."""
    excitation_ms: float = 20_000.0
    """How long the excitement of a trade lasts, on average."""


def simulate(seed: int, market: Market | None = None) -> Iterator[Trade]:
    """Yield the market's trades in order; the same seed and market give the same trades.

    Only `random.Random.random` is drawn from: its sequence is promised to stay the same from one
    Python release to the next, which that of its distributions is not.
    """
    m = market if market is not None else Market()
    if not 0.0 <= m.excitation < 1.0:
        raise ValueError(f"the excitation must be from 0 to below 1, not {m.excitation}")
    draw = random.Random(seed).random
    regime = REGIMES[0]
    regime_ends = m.start_time + _exponential(draw(), regime.mean_duration_ms)
    now, end = float(m.start_time), m.start_time + m.duration_ms
    log_price, excited = math.log(m.start_price), 0.0
    number = 0
    base_rate = m.trades_per_second / 1000.0
    while True:
        # Ogata's thinning (1981): the rate only falls until the next trade, so the present rate
        # bounds it; a candidate is kept with the probability of the rate that is left.
        bound = base_rate * regime.activity + excited
        wait = _exponential(draw(), 1.0 / bound)
        now += wait
        if now >= end:
            return
        excited *= math.exp(-wait / m.excitation_ms)
        shock = _normal(draw(), draw()) * math.sqrt(wait / DAY_MS) * regime.volatility
        log_price += (regime.drift - regime.volatility**2 / 2.0) * wait / DAY_MS + shock
        if now >= regime_ends:
            others = [r for r in REGIMES if r is not regime]
            regime = others[int(draw() * len(others))]
            regime_ends = now + _exponential(draw(), regime.mean_duration_ms)
        if draw() * bound > base_rate * regime.activity + excited:
            continue
        excited += m.excitation / m.excitation_ms
        number += 1
        lean = 0.5 + 0.25 * math.tanh(shock * 4_000.0) + 0.4 * regime.drift
        side: Side = "buy" if draw() < lean else "sell"
        half_spread = m.tick if side == "buy" else -m.tick
        price = _rounded(math.exp(log_price) + half_spread, m.tick)
        amount = m.median_amount * math.exp(0.9 * _normal(draw(), draw()))
        yield Trade(int(now), number, side, price, _rounded(amount, m.lot))


def _exponential(u: float, mean: float) -> float:
    return -mean * math.log(1.0 - u)


def _normal(u: float, v: float) -> float:
    """Box and Muller (1958)."""
    return math.sqrt(-2.0 * math.log(1.0 - u)) * math.cos(2.0 * math.pi * v)


def _rounded(value: float, step: float) -> float:
    """The nearest multiple of `step`, at least one step, with no more digits than the step."""
    digits = max(0, -math.floor(math.log10(step)))
    return round(max(1, round(value / step)) * step, digits)
