"""The message bus of nautilus_trader."""

from __future__ import annotations

from typing import Any


def message_bus() -> Any:
    """One that stands alone, without a database behind it."""
    from nautilus_trader.common.component import MessageBus, TestClock
    from nautilus_trader.model.identifiers import TraderId

    return MessageBus(TraderId("BENCH-001"), TestClock())
