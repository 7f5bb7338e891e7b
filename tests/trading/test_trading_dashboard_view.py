from __future__ import annotations

from trading.dashboard_view import BARS, View, clip, clock, progress, render, sparkline


def full():
    view = View(symbol="BTCUSDT", event_time=1_700_006_460_000, price=38_000.5, candles=1)
    view.components = {"data_collection": "running", "dashboard": "failed"}
    view.rates = {"trading": 12.0, "market_data": 1500.4}
    view.signals.append("enter to 90% at candle 12")
    view.notices.append("warning: flatten rejected")
    view.equity.extend([10_000.0, 10_100.0])
    return view


def test_no_line_is_wider_than_the_terminal():
    for width in (40, 80, 132):
        lines = render(full(), width).split("\n")
        assert max(map(len, lines)) <= width


def test_it_shows_what_matters():
    text = render(full(), 120)
    for part in ("BTCUSDT", "2023-11-15 00:01:00", "✗ dashboard failed", "market_data 1,500"):
        assert part in text
    assert "equity 10,100.00 (+1.00%)" in text
    assert "▁█" in text


def test_an_empty_view_renders():
    assert "waiting for the market" in render(View(), 80)
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
