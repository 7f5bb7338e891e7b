"""An agent that hears every trade and says one thing about each candle."""

from __future__ import annotations

from typing import Any, ClassVar

from tiebeam import Event, subscribe

from .agent import Agent
from .domain.trade import Trade

TRADES = "event_type != 'market_data.candle_closed'"
"""Of the market data: trades and the end of the stream, in one mailbox and so in order."""


class TradeAgent(Agent):
    """Collects the trades of a candle in a bucket and publishes what the bucket amounts to.

    A bucket closes with the first trade beyond its candle or the end of the stream, never by who
    of the agents was faster.
    """

    name = "trade_agent"
    assess_as: ClassVar[str]
    """The type of the event about each candle."""
    price_updates: int = 0

    def take(self, trade: Trade) -> None:
        """Take one trade into the open bucket."""
        raise NotImplementedError

    def close_bucket(self) -> dict[str, Any]:
        """Close the bucket; what it amounts to, with `score` and `ready`."""
        raise NotImplementedError

    def begin(self) -> None:
        """Begin before the first candle."""
        self.seq, self.number, self.last_time = -1, 0, 0
        self.assessment: dict[str, Any] = {}

    async def health_check(self) -> dict[str, Any]:
        return {"last_seq": self.seq}

    @subscribe("market_data.*", where=TRADES, key="payload.symbol")
    async def on_market(self, event: Event) -> None:
        payload = event.payload
        if event.event_type == "market_data.price_update":
            if payload["number"] > self.number:  # else a redelivery
                await self.on_trade(payload["seq"], Trade.from_payload(payload))
                self.number = payload["number"]
                self.price_updates += 1
                self.handled += 1
        elif event.event_type == "market_data.end_of_stream":
            self.handled += 1
            if payload["last_seq"] >= 0:
                await self.assess()
            await self.report()

    async def on_trade(self, seq: int, trade: Trade) -> None:
        if seq > self.seq:
            if self.seq >= 0:
                await self.assess()
            self.seq = seq
        self.take(trade)
        self.last_time = trade.event_time

    async def assess(self) -> None:
        if self.assessment.get("seq") != self.seq:  # else publishing failed: say the same again
            about = {"agent": self.name, "seq": self.seq, "event_time": self.last_time}
            self.assessment = about | self.close_bucket()
            if not self.assessment["ready"]:
                self.assessment["score"] = None
        await self.emit(self.assess_as, self.assessment)
