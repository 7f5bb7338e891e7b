from __future__ import annotations

import pytest

from examples.trading.domain.sentiment import Sentiment


def test_imbalance_of_fresh_volume(trade):
    mood = Sentiment(half_life_ms=1000)
    mood.add(trade(0, amount=3.0))
    mood.add(trade(0, amount=1.0, side="sell"))
    assert mood.close().imbalance == 0.5


def test_volume_halves_with_every_half_life_of_event_time(trade):
    mood = Sentiment(half_life_ms=1000)
    mood.add(trade(0, amount=4.0))
    mood.add(trade(2000, amount=1.0, side="sell"))  # the purchase counts 1 by now
    assert mood.close().imbalance == pytest.approx(0.0)


def test_imbalance_carries_over_buckets(trade):
    mood = Sentiment(half_life_ms=1000)
    mood.add(trade(0, amount=1.0))
    mood.close()
    mood.add(trade(1000, amount=0.5, side="sell"))
    assert mood.close().imbalance == pytest.approx(0.0)


def test_intensity_is_a_z_score_against_earlier_buckets(trade):
    mood = Sentiment(window=3)
    readings = []
    for count in (1, 2, 3, 5):
        for _ in range(count):
            mood.add(trade(0))
        readings.append(mood.close())
    assert [r.ready for r in readings] == [False, False, False, True]
    assert readings[-1].intensity == pytest.approx(3.0)  # mean 2, sample deviation 1
    assert readings[-1].score == pytest.approx(1 / (1 + 2.718281828459045**-3))


def test_an_empty_bucket_has_no_mood():
    assert Sentiment().close().score == 0.0


@pytest.mark.parametrize("bad", [{"half_life_ms": 0}, {"window": 1}])
def test_parameters_are_checked(bad):
    with pytest.raises(ValueError, match="must"):
        Sentiment(**bad)
