"""The end of a run in figures: the same input gives the same bytes.

A `Tally` watches the events of a run; `as_text` and `as_json` write what it saw. No wall-clock
figure enters it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tiebeam.books import Books

from .domain.portfolio import plain

AGENTS = (
    "data_collection",
    "impact_factor",
    "technical_analysis",
    "pattern_recognition",
    "sentiment_analysis",
    "decision_engine",
    "virtual_trading",
    "notification",
    "authentication",
)
"""Agents that report; the dashboard only watches and is not waited for."""

LOSSES = ("dropped", "expired", "dead_lettered")
"""What may become of an event that nobody handled, in the bus's books."""


@dataclass
class Tally:
    """What a run amounts to so far; `complete` once all of it was seen."""

    agents: Sequence[str] = AGENTS
    symbol: str = ""
    candles: int = 0
    trades_in: int = 0
    first_close: Decimal | None = None
    last_close: Decimal | None = None
    actions: dict[str, int] = field(default_factory=dict)
    fills: int = 0
    notifications: int = 0
    reports: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """What each agent handled and published, by its last word."""
    position: Mapping[str, Any] | None = None
    closed: Mapping[str, Any] | None = None
    error: str | None = None
    _seen: set[tuple[str, int]] = field(default_factory=set)

    def observe(self, event_type: str, payload: Mapping[str, Any]) -> None:
        """Take one event; those of other types, and numbered ones again, change nothing."""
        number = payload.get("number", payload.get("seq"))
        if number is not None:
            if (event_type, number) in self._seen:
                return
            self._seen.add((event_type, number))
        if event_type == "market_data.candle_closed":
            self._candle(payload)
        elif event_type == "market_data.end_of_stream":
            self.error = payload["error"]
        elif event_type == "trading.signal":
            action = payload["action"]
            self.actions[action] = self.actions.get(action, 0) + 1
        elif event_type == "trading.execution_report":
            self.fills += 1
        elif event_type == "trading.position_update":
            self.position = payload
        elif event_type == "trading.session_closed":
            self.closed = payload
        elif event_type == "user.notification":
            self.notifications += 1
        elif event_type.endswith(".report"):
            self.reports[payload["agent"]] = payload

    @property
    def complete(self) -> bool:
        """Whether the session is closed, every agent reported and nothing is still on its way."""
        closed = self.closed
        return (
            closed is not None
            and all(agent in self.reports for agent in self.agents)
            and self.candles == closed["last_seq"] + 1 == sum(self.actions.values())
            and self.fills == closed["fills"]
            and self.notifications == closed["notifications"]
        )

    @property
    def lost(self) -> list[str]:
        """The agents that handled fewer price updates, or more, than were published."""
        counts = {agent: report["price_updates"] for agent, report in self.reports.items()}
        return [a for a, n in counts.items() if n is not None and n != self.trades_in]

    def _candle(self, payload: Mapping[str, Any]) -> None:
        close = Decimal(str(payload["close"]))
        self.symbol = payload["symbol"]
        self.candles += 1
        self.trades_in += payload["trades"]
        self.first_close = close if self.first_close is None else self.first_close
        self.last_close = close


def figures(tally: Tally, books: Books | None = None) -> dict[str, Any]:
    """The summary as plain data; money is exact text, ratios are text with six digits.

    `books` are those of the bus, once the system has stopped.
    """
    book = tally.closed if tally.closed is not None else tally.position or {}
    initial, equity = book.get("initial_cash"), book.get("equity")
    money = ("realised", "unrealised", "fees", "equity")
    return {
        "complete": tally.complete,
        "error": tally.error,
        "symbol": tally.symbol,
        "trades_in": tally.trades_in,
        "candles": tally.candles,
        "signals": dict(sorted(tally.actions.items())),
        "trades": tally.fills,
        **{key: book.get(key) for key in money},
        "return": ratio(equity, initial),
        "buy_and_hold": ratio(tally.last_close, tally.first_close),
        "max_drawdown": six(Decimal(book.get("max_drawdown", 0))),
        "commands": {"accepted": book.get("accepted"), "rejected": book.get("rejected")},
        "agents": {
            name: {key: report[key] for key in ("handled", "published", "price_updates")}
            for name, report in sorted(tally.reports.items())
        },
        "ledger_sha256": book.get("ledger_sha256"),
        "books": {"balanced": books.balanced, **{k: getattr(books.total, k) for k in LOSSES}}
        if books is not None
        else None,
    }


def ratio(now: Decimal | str | None, then: Decimal | str | None) -> str | None:
    """The change from `then` to `now` as a fraction of `then`."""
    if now is None or then is None:
        return None
    return six(Decimal(now) / Decimal(then) - 1)


def six(value: Decimal) -> str:
    return f"{value.quantize(Decimal('1e-6')):f}"


def as_json(tally: Tally, books: Books | None = None) -> str:
    return json.dumps(figures(tally, books), indent=2, ensure_ascii=False)


def as_text(tally: Tally, books: Books | None = None) -> str:
    """The summary for people, in lines of less than 80 characters."""
    f = figures(tally, books)
    state = "" if f["complete"] else "  (so far)"
    lines = [f"Session summary: {f['symbol'] or 'no market data'}{state}", ""]
    if f["error"]:
        lines += [f"  stopped by       {f['error']}"]
    signals = ", ".join(f"{name} {n:,}" for name, n in f["signals"].items()) or "none"
    commands = f["commands"]
    rows = {
        "trades in": f"{f['trades_in']:,}",
        "candles": f"{f['candles']:,}",
        "signals": signals,
        "fills": f"{f['trades']:,}",
        "fees": amount(f["fees"]),
        "realised": amount(f["realised"]),
        "unrealised": amount(f["unrealised"]),
        "equity": amount(f["equity"]),
        "return": percent(f["return"]),
        "buy and hold": percent(f["buy_and_hold"]),
        "max drawdown": percent(f["max_drawdown"]),
        "user commands": f"{commands['accepted']} accepted, {commands['rejected']} rejected"
        if commands["accepted"] is not None
        else "-",
        "ledger sha256": f["ledger_sha256"] or "-",
        "books": accounted(f["books"]),
    }
    lines += [f"  {name:<16} {value}" for name, value in rows.items()]
    lines += ["", f"  {'agent':<22}{'handled':>10}{'published':>11}{'price updates':>16}"]
    for name, n in f["agents"].items():
        updates = "-" if n["price_updates"] is None else f"{n['price_updates']:,}"
        lines.append(f"  {name:<22}{n['handled']:>10,}{n['published']:>11,}{updates:>16}")
    return "\n".join(lines)


def accounted(books: Mapping[str, Any] | None) -> str:
    """What became of all the events on the bus, in a line."""
    if books is None:
        return "-"
    state = "balanced" if books["balanced"] else "NOT BALANCED"
    return "; ".join([state, *(f"{name.replace('_', '-')} {books[name]:,}" for name in LOSSES)])


def amount(value: str | None) -> str:
    """Money with two digits after the point, or a dash."""
    return "-" if value is None else f"{Decimal(value).quantize(Decimal('0.01')):,f}"


def percent(value: str | None) -> str:
    return "-" if value is None else plain(Decimal(value) * 100) + " %"
