"""bubus, with an event class of the fields that everybody's events have."""

from __future__ import annotations

import itertools
import os
from typing import Any

os.environ.setdefault("BUBUS_LOGGING_LEVEL", "ERROR")  # it would write a line per event

from bubus import BaseEvent, EventBus, models

from harness.envelope import PAYLOAD

BATCH = 40
"""Its queue takes 50 events, and refuses more."""

_numbers = itertools.count()


class PriceUpdate(BaseEvent[Any]):
    """It makes the id and the time itself."""

    producer: str
    payload_version: int
    payload: dict[str, Any]
    metadata: dict[str, Any]


PriceUpdate.model_rebuild(_types_namespace=vars(models))  # which pydantic cannot find from here


def event() -> PriceUpdate:
    """One more."""
    return PriceUpdate(
        producer="bench",
        payload_version=1,
        payload=PAYLOAD.copy(),
        metadata={"priority": "normal", "correlation_id": next(_numbers), "retry_count": 0},
    )


def event_bus(name: str) -> EventBus:
    """A bus that keeps few finished events."""
    return EventBus(name=name, max_history_size=50)


__all__ = ["BATCH", "PriceUpdate", "event", "event_bus"]
