"""The session: begins the stream, keeps the run's tally, and ends the run with a summary."""

from __future__ import annotations

import sys
from typing import Any, Literal

from pydantic import BaseModel, Field
from tiebeam import Component, Event, subscribe

from ..summary import Tally, as_json, as_text

COMPLETE, INCOMPLETE = 0, 1
"""Exit codes."""


class Session(Component):
    """Sends `market_data.start_stream` once everybody runs, and stops the system once all is done.

    It starts before all others and stops after them, so that its summary misses nothing. An agent
    that fails for good, or is restarted, ends the run too: the others would wait for what it did
    not say, or not hear.
    """

    name = "session"

    class Config(BaseModel):
        summary: Literal["text", "json", "none"] = Field("text", description="on standard output")

    async def initialize(self) -> None:
        self.tally = Tally()
        self.begun = False
        self.ended = False
        self.ran: set[str] = set()
        self.failure: str | None = None

    async def configure(self, config: Config) -> None:
        self.settings = config

    async def stop(self) -> None:
        await self.end_run()  # where somebody stops it, those in other processes stop, too
        if self.begun and self.settings.summary != "none":
            write = as_json if self.settings.summary == "json" else as_text
            print(write(self.tally, self.bus.books()), flush=True)
        if problem := self.problem():
            print(f"incomplete: {problem}", file=sys.stderr)

    async def health_check(self) -> dict[str, Any]:
        return {"candles": self.tally.candles, "complete": self.tally.complete}

    @subscribe("system.component.running")
    async def on_running(self, event: Event) -> None:
        component = event.payload["component"]
        if component in self.ran and component in self.tally.agents:
            # Nobody says again what a component missed while it was down: others would wait.
            await self.fail(f"{component} was restarted in the middle of the stream")
        self.ran.add(component)
        known = {name: self.framework.status(name) for name in self.framework.components}
        for name, status in known.items():
            if status["state"] == "failed":  # before this component started, so unheard of
                await self.fail(f"{name}: {status['error']}")
        await self.begin_with_all()

    @subscribe("system.service_discovered")
    async def on_discovered(self, event: Event) -> None:
        await self.begin_with_all()

    @subscribe("system.service_lost")
    async def on_lost(self, event: Event) -> None:
        name = event.payload["name"]
        if self.begun and not self.ended and name in self.tally.agents:
            await self.fail(f"{name}: {event.payload['cause']}")

    async def begin_with_all(self) -> None:
        """Begin the stream when every component of the system runs, in whichever process."""
        declared = self.framework.configuration.components()
        wanted = {entry["name"] for entry in declared if entry["enabled"]}
        ready = {service.name for service in self.framework.services()}
        if wanted | set(self.framework.components) <= ready and not self.begun:
            self.begun = True
            await self.bus.send("market_data.start_stream", {})

    @subscribe("market_data.*", where="event_type != 'market_data.price_update'")
    async def on_market(self, event: Event) -> None:
        await self.take(event)

    @subscribe("trading.*")
    async def on_trading(self, event: Event) -> None:
        await self.take(event)

    @subscribe("analysis.report")
    async def on_report(self, event: Event) -> None:
        await self.take(event)

    @subscribe("user.*")
    async def on_user(self, event: Event) -> None:
        await self.take(event)

    @subscribe("system.error.#")
    async def on_error(self, event: Event) -> None:
        p = event.payload
        if p.get("final") and p.get("component") in self.tally.agents:
            await self.fail(reason(p))

    @subscribe("system.alert")
    async def on_alert(self, event: Event) -> None:
        p = event.payload
        if p.get("component") in self.tally.agents:
            await self.fail(reason(p))

    async def take(self, event: Event) -> None:
        self.tally.observe(event.event_type, event.payload)
        if self.tally.complete:
            await self.end_run()

    async def fail(self, reason: str) -> None:
        self.failure = self.failure or reason
        await self.end_run()

    async def end_run(self) -> None:
        """Stop this process, and have all others stop."""
        code = INCOMPLETE if self.problem() else COMPLETE
        self.framework.request_stop(code)
        if not self.ended:
            self.ended = True
            await self.publish_event("trading.run_ended", {"code": code})

    def problem(self) -> str | None:
        """Why the run is no whole one, if anything went wrong."""
        lost = ", ".join(self.tally.lost) if self.tally.complete else ""
        not_all = f"not all price updates were handled by {lost}" if lost else None
        return self.failure or self.tally.error or not_all


def reason(failure: dict[str, Any]) -> str:
    """Which component failed, and of what."""
    kind, text = failure.get("error_type") or "", failure["message"]
    said = text if text.startswith(kind) else f"{kind}: {text}"
    return f"{failure['component']}: {said}"
