"""Data collection: trades from a file or the simulator become price updates and candles."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from tiebeam import Event, command

from ..agent import Agent
from ..domain.candles import Candle, CandleBuilder
from ..domain.simulator import Market, simulate
from ..domain.trade import Trade
from ..domain.trades_csv import TradesFileError, read_trades

Speed = Annotated[float, Field(gt=0, allow_inf_nan=False)]

YIELD_EVERY = 64
"""Trades between two breaths for the other agents, so that they work alongside."""


class DataCollection(Agent):
    """Publishes `market_data.price_update`, `candle_closed` and, once, `end_of_stream`.

    It begins with the command `market_data.start_stream`.
    """

    name = "data_collection"
    after = ["session"]
    report_as = "market_data.report"
    price_updates: int = 0

    class Config(BaseModel):
        symbol: str = Field("BTCUSDT", min_length=1)
        interval: int = Field(60, ge=1, le=86_400, description="seconds of a candle")
        replay: str = Field("", description="a CSV file of trades; the simulator where empty")
        seed: int = Field(7, ge=0, description="of the simulator")
        speed: Speed | Literal["max"] = Field("max", description="times real time")

    async def initialize(self) -> None:
        self.begin = asyncio.Event()
        self.feed: asyncio.Task[None] | None = None
        self.failure: str | None = None
        self.done = False

    async def configure(self, config: Config) -> None:
        if config.replay:
            next(iter(read_trades(Path(config.replay))), None)  # a bad path or header fails here
        self.settings = config

    async def start(self) -> None:
        # The task is made here, not where the command arrives: a command's deadline would be
        # inherited by every trade of the day.
        if not self.done:
            self.feed = asyncio.create_task(self.run_feed(), name="trading feed")

    async def stop(self) -> None:
        if self.feed is not None:
            self.feed.cancel()
            await asyncio.gather(self.feed, return_exceptions=True)
            self.feed = None
        await super().stop()

    async def health_check(self) -> dict[str, Any]:
        if self.feed is not None and self.feed.done():
            self.feed.result()  # an error that ended it too early fails the check
        source = self.settings.replay or f"simulator, seed {self.settings.seed}"
        return {"source": source, "error": self.failure, "done": self.done}

    @command("market_data.start_stream")
    async def on_start_stream(self, event: Event) -> None:
        self.begin.set()

    def trades(self) -> Iterable[Trade]:
        if self.settings.replay:
            return read_trades(Path(self.settings.replay))
        return simulate(self.settings.seed, Market())

    async def run_feed(self) -> None:
        await self.begin.wait()
        builder = CandleBuilder(self.settings.interval * 1000)
        count, last_time = 0, 0
        loop = asyncio.get_running_loop()
        started, first_time = loop.time(), None
        try:
            for trade in self.trades():
                first_time = trade.event_time if first_time is None else first_time
                if isinstance(self.settings.speed, float):
                    due = started + (trade.event_time - first_time) / 1000 / self.settings.speed
                    if due > loop.time():
                        await asyncio.sleep(due - loop.time())
                count, last_time = count + 1, trade.event_time
                await self.take(trade, count, builder)
                if count % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        except TradesFileError as error:
            self.failure = str(error)
        if (candle := builder.flush()) is not None:
            await self.publish_candle(candle)
        end = {"symbol": self.settings.symbol, "last_seq": builder.seq, "trades": count}
        end |= {"event_time": last_time, "error": self.failure}
        await self.emit("market_data.end_of_stream", end)
        await self.report()
        self.done = True

    async def take(self, trade: Trade, number: int, builder: CandleBuilder) -> None:
        if (closed := builder.add(trade)) is not None:
            await self.publish_candle(closed)
        update = {
            "symbol": self.settings.symbol,
            "event_time": trade.event_time,
            "number": number,
            "trade_id": trade.trade_id,
            "side": trade.side,
            "price": trade.price,
            "volume": trade.amount,
            "seq": builder.seq,
        }
        await self.emit("market_data.price_update", update)
        self.price_updates += 1

    async def publish_candle(self, candle: Candle) -> None:
        payload = {"symbol": self.settings.symbol, **candle.to_payload()}
        await self.emit("market_data.candle_closed", payload)
