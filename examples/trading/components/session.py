"""The session: watches the run, keeps its tally and knows when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tiebeam import Component, Event, subscribe

from ..summary import AGENTS, Tally


class Session(Component):
    """Collects the summary; `over` is set when the run is complete, or cannot become so.

    `over` is set by events alone: the session's close, the reports of all agents, or an error for
    good in one of them, without which the others would wait for ever.
    """

    name = "session"

    def __init__(self, agents: Sequence[str] = AGENTS) -> None:
        super().__init__()
        self.tally = Tally(agents)
        self.over = asyncio.Event()
        self.failure: str | None = None

    @subscribe("market_data.*", where="event_type != 'market_data.price_update'")
    async def on_market(self, event: Event) -> None:
        self.take(event)

    @subscribe("trading.*")
    async def on_trading(self, event: Event) -> None:
        self.take(event)

    @subscribe("analysis.report")
    async def on_report(self, event: Event) -> None:
        self.take(event)

    @subscribe("user.*")
    async def on_user(self, event: Event) -> None:
        self.take(event)

    @subscribe("system.error.#")
    async def on_error(self, event: Event) -> None:
        component = event.payload.get("component")
        if event.payload.get("final") and component in self.tally.agents:
            self.fail(f"{component}: {event.payload.get('error', event.event_type)}")

    @subscribe("system.alert")
    async def on_alert(self, event: Event) -> None:
        component = event.payload.get("component")
        if component in self.tally.agents:
            self.fail(f"{component}: {event.payload.get('message', 'failed for good')}")

    def take(self, event: Event) -> None:
        self.tally.observe(event.event_type, event.payload)
        if self.tally.complete:
            self.over.set()

    def fail(self, reason: str) -> None:
        self.failure = self.failure or reason
        self.over.set()
