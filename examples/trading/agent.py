"""What every agent of the example has: counted publishing and a report at the end."""

from __future__ import annotations

from typing import Any, ClassVar

from tiebeam import Component, Event, subscribe


class Member(Component):
    """Ends its process with the run, wherever the session is that says so."""

    run_over = False

    @subscribe("trading.run_ended", broadcast=True)
    async def on_run_ended(self, event: Event) -> None:
        self.end_run(event.payload["code"])

    @subscribe("system.service_lost")
    async def on_service_lost(self, event: Event) -> None:
        if event.payload["name"] == "session" and event.payload["reason"] == "lease":
            self.end_run(1)  # its process is gone without a word

    def end_run(self, code: int) -> None:
        if not self.run_over:
            self.run_over = True
            self.framework.request_stop(code)


class Agent(Member):
    """Counts what it handled and published, and reports that as an event.

    The counts follow the input alone: an agent counts its own events and none of the system's.
    It reports when its part of the stream is over, and again when it stops, so that a run that
    was interrupted has figures too.
    """

    report_as: ClassVar[str]
    """The type of the report: `report` in the category of what the agent publishes."""

    handled = 0
    published = 0
    price_updates: int | None = None
    """Of these, the price updates; `None` for an agent that has nothing to do with them."""

    async def stop(self) -> None:
        await self.report()

    async def emit(self, event_type: str, payload: dict[str, Any]) -> None:
        """Publish, and count."""
        await self.publish_event(event_type, payload)
        self.published += 1

    async def report(self) -> None:
        """Publish the counts, which do not count the report itself."""
        counts = {"agent": self.name, "handled": self.handled, "published": self.published}
        await self.publish_event(self.report_as, counts | {"price_updates": self.price_updates})
