"""Technical analysis: indicators and one score per candle."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, model_validator
from tiebeam import Event, subscribe

from ..agent import Agent
from ..domain.candles import Candle
from ..domain.technical import Periods, TechnicalModel

CANDLES = "event_type != 'market_data.price_update'"
"""Of the market data: candles and the end of the stream, in one mailbox and so in order."""


class TechnicalAnalysis(Agent):
    """Publishes one `analysis.indicator` per candle."""

    name = "technical_analysis"
    depends_on = ["data_collection"]
    report_as = "analysis.report"

    class Config(BaseModel):
        """Lookbacks in candles."""

        fast: int = Field(20, ge=2, le=500)
        slow: int = Field(60, ge=3, le=1000)
        rsi: int = Field(14, ge=2, le=500)
        bollinger: int = Field(20, ge=2, le=500)
        atr: int = Field(14, ge=2, le=500)

        @model_validator(mode="after")
        def fast_is_faster(self) -> TechnicalAnalysis.Config:
            if not self.fast < self.slow:
                raise ValueError(f"fast ({self.fast}) must be shorter than slow ({self.slow})")
            return self

    async def initialize(self) -> None:
        self.settings: TechnicalAnalysis.Config | None = None

    async def configure(self, config: Config) -> None:
        if config != self.settings:  # a restart keeps what was learnt
            self.settings = config
            self.model = TechnicalModel(Periods(**config.model_dump()))
            self.seq, self.assessment = -1, dict[str, Any]()

    async def health_check(self) -> dict[str, Any]:
        return {"last_seq": self.seq}

    @subscribe("market_data.*", where=CANDLES, key="payload.symbol")
    async def on_market(self, event: Event) -> None:
        if event.event_type == "market_data.candle_closed":
            await self.on_candle(Candle.from_payload(event.payload))
        elif event.event_type == "market_data.end_of_stream":
            self.handled += 1
            await self.report()

    async def on_candle(self, candle: Candle) -> None:
        if candle.seq > self.seq:
            self.handled += 1
            indicators = self.model.update(candle)
            self.seq = candle.seq
            self.assessment = {
                "agent": self.name,
                "seq": candle.seq,
                "event_time": candle.close_time,
                "ready": indicators["score"] is not None,
                **indicators,
            }
        if candle.seq == self.seq:  # for a redelivery too: it may be that publishing failed
            await self.emit("analysis.indicator", self.assessment)
