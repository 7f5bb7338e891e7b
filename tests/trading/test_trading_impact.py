from __future__ import annotations

import math

import pytest

from examples.trading.domain.impact import WARMING_UP, Impact, regression_slope


def test_regression_slope_by_hand():
    # means 2 and 4; covariance sum (-1)(-3) + 0 + (1)(3) = 6; variance sum 2
    assert regression_slope([1.0, 2.0, 3.0], [1.0, 4.0, 7.0]) == 3.0
    assert regression_slope([2.0, 2.0], [1.0, 5.0]) == 0.0


def run(impact, trade, flows, per_unit):
    """One trade per bucket whose flow moves the price by `per_unit` log return a unit."""
    price, factors = 100.0, []
    impact.add(trade(0, price, 1.0))
    factors.append(impact.close())
    for flow in flows:
        price *= math.exp(per_unit * flow)
        impact.add(trade(0, price, abs(flow), "buy" if flow > 0 else "sell"))
        factors.append(impact.close())
    return factors


def test_lambda_recovers_the_impact_that_made_the_prices(trade):
    flows = [1.0, -2.0, 3.0, -1.0]
    factors = run(Impact(window=4), trade, flows, 0.001)
    assert factors[:4] == [WARMING_UP] * 4
    last = factors[-1]
    assert last.ready
    assert last.kyle_lambda == pytest.approx(0.001)
    assert last.realised_volatility == pytest.approx(0.001 * math.sqrt(1 + 4 + 9 + 1))
    assert last.relative_volume == pytest.approx(1.0 / 2.0)  # against 1, 2, 3
    assert last.score < 0.0  # the last flow sold


def test_amihud_is_the_mean_return_per_quote_volume(trade):
    impact = Impact(window=3)
    expected = []
    last = 100.0
    impact.add(trade(0, last, 1.0))
    impact.close()
    for price, amount in ((101.0, 2.0), (100.0, 1.0), (102.0, 4.0)):
        impact.add(trade(0, price, amount))
        factors = impact.close()
        expected.append(abs(math.log(price / last)) / (price * amount))
        last = price
    assert factors.amihud == pytest.approx(sum(expected) / 3)


def test_a_market_that_does_not_move_has_no_factors(trade):
    last = run(Impact(window=3), trade, [1.0, -1.0, 1.0], 0.0)[-1]
    assert (last.kyle_lambda, last.realised_volatility, last.score) == (0.0, 0.0, 0.0)
    assert last.risk_scale == 1.0


def test_wilder_than_usual_means_smaller_positions(trade):
    calm, wild = [1.0, -1.0] * 20, [9.0, -9.0] * 2
    factors = run(Impact(window=4, baseline=40), trade, calm + wild, 0.001)
    assert factors[40].risk_scale == pytest.approx(1.0)
    assert factors[-1].risk_scale < 0.3
