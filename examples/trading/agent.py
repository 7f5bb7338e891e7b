"""What every agent of the example has: counted publishing and a report at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


class Reporting:
    """Counts what an agent handled and published; mix in before `Component`.

    The counts follow the input alone: each agent counts its own events, none of the system's, and
    reports when its part of the stream is over.
    """

    handled = 0
    published = 0

    if TYPE_CHECKING:  # Component has these; the mixin only promises so
        name: str

        async def publish_event(self, event_type: str, payload: dict[str, Any]) -> None: ...

    async def emit(self, event_type: str, payload: dict[str, Any]) -> None:
        """Publish, and count."""
        await self.publish_event(event_type, payload)
        self.published += 1

    async def report(self, event_type: str) -> None:
        """Publish the counts, which do not count the report itself."""
        counts = {"agent": self.name, "handled": self.handled, "published": self.published}
        await self.publish_event(event_type, counts)
