"""What everybody sends: the event of the requirement, as JSON."""

from __future__ import annotations

import json
from typing import Any

TYPE = "market_data.trade"
STREAM = "{bench:market_data:0}"
GROUP = "bench"
BATCH = 100


def payload(n: int, sent: float = 0.0) -> dict[str, Any]:
    """The content of one event: about what a trade is."""
    return {"symbol": "BTCUSDT", "price": 38245.5, "volume": 2.15, "n": n, "sent": sent}


def text(n: int, sent: float = 0.0) -> bytes:
    """The whole event, for those who write it themselves."""
    return json.dumps(
        {
            "event_id": f"evt_{n:032x}",
            "event_type": TYPE,
            "timestamp": 1645541585432,
            "producer": "bench",
            "version": 1,
            "payload": payload(n, sent),
            "metadata": {"priority": "normal", "correlation_id": f"evt_{n:032x}"},
        },
        separators=(",", ":"),
    ).encode()
