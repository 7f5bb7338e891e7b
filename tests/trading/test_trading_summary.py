from __future__ import annotations

import json

from examples.trading.summary import Tally, as_json, as_text

CLOSED = {
    "last_seq": 1,
    "notifications": 1,
    "accepted": 0,
    "rejected": 1,
    "initial_cash": "1000",
    "equity": "1020.5",
    "realised": "21",
    "unrealised": "0",
    "fees": "0.5",
    "max_drawdown": "0.0123456789",
    "fills": 1,
    "ledger_sha256": "ab",
}
COUNTS = {"handled": 2, "published": 3, "price_updates": 7}
EVENTS = [
    ("market_data.candle_closed", {"symbol": "X", "close": 100.0, "trades": 3}),
    ("market_data.candle_closed", {"symbol": "X", "close": 110.0, "trades": 4}),
    ("market_data.end_of_stream", {"error": None}),
    ("trading.signal", {"action": "enter"}),
    ("trading.signal", {"action": "hold"}),
    ("trading.execution_report", {}),
    ("user.notification", {}),
    ("trading.session_closed", CLOSED),
    ("analysis.report", {"agent": "a", **COUNTS}),
]


def tally(events=EVENTS):
    t = Tally(agents=["a"])
    for event_type, payload in events:
        t.observe(event_type, payload)
    return t


def test_it_is_complete_once_everything_was_seen():
    for missing in range(len(EVENTS)):
        rest = [e for i, e in enumerate(EVENTS) if i != missing]
        expected = EVENTS[missing][0] == "market_data.end_of_stream"
        assert tally(rest).complete is expected
    assert tally().complete


def test_arrival_order_across_streams_does_not_show():
    other = EVENTS[3:] + EVENTS[:3]
    assert as_json(tally(other)) == as_json(tally())
    assert as_text(tally(other)) == as_text(tally())


def test_figures():
    f = json.loads(as_json(tally()))
    assert (f["return"], f["buy_and_hold"], f["max_drawdown"]) == (
        "0.020500",
        "0.100000",
        "0.012346",
    )
    assert f["agents"] == {"a": COUNTS}
    assert f["trades_in"] == 7


def test_text_of_nothing():
    text = as_text(Tally())
    assert "no market data  (so far)" in text


def test_redelivered_events_count_once():
    signal = ("trading.signal", {"action": "hold", "seq": 4})
    assert tally([signal, signal]).actions == {"hold": 1}
