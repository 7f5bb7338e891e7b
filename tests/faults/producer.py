"""A process that publishes, and writes down what it was told of each event."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tiebeam import EventBus
from tiebeam.exceptions import OutcomeUnknown, TiebeamError

from faults.ledger import Ledger
from faults.standing import on_request, told_to_end


@dataclass
class Producer:
    """What a producer is to do."""

    name: str
    url: str
    prefix: str
    ledger: str
    count: int | None = None
    """How many events; until it is told to end, if left out."""
    rate: float | None = None
    """Events in a second; as fast as it goes, if left out."""
    window: int = 200
    """How many publishes may be under way at once."""
    keys: int = 16
    tries: int = 20
    """How often an event is published whose outcome nobody knows, the first time included."""
    insists: bool = True
    """Whether what was refused is published again, too."""
    options: dict[str, Any] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        """For the process."""
        return ["faults.producer", json.dumps(asdict(self))]


class _Publishing:
    def __init__(self, plan: Producer, bus: EventBus, ledger: Ledger) -> None:
        self.plan, self.bus, self.ledger = plan, bus, ledger
        self.room = asyncio.Semaphore(plan.window)
        self.over = asyncio.Event()

    async def all(self) -> None:
        """Publish what the plan says, and wait for the outcome of each."""
        seq, began = 0, time.monotonic()
        under_way: set[asyncio.Task[None]] = set()
        while not self.over.is_set() and (self.plan.count is None or seq < self.plan.count):
            if self.plan.rate is not None:
                ahead = began + seq / self.plan.rate - time.monotonic()
                if ahead > 0:
                    await asyncio.sleep(ahead)  # the pace is the plan
            await self.room.acquire()
            task = asyncio.ensure_future(self.one(seq))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            seq += 1
        if under_way:
            await asyncio.gather(*under_way)

    async def one(self, seq: int) -> None:
        """Publish one event until its outcome is known, or it was tried often enough."""
        event_id, key = f"{self.plan.name}-{seq}", f"{self.plan.name}-{seq % self.plan.keys}"
        try:
            self.ledger.note("offered", event_id, seq, key)
            told: list[str] = []
            while len(told) < self.plan.tries:
                told.append(await self.attempt(event_id, seq, key))
                if told[-1] == "acked" or not (self.plan.insists or "unknown" in told):
                    break
            # Refused at last, it may be there by an earlier attempt.
            word = "unknown" if told[-1] == "failed" and "unknown" in told else told[-1]
            self.ledger.note(word, event_id, seq, key, more=told)
            await self.ledger.synced()
        finally:
            self.room.release()

    async def attempt(self, event_id: str, seq: int, key: str) -> str:
        try:
            await self.bus.publish("orders.placed", {"n": seq}, key=key, event_id=event_id)
        except OutcomeUnknown:
            return "unknown"
        except TiebeamError as error:
            self.ledger.note("refused", event_id, seq, key, more=type(error).__name__)
            return "failed"
        return "acked"


async def _main(plan: Producer) -> None:
    ledger = Ledger(Path(plan.ledger))
    async with EventBus(plan.name, url=plan.url, prefix=plan.prefix, **plan.options) as bus:
        publishing = _Publishing(plan, bus, ledger)
        loop = asyncio.get_running_loop()
        on_request(lambda: loop.call_soon_threadsafe(publishing.over.set))
        ledger.note("ready")
        await publishing.all()
        ledger.note("finished", more={"events": bus.books().events, "unsent": bus.unsent})
        ledger.sync()
        await told_to_end()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(Producer(**json.loads(sys.argv[1]))))
