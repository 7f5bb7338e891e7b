"""FastStream without a server: its own in-memory stand-in for a broker."""

from __future__ import annotations

import logging
from typing import Any


def broker() -> Any:
    """A NATS broker that logs nothing; to be used with :func:`in_memory`."""
    from faststream.nats import NatsBroker

    return NatsBroker(logger=None, log_level=logging.CRITICAL)


def in_memory(broker: Any) -> Any:
    """The context in which ``broker`` needs no server; what is published is handled inside."""
    from faststream.nats import TestNatsBroker

    return TestNatsBroker(broker)
