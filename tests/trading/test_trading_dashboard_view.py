from __future__ import annotations

import pytest

from examples.trading.dashboard_view import (
    BARS,
    View,
    clip,
    clock,
    fold,
    progress,
    render,
    sparkline,
)


def full():
    view = View(symbol="BTCUSDT", event_time=1_700_006_460_000, price=38_000.5, candles=1)
    view.components = {f"agent_{number}": "running" for number in range(9)}
    view.components |= {"dashboard": "failed"}
    view.rates = {"trading": 12.0, "market_data": 1500.4}
    view.signals.append("enter to 90% at candle 12")
    view.notices.append("warning: flatten rejected")
    view.initial_cash = 9_900.0
    view.equity.extend([10_000.0, 10_100.0])
    return view


@pytest.mark.parametrize("width", [1, 20, 40, 80, 132])
@pytest.mark.parametrize("height", [1, 5, 12, 40])
def test_the_picture_fits_the_terminal(width, height):
    lines = render(full(), width, height)
    assert 1 <= len(lines) <= height
    assert max(map(len, lines)) <= width


def test_it_shows_what_matters():
    text = "\n".join(render(full(), 120, 40))
    for part in ("BTCUSDT", "2023-11-15 00:01:00", "✗ dashboard failed", "market_data 1,500"):
        assert part in text
    assert "enter to 90% at candle 12" in text
    assert "! warning: flatten rejected" in text
    assert "equity 10,100.00 (+2.02%)" in text  # against the initial cash
    assert "▁█" in text


def test_a_low_terminal_counts_the_components():
    text = "\n".join(render(full(), 40, 14))
    assert "1 failed   9 running" in text
    assert "agent_3" not in text


def test_nothing_is_cut_off_at_the_usual_width():
    view = full()
    view.quantity, view.fees, view.equity[-1] = "0.12345", 1234.56, 1_234_567.89
    assert not [line for line in render(view, 80, 24) if line.endswith("…")]


def test_parts_are_folded_into_lines():
    assert fold(["aa", "b", "cc"], 5) == ["aa  b", "cc"]
    assert fold(["aa", "b", "cc", "d"], 6, column=True) == ["aa  b", "cc  d"]
    assert fold([], 5) == []


def test_an_empty_view_renders():
    assert "waiting for the market" in render(View(), 80)[0]
    assert progress(View()).startswith("-")


def test_sparkline():
    assert sparkline([], 10) == ""
    assert sparkline([5.0, 5.0], 10) == BARS[4] * 2
    assert sparkline(list(map(float, range(8))), 8) == BARS
    assert sparkline([0.0, 0.0, 7.0, 7.0], 2) == "▁█"


def test_control_characters_do_not_reach_the_terminal():
    assert "\x1b" not in clip("a\x1b[2Jb", 80)
    assert clip("abcdef", 4) == "abc…"


def test_clock_is_utc():
    assert clock(0) == "-"
    assert clock(1_570_752_011_620) == "2019-10-11 00:00:11"
