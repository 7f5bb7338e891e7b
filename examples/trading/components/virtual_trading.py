"""Virtual trading: executes orders on paper and keeps the books."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field
from tiebeam import Event, command, subscribe

from ..agent import Agent
from ..domain.join import SeqJoin
from ..domain.portfolio import Costs, Fill, Portfolio, money, plain

Row = dict[str, dict[str, Any]]


class VirtualTrading(Agent):
    """Publishes `trading.execution_report`, `position_update` and, once, `session_closed`.

    An order of candle `seq` is filled at that candle's close, worse by the slippage and less the
    fee. A candle is settled when it, its signal and the order that the signal announced are
    there, and all candles before it are settled.
    """

    name = "virtual_trading"
    depends_on = ["decision_engine"]
    after = ["notification", "dashboard"]
    report_as = "trading.report"

    class Config(BaseModel):
        initial_cash: float = Field(10_000.0, gt=0, description="in quote currency")
        fee_bps: float = Field(4.0, ge=0, lt=10_000)
        slippage_bps: float = Field(1.0, ge=0, lt=10_000)
        lot_step: float = Field(0.00001, gt=0, description="smallest step, in base currency")
        ledger: str = Field("", description="write all trades to this file, as JSON lines")

    async def initialize(self) -> None:
        self.settings: VirtualTrading.Config | None = None

    async def configure(self, config: Config) -> None:
        if self.settings is None:
            costs = Costs(money(config.fee_bps), money(config.slippage_bps))
            self.portfolio = Portfolio(money(config.initial_cash), costs)
            self.join: SeqJoin[dict[str, Any]] = SeqJoin(["candle", "signal"])
            self.lock = asyncio.Lock()
            self.ended: dict[str, Any] | None = None
            self.last_close, self.symbol = money(0), ""
            self.settled: tuple[int, Fill | None] = (-1, None)
        elif config.initial_cash != self.settings.initial_cash:
            raise ValueError("initial_cash belongs to a session and cannot change within it")
        self.portfolio.costs = Costs(money(config.fee_bps), money(config.slippage_bps))
        self.settings = config

    async def health_check(self) -> dict[str, Any]:
        return {"next_seq": self.join.next_seq, "fills": len(self.portfolio.ledger)}

    @subscribe("market_data.candle_closed")
    async def on_candle(self, event: Event) -> None:
        await self.add("candle", event.payload)

    @subscribe("trading.signal")
    async def on_signal(self, event: Event) -> None:
        if event.payload["order"]:
            self.join.expect(event.payload["seq"], ["order"])
        await self.add("signal", event.payload)

    @command("trading.order")
    async def on_order(self, event: Event) -> None:
        await self.add("order", event.payload)

    @subscribe("trading.signals_ended")
    async def on_signals_ended(self, event: Event) -> None:
        self.handled += 1
        self.ended = event.payload
        await self.advance()

    async def add(self, source: str, payload: dict[str, Any]) -> None:
        self.handled += self.join.add(payload["seq"], source, payload)
        await self.advance()

    async def advance(self) -> None:
        async with self.lock:
            for seq, row in self.join.ready():
                await self.settle(seq, row)
            if self.ended is not None and self.join.next_seq > self.ended["last_seq"]:
                ended, self.ended = self.ended, None
                await self.close_session(ended)

    async def settle(self, seq: int, row: Row) -> None:
        if self.settled[0] != seq:  # else publishing failed before: the books are done
            self.settled = (seq, self.execute(seq, row))
        if (fill := self.settled[1]) is not None:
            await self.emit("trading.execution_report", execution(fill, row["candle"]["symbol"]))
        about = {k: row["candle"][k] for k in ("seq", "symbol")}
        about["event_time"] = row["candle"]["close_time"]
        await self.emit("trading.position_update", about | self.figures())

    def execute(self, seq: int, row: Row) -> Fill | None:
        """Fill the row's order, if any, and mark the books at the candle's close."""
        assert self.settings is not None
        candle, order = row["candle"], row.get("order")
        self.symbol = candle["symbol"]
        price, fill = money(candle["close"]), None
        if order is not None:
            step, target = money(self.settings.lot_step), money(order["target"])
            quantity = self.portfolio.quantity_for(target, price, step=step)
            if quantity:
                time = candle["close_time"]
                fill = self.portfolio.execute(quantity, price, seq=seq, event_time=time)
        self.portfolio.mark(price)
        self.last_close = price
        return fill

    def figures(self) -> dict[str, Any]:
        """The books at the last close; money as text, exact."""
        book, price = self.portfolio, self.last_close
        return {
            "price": plain(price),
            "initial_cash": plain(book.initial_cash),
            "cash": plain(book.cash),
            "quantity": plain(book.quantity),
            "average_cost": plain(book.average_cost),
            "equity": plain(book.equity(price)),
            "realised": plain(book.realised),
            "unrealised": plain(book.unrealised(price)),
            "fees": plain(book.fees),
            "max_drawdown": plain(book.max_drawdown),
        }

    async def close_session(self, ended: dict[str, Any]) -> None:
        book = self.portfolio
        totals = {"fills": len(book.ledger), "ledger_sha256": book.digest()}
        closed = ended | self.figures() | totals
        self.write_ledger()
        await self.emit("trading.session_closed", closed)
        await self.report()

    def write_ledger(self) -> None:
        if self.settings is not None and self.settings.ledger:
            fills = [execution(fill, self.symbol) for fill in self.portfolio.ledger]
            lines = [json.dumps(fill) + "\n" for fill in fills]
            Path(self.settings.ledger).write_text("".join(lines), encoding="utf-8")


def execution(fill: Fill, symbol: str) -> dict[str, Any]:
    return {
        "number": fill.number,
        "seq": fill.seq,
        "event_time": fill.event_time,
        "symbol": symbol,
        "side": "buy" if fill.quantity > 0 else "sell",
        "quantity": plain(abs(fill.quantity)),
        "price": plain(fill.price),
        "fee": plain(fill.fee),
        "realised": plain(fill.realised),
    }
