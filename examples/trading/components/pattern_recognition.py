"""Pattern recognition: candlestick patterns and one score per candle."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field
from tiebeam import Event, subscribe

from ..agent import Agent
from ..domain.candles import Candle
from ..domain.patterns import Thresholds, detect, score

LONGEST = 3
"""Candles of the longest pattern, and so of the warm-up."""

CANDLES = "event_type != 'market_data.price_update'"
"""Of the market data: candles and the end of the stream, in one mailbox and so in order."""


class PatternRecognition(Agent):
    """Publishes one `analysis.pattern` per candle, with or without a match."""

    name = "pattern_recognition"
    depends_on = ["data_collection"]
    report_as = "analysis.report"

    class Config(BaseModel):
        """Fractions of a candle's span, `shadow_to_body` in bodies, `penetration` of a body."""

        doji_body: float = Field(0.1, gt=0, le=1)
        small_body: float = Field(0.35, gt=0, le=1)
        long_body: float = Field(0.6, gt=0, le=1)
        shadow_to_body: float = Field(2.0, gt=0)
        other_shadow: float = Field(0.15, ge=0, le=1)
        star_body: float = Field(0.5, gt=0, le=1)
        penetration: float = Field(0.5, gt=0, le=1)

    async def initialize(self) -> None:
        self.settings: PatternRecognition.Config | None = None

    async def configure(self, config: Config) -> None:
        if config != self.settings:  # a restart keeps what was learnt
            self.settings = config
            self.thresholds = Thresholds(**config.model_dump())
            self.candles: deque[Candle] = deque(maxlen=LONGEST)

    async def health_check(self) -> dict[str, Any]:
        return {"last_seq": self.candles[-1].seq if self.candles else -1}

    @subscribe("market_data.*", where=CANDLES, key="payload.symbol")
    async def on_market(self, event: Event) -> None:
        if event.event_type == "market_data.candle_closed":
            await self.on_candle(Candle.from_payload(event.payload))
        elif event.event_type == "market_data.end_of_stream":
            self.handled += 1
            await self.report()

    async def on_candle(self, candle: Candle) -> None:
        seq = self.candles[-1].seq if self.candles else -1
        if candle.seq < seq:
            return
        if candle.seq > seq:  # else a redelivery: say the same again, publishing may have failed
            self.handled += 1
            self.candles.append(candle)
        matches = detect(tuple(self.candles), self.thresholds)
        ready = len(self.candles) == LONGEST
        payload = {
            "agent": self.name,
            "seq": candle.seq,
            "event_time": candle.close_time,
            "ready": ready,
            "score": score(matches) if ready else None,
            "patterns": [asdict(match) for match in matches],
        }
        await self.emit("analysis.pattern", payload)
