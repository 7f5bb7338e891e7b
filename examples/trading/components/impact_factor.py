"""Impact factors of each candle, from the trades in it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field
from tiebeam import Component, Event, subscribe

from ..agent import Reporting
from ..domain.impact import Impact
from ..domain.trade import Trade

TRADES = "event_type != 'market_data.candle_closed'"
"""Of the market data: trades and the end of the stream, in one mailbox and so in order."""


class ImpactFactor(Reporting, Component):
    """Publishes one `analysis.factor` per candle.

    A candle's bucket closes with the first trade beyond it or the end of the stream, never by
    who of the agents was faster.
    """

    name = "impact_factor"
    depends_on = ["data_collection"]

    class Config(BaseModel):
        window: int = Field(60, ge=3, le=1440, description="candles of the rolling factors")
        baseline: int = Field(240, ge=1, le=10_080, description="candles of usual volatility")

    async def initialize(self) -> None:
        self.settings: ImpactFactor.Config | None = None

    async def configure(self, config: Config) -> None:
        if config != self.settings:  # a restart keeps what was learnt
            self.settings = config
            self.impact = Impact(window=config.window, baseline=config.baseline)
            self.seq, self.number, self.last_time = -1, 0, 0
            self.assessment: dict[str, Any] = {}

    async def health_check(self) -> dict[str, Any]:
        return {"last_seq": self.seq}

    @subscribe("market_data.*", where=TRADES, key="payload.symbol")
    async def on_market(self, event: Event) -> None:
        if event.event_type == "market_data.price_update":
            if event.payload["number"] > self.number:  # else a redelivery
                await self.on_trade(event.payload["seq"], Trade.from_payload(event.payload))
                self.number = event.payload["number"]
                self.handled += 1
        elif event.event_type == "market_data.end_of_stream":
            self.handled += 1
            if event.payload["last_seq"] >= 0:
                await self.close_bucket()
            await self.report("analysis.report")

    async def on_trade(self, seq: int, trade: Trade) -> None:
        if seq > self.seq:
            if self.seq >= 0:
                await self.close_bucket()
            self.seq = seq
        self.impact.add(trade)
        self.last_time = trade.event_time

    async def close_bucket(self) -> None:
        if self.assessment.get("seq") != self.seq:  # else publishing failed: say the same again
            about = {"agent": self.name, "seq": self.seq, "event_time": self.last_time}
            self.assessment = about | asdict(self.impact.close())
            if not self.assessment["ready"]:
                self.assessment["score"] = None
        await self.emit("analysis.factor", self.assessment)
