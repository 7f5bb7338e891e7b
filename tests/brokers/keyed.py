"""Members of a group that keeps the order of keys."""

from __future__ import annotations

from typing import Any

from tiebeam import EventBus


def member(name: str, url: str, seen: list[tuple[str, str, int]], **options: Any) -> EventBus:
    """A bus that reads prices for the group ``g``, in the order of their keys.

    Args:
        name: What it is called.
        url: Where the broker is.
        seen: Gets its name, the key and the number of each event that it handles.
        options: Of the bus.
    """
    bus = EventBus(name, url=url, **options)
    bus.subscribe(
        "price.*",
        lambda event: seen.append((name, event.metadata["key"], event.payload["n"])),
        group="g",
        key="metadata.key",
    )
    return bus
