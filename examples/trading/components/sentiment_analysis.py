"""Sentiment at the end of each candle, from who took in it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field

from ..domain.sentiment import Sentiment
from ..domain.trade import Trade
from ..trade_agent import TradeAgent


class SentimentAnalysis(TradeAgent):
    """Publishes one `analysis.sentiment` per candle."""

    name = "sentiment_analysis"
    depends_on = ["data_collection"]
    assess_as = "analysis.sentiment"
    report_as = "analysis.report"

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
            self.begin()

    def take(self, trade: Trade) -> None:
        self.mood.add(trade)

    def close_bucket(self) -> dict[str, Any]:
        return asdict(self.mood.close())
