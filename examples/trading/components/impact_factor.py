"""Impact factors of each candle, from the trades in it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field

from ..domain.impact import Impact
from ..domain.trade import Trade
from ..trade_agent import TradeAgent


class ImpactFactor(TradeAgent):
    """Publishes one `analysis.factor` per candle."""

    name = "impact_factor"
    depends_on = ["data_collection"]
    assess_as = "analysis.factor"
    report_as = "analysis.report"

    class Config(BaseModel):
        window: int = Field(60, ge=3, le=1440, description="candles of the rolling factors")
        baseline: int = Field(240, ge=1, le=10_080, description="candles of usual volatility")

    async def initialize(self) -> None:
        self.settings: ImpactFactor.Config | None = None

    async def configure(self, config: Config) -> None:
        if config != self.settings:  # a restart keeps what was learnt
            self.settings = config
            self.impact = Impact(window=config.window, baseline=config.baseline)
            self.begin()

    def take(self, trade: Trade) -> None:
        self.impact.add(trade)

    def close_bucket(self) -> dict[str, Any]:
        return asdict(self.impact.close())
