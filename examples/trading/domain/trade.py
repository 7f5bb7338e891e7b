"""One trade, as an exchange reports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Side = Literal["buy", "sell"]


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade; `side` is the taker's, so a buy lifted an offer and a sell hit a bid."""

    event_time: int
    """When it happened, in ms since the epoch."""
    trade_id: int
    side: Side
    price: float
    """In quote currency per unit of base currency."""
    amount: float
    """In base currency."""

    @property
    def signed_amount(self) -> float:
        """The amount in base currency, negative for a taker's sale."""
        return self.amount if self.side == "buy" else -self.amount

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Trade:
        """The trade in the payload of a `market_data.price_update`."""
        return cls(
            payload["event_time"],
            payload["trade_id"],
            payload["side"],
            payload["price"],
            payload["volume"],
        )
