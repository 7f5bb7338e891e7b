"""A process that handles events, and writes down each that it has handled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tiebeam import Event, EventBus

from faults.ledger import Ledger
from faults.standing import on_request, told_to_end


@dataclass
class Consumer:
    """What a consumer is to do."""

    name: str
    url: str
    prefix: str
    ledger: str
    work: float = 0.0
    """How long each event takes, in seconds, until it is asked to hurry."""
    poison: int | None = None
    """The event that ends the process of whoever handles it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the bus."""
    how: dict[str, Any] = field(default_factory=lambda: {"group": "g", "concurrency": 16})
    """Of the subscription."""

    def arguments(self) -> list[str]:
        """For the process."""
        return ["faults.consumer", json.dumps(asdict(self))]


class _Handling:
    def __init__(self, plan: Consumer, ledger: Ledger) -> None:
        self.plan, self.ledger, self.work = plan, ledger, plan.work

    def hurry(self) -> None:
        self.work = 0.0

    async def handle(self, event: Event) -> None:
        seq, key = event.payload["n"], event.key or ""
        self.ledger.note("begin", event.event_id, seq, key)
        if seq == self.plan.poison:
            os._exit(1)
        if self.work:
            await asyncio.sleep(self.work)  # the work itself
        self.ledger.note("done", event.event_id, seq, key)
        await self.ledger.synced()

    def hear(self, event: Event) -> None:
        """What the bus tells of itself."""
        self.ledger.note("told", event.event_id, more=[event.event_type, event.payload])


async def _main(plan: Consumer) -> None:
    ledger = Ledger(Path(plan.ledger))
    handling = _Handling(plan, ledger)
    bus = EventBus(plan.name, url=plan.url, prefix=plan.prefix, **plan.options)
    bus.subscribe("orders.placed", handling.handle, name="orders", **plan.how)
    bus.subscribe("system.#", handling.hear, name="news", run_in="inline")
    on_request(handling.hurry)
    async with bus:
        ledger.note("ready")
        await told_to_end()
        await bus.drain()
        orders = bus.books()["orders"]
    books = bus.books()
    told = {"balanced": books.balanced, "duplicates": books.duplicates}
    ledger.note("books", more={**told, **orders.as_dict()})
    ledger.sync()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(Consumer(**json.loads(sys.argv[1]))))
