"""Notifications: what a person should hear of, in words, to the console or a file."""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field
from tiebeam import Event, subscribe

from ..agent import Agent

LEVELS = ("info", "warning", "critical")


class Notification(Agent):
    """Delivers fills, user notifications and the system's alerts."""

    name = "notification"
    depends_on = ["data_collection"]
    report_as = "user.report"

    class Config(BaseModel):
        level: Literal["info", "warning", "critical"] = Field("info", description="least level")
        console: bool = Field(False, description="write lines to standard error")
        file: str = Field("", description="append JSON lines to this file")
        keep: int = Field(100, ge=1, description="notifications kept for the health status")

    async def initialize(self) -> None:
        self.recent: deque[dict[str, Any]] = deque()
        self.fills = self.notices = self.dropped = 0
        self.closed: dict[str, Any] | None = None

    async def configure(self, config: Config) -> None:
        self.settings = config
        self.recent = deque(self.recent, maxlen=config.keep)
        if config.file:
            Path(config.file).parent.mkdir(parents=True, exist_ok=True)

    async def health_check(self) -> dict[str, Any]:
        return {"last": self.recent[-1]["text"] if self.recent else None, "below": self.dropped}

    @subscribe("trading.execution_report")
    async def on_execution(self, event: Event) -> None:
        p = event.payload
        text = f"{p['side']} {p['quantity']} {p['symbol']} at {p['price']}, fee {p['fee']}"
        self.deliver("info", text, p["event_time"])
        self.handled, self.fills = self.handled + 1, self.fills + 1
        await self.finish()

    @subscribe("user.notification")
    async def on_notification(self, event: Event) -> None:
        p = event.payload
        self.deliver(p["level"], p["text"], p["event_time"])
        self.handled, self.notices = self.handled + 1, self.notices + 1
        await self.finish()

    @subscribe("trading.session_closed")
    async def on_closed(self, event: Event) -> None:
        self.handled += 1
        self.closed = event.payload
        await self.finish()

    @subscribe("system.alert")
    async def on_alert(self, event: Event) -> None:
        text = event.payload.get("message") or json.dumps(event.payload, sort_keys=True)
        self.deliver("critical", f"{event.producer}: {text}", event.timestamp)

    @subscribe("system.component.failed")
    async def on_failed(self, event: Event) -> None:
        component = event.payload.get("component", event.producer)
        cause = event.payload.get("cause")
        self.deliver("warning", f"component {component} failed: {cause}", event.timestamp)

    def deliver(self, level: str, text: str, time: int) -> None:
        if LEVELS.index(level) < LEVELS.index(self.settings.level):
            self.dropped += 1
            return
        notification = {"level": level, "text": text, "time": time}
        self.recent.append(notification)
        if self.settings.console:
            print(f"[{level}] {text}", file=sys.stderr)
        if self.settings.file:
            with Path(self.settings.file).open("a", encoding="utf-8") as file:
                file.write(json.dumps(notification) + "\n")

    async def finish(self) -> None:
        """Report once everything that the closed session announced has been delivered."""
        closed = self.closed
        if closed is None or self.fills < closed["fills"]:
            return
        if self.notices >= closed["notifications"]:
            self.closed = None
            await self.report()
