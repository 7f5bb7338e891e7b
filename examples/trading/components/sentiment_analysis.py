"""Sentiment at the end of each candle, from who took in it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field
from tiebeam import Component, Event, subscribe

from ..agent import Reporting
from ..domain.sentiment import Sentiment
from ..domain.trade import Trade

TRADES = "event_type != 'market_data.candle_closed'"
"""Of the market data: trades and the end of the stream, in one mailbox and so in order."""


class SentimentAnalysis(Reporting, Component):
    """Publishes one `analysis.sentiment` per candle.

    A candle's bucket closes with the first trade beyond it or the end of the stream, never by
    who of the agents was faster.
    """

    name = "sentiment_analysis"
    depends_on = ["data_collection"]

    class Config(BaseModel):
        half_life: float = Field(300.0, gt=0, description="seconds until a trade counts half")
        window: int = Field(30, ge=2, le=1440, description="candles to compare activity with")

    async def initialize(self) -> None:
        self.settings: SentimentAnalysis.Config | None = None

    async def configure(self, config: Config) -> None:
        if config != self.settings:  # a restart keeps what was learnt
            self.settings = config
            half_life_ms = max(1, round(config.half_life * 1000))
            self.mood = Sentiment(half_life_ms=half_life_ms, window=config.window)
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
        self.mood.add(trade)
        self.last_time = trade.event_time

    async def close_bucket(self) -> None:
        if self.assessment.get("seq") != self.seq:  # else publishing failed: say the same again
            about = {"agent": self.name, "seq": self.seq, "event_time": self.last_time}
            self.assessment = about | asdict(self.mood.close())
            if not self.assessment["ready"]:
                self.assessment["score"] = None
        await self.emit("analysis.sentiment", self.assessment)
