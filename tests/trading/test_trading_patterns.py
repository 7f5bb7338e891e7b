from __future__ import annotations

import pytest

from examples.trading.domain import patterns as p

# open, high, low, close; the last candle completes the pattern
SHAPES = {
    "doji": [(100, 105, 95, 100.5)],
    "hammer": [(100, 102.2, 94, 102)],
    "shooting_star": [(102, 108, 99.8, 100)],
    "bullish_engulfing": [(102, 103, 99, 100), (100, 104, 99, 103)],
    "bearish_engulfing": [(100, 103, 99, 102), (102, 103, 98, 99)],
    "morning_star": [(110, 111, 99, 100), (99.5, 102, 97, 100.5), (100.5, 109, 100, 108)],
    "evening_star": [(100, 111, 99, 110), (110.5, 113, 109, 109.5), (109.5, 110, 101, 102)],
    "three_white_soldiers": [(100, 105, 99, 104), (102, 109, 101, 108), (106, 113, 105, 112)],
    "three_black_crows": [(112, 113, 107, 108), (110, 111, 103, 104), (106, 107, 99, 100)],
}


@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_is_found(name, candle):
    found = {match.name for match in p.detect([candle(*map(float, s)) for s in SHAPES[name]])}
    assert name in found


@pytest.mark.parametrize("name", [n for n in SHAPES if n != "doji"])
def test_the_shape_upside_down_is_not_found(name, candle):
    def mirrored(o, h, low, c):
        return candle(200.0 - o, 200.0 - low, 200.0 - h, 200.0 - c)

    found = {match.name for match in p.detect([mirrored(*s) for s in SHAPES[name]])}
    assert name not in found


def test_a_flat_candle_is_no_pattern(candle):
    flat = candle(100.0, 100.0, 100.0, 100.0)
    assert p.detect([flat, flat, flat]) == []


def test_thresholds_decide(candle):
    bar = candle(100.0, 105.0, 95.0, 101.5)
    assert not p.is_doji(bar)
    assert p.is_doji(bar, p.Thresholds(doji_body=0.2))


def test_a_star_that_recovers_too_little_is_none(candle):
    a, b = candle(110.0, 111.0, 99.0, 100.0), candle(99.5, 102.0, 97.0, 100.5)
    assert not p.is_morning_star(a, b, candle(100.5, 105.0, 100.0, 104.0))


def test_votes_add_up_and_are_cut_off():
    up, down = p.Match("a", 1, 0.7), p.Match("b", -1, 0.5)
    assert p.score([]) == 0.0
    assert p.score([up, down]) == pytest.approx(0.2)
    assert p.score([up, up]) == 1.0


def test_no_candles_no_matches():
    assert p.detect([]) == []


# Each is a shape from above with the one thing changed that its definition asks for.
NEAR_MISSES = {
    "hammer": {
        "a body in the middle": [(100, 105, 94, 102)],
        "a short lower shadow": [(100, 102.2, 97, 102)],
        "a long body": [(95, 102.2, 94, 102)],
    },
    "shooting_star": {"a body in the middle": [(102, 108, 96, 100)]},
    "bullish_engulfing": {
        "the first one rises": [(100, 103, 99, 102), (100, 104, 99, 103)],
        "it begins inside": [(102, 103, 99, 100), (100.5, 104, 99, 103)],
        "it ends inside": [(102, 103, 99, 100), (99, 103, 99, 101.9)],
    },
    "bearish_engulfing": {
        "it begins inside": [(100, 103, 99, 102), (101.5, 103, 98, 99)],
        "it ends inside": [(100, 103, 99, 102), (102, 103, 98, 100.5)],
    },
    "morning_star": {
        "no strong fall": [(110, 125, 85, 100), (99.5, 102, 97, 100.5), (100.5, 109, 100, 108)],
        "the star is long": [(110, 111, 99, 100), (93, 102, 92, 99), (100.5, 109, 100, 108)],
        "the star is high": [(110, 111, 99, 100), (106, 107, 105, 106.5), (105, 109, 104, 108)],
    },
    "evening_star": {
        "no strong rise": [(100, 125, 85, 110), (110.5, 113, 109, 109.5), (109.5, 110, 101, 102)],
        "it falls too little": [
            (100, 111, 99, 110),
            (110.5, 113, 109, 109.5),
            (109, 110, 105, 106),
        ],
    },
    "three_white_soldiers": {
        "one opens below the last body": [
            (100, 105, 99, 104),
            (99, 109, 98, 108),
            (106, 113, 105, 112),
        ],
        "one closes below the last": [
            (100, 105, 99, 104),
            (102, 109, 101, 108),
            (106, 108, 105, 107.9),
        ],
        "one is weak": [(100, 105, 99, 104), (102, 120, 90, 108), (106, 113, 105, 112)],
    },
    "three_black_crows": {
        "one opens above the last body": [
            (112, 113, 107, 108),
            (113, 114, 103, 104),
            (106, 107, 99, 100),
        ],
    },
}


@pytest.mark.parametrize(
    ("name", "what"), [(name, what) for name, misses in NEAR_MISSES.items() for what in misses]
)
def test_a_near_miss_is_none(name, what, candle):
    shape = NEAR_MISSES[name][what]
    found = {match.name for match in p.detect([candle(*map(float, s)) for s in shape])}
    assert name not in found
