from __future__ import annotations

from itertools import islice, pairwise

import pytest

from examples.trading.domain.simulator import Market, simulate
from examples.trading.domain.trade import Trade

HOUR = Market(duration_ms=3_600_000)


def test_the_same_seed_gives_the_same_market():
    assert list(simulate(7, HOUR)) == list(simulate(7, HOUR))


def test_another_seed_gives_another_market():
    assert list(islice(simulate(1), 20)) != list(islice(simulate(2), 20))


def test_the_first_trades_stay_what_they_are():
    """A change here changes every published result of the example."""
    first = next(iter(simulate(7)))
    assert first == Trade(1_700_006_401_167, 1, "buy", 38002.19, 0.0366)


def test_a_day_is_in_order_and_within_its_bounds():
    market = Market()
    trades = list(simulate(42, market))
    assert 15_000 < len(trades) < 80_000
    assert all(a.event_time <= b.event_time for a, b in pairwise(trades))
    assert [t.trade_id for t in trades] == list(range(1, len(trades) + 1))
    assert trades[0].event_time >= market.start_time
    assert trades[-1].event_time < market.start_time + market.duration_ms
    assert all(t.price > 0 and t.amount >= market.lot for t in trades)
    assert all(round(t.price, 2) == t.price for t in trades)


def test_trades_come_in_clusters():
    """Counts per minute vary far more than those of a Poisson process, whose ratio is 1."""
    counts = [0] * 1440
    for trade in simulate(3):
        counts[(trade.event_time - Market().start_time) // 60_000] += 1
    mean = sum(counts) / len(counts)
    variance = sum((c - mean) ** 2 for c in counts) / len(counts)
    assert variance / mean > 2.0


def test_an_explosive_market_is_refused():
    with pytest.raises(ValueError, match="below 1"):
        next(simulate(1, Market(excitation=1.0)))
