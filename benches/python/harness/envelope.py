"""The event that peers carry: what an event of tiebeam holds, made by the cheapest fair means.

That is a dict, with an id from a counter. Tiebeam's own is the full one, as users get it: a
time-ordered unique id, a payload that is checked and encoded, lineage, and a mailbox with books.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

TYPE = "market_data.price_update"
PAYLOAD = {"symbol": "BTCUSDT", "price": 38245.5, "volume": 2.15}

_numbers = itertools.count()


def envelope(event_type: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Id, type, millisecond timestamp, producer, version, a copy of the payload, metadata."""
    event_id = f"evt_{next(_numbers):032x}"
    return {
        "event_id": event_id,
        "event_type": event_type,
        "timestamp": time.time_ns() // 1_000_000,
        "producer": "bench",
        "version": 1,
        "payload": payload.copy(),
        "metadata": {"priority": "normal", "correlation_id": event_id, "retry_count": 0},
    }
