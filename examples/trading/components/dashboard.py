"""The dashboard: a live picture on a terminal, plain progress lines elsewhere."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections import Counter
from io import TextIOWrapper
from typing import Any

from pydantic import BaseModel, Field
from tiebeam import Event, subscribe

from ..agent import Member
from ..dashboard_view import View, progress, render

UP, CLEAR_LINE, CLEAR_BELOW = "\x1b[{}F", "\x1b[K", "\x1b[J"


class Dashboard(Member):
    """Only watches. The wall clock it shows delays and rates with never reaches a decision."""

    name = "dashboard"
    depends_on = ["data_collection"]

    class Config(BaseModel):
        live: bool = Field(True, description="paint, or print progress; false shows nothing")
        refresh: float = Field(0.25, ge=0.05, description="seconds between two pictures at least")
        progress_every: int = Field(240, ge=1, description="candles between two plain lines")

    async def initialize(self) -> None:
        self.view = View()
        self.counts: Counter[str] = Counter()
        self.painter: asyncio.Task[None] | None = None
        self.painted = 0

    async def configure(self, config: Config) -> None:
        self.settings = config

    async def start(self) -> None:
        # Events tell of changes from now on; what runs already is asked for.
        known = self.framework.services(unhealthy=True)
        self.view.components = {service.name: service.state for service in known}
        if self.settings.live and sys.stdout.isatty():
            if isinstance(sys.stdout, TextIOWrapper):  # not every terminal knows these characters
                sys.stdout.reconfigure(errors="replace")
            self.painter = asyncio.create_task(self.keep_painting(), name="dashboard")

    async def stop(self) -> None:
        if self.painter is not None:
            self.painter.cancel()
            await asyncio.gather(self.painter, return_exceptions=True)
            self.painter = None
            self.paint()

    async def health_check(self) -> dict[str, Any]:
        return {"candles": self.view.candles, "alerts": self.view.alerts}

    @subscribe("market_data.candle_closed")
    async def on_candle(self, event: Event) -> None:
        self.saw(event, event.payload["trades"])

    @subscribe("analysis.#")
    async def on_analysis(self, event: Event) -> None:
        self.saw(event)

    @subscribe("trading.#")
    async def on_trading(self, event: Event) -> None:
        self.saw(event)
        p, view = event.payload, self.view
        if event.event_type == "trading.signal" and p["order"]:
            view.signals.append(f"{p['action']} to {p['target']:.0%} at candle {p['seq']}")
        elif event.event_type == "trading.execution_report":
            view.fills = p["number"]
        elif event.event_type == "trading.position_update":
            view.symbol, view.event_time, view.candles = p["symbol"], p["event_time"], p["seq"] + 1
            view.price, view.quantity = float(p["price"]), p["quantity"]
            view.fees, view.drawdown = float(p["fees"]), float(p["max_drawdown"])
            view.initial_cash = float(p["initial_cash"])
            view.equity.append(float(p["equity"]))
            plain = self.settings.live and self.painter is None
            if plain and (p["seq"] + 1) % self.settings.progress_every == 0:
                print(progress(view), file=sys.stderr)

    @subscribe("user.notification")
    async def on_notification(self, event: Event) -> None:
        self.saw(event)
        self.view.notices.append(f"{event.payload['level']}: {event.payload['text']}")

    @subscribe("system.component.#")
    async def on_component(self, event: Event) -> None:
        self.saw(event)
        component = str(event.payload.get("component", event.producer))
        self.view.components[component] = event.event_type.rpartition(".")[2]

    @subscribe("system.error.#")
    async def on_error(self, event: Event) -> None:
        self.saw(event)
        self.view.dead_letters += bool(event.payload.get("final"))

    @subscribe("system.alert")
    async def on_alert(self, event: Event) -> None:
        self.saw(event)
        self.view.alerts += 1

    def saw(self, event: Event, weight: int = 0) -> None:
        """Count one event, and the `weight` price updates that a candle stands for."""
        self.counts[event.event_type.partition(".")[0]] += 1 + weight
        self.view.delay_ms = max(self.view.delay_ms, time.time() * 1000 - event.timestamp)

    async def keep_painting(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(self.settings.refresh)
            now = loop.time()
            self.view.rates = {k: n / (now - last) for k, n in self.counts.items()}
            self.paint()
            last, self.view.delay_ms = now, 0.0
            self.counts = Counter(dict.fromkeys(self.counts, 0))

    def paint(self) -> None:
        """Paint over the last picture; what stood on the terminal before stays above it."""
        width, height = shutil.get_terminal_size()
        lines = render(self.view, width, height - 1)
        up = UP.format(self.painted) if self.painted else ""
        picture = "".join(f"{line}{CLEAR_LINE}\n" for line in lines)
        sys.stdout.write(f"{up}{picture}{CLEAR_BELOW}")
        sys.stdout.flush()
        self.painted = len(lines)
