"""Where a case runs: buses as processes of their own would have them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from tiebeam.bus import EventBus
from tiebeam.conformance._expect import expect

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Site"]

T = TypeVar("T")


class Site:
    """One transport, with names of its own on the broker."""

    def __init__(self, url: str | None = None, *, guard: float = 20.0) -> None:
        """Prepare a site; nothing is connected yet.

        Args:
            url: Where the broker is; in memory if left out.
            guard: How long anything may take, in seconds.
        """
        self.url = url
        self.guard = guard
        self.prefix = f"tiebeam-conformance-{uuid.uuid4().hex[:12]}"
        self._buses: list[EventBus] = []

    def bus(self, name: str = "bus", **options: Any) -> EventBus:
        """A bus as another process would have it; in memory always the same one."""
        options.setdefault("dedup", True)
        if self.url is None:
            if not self._buses:
                self._buses.append(EventBus(name, **options))
            return self._buses[0]
        options.setdefault("claim_idle", 1.0)
        bus = EventBus(name, url=self.url, prefix=self.prefix, **options)
        self._buses.append(bus)
        return bus

    def two(self) -> tuple[EventBus, EventBus]:
        """Two of them."""
        return self.bus("here"), self.bus("there")

    async def ready(self) -> None:
        """Wait until everything that was subscribed to is read."""
        for bus in self._buses:
            if not bus.closed:
                await bus.ready(self.guard)

    async def until(self, what: Callable[[], T]) -> T:
        """The first true thing that ``what`` returns.

        Raises:
            AssertionError: When there is none in time.
        """
        end = time.monotonic() + self.guard
        while not (found := what()):
            expect(time.monotonic() < end, f"not within {self.guard} s")
            await asyncio.sleep(0.002)
        return found

    async def until_told(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The first true thing that awaiting ``ask()`` gives.

        Raises:
            AssertionError: When there is none in time.
        """
        end = time.monotonic() + self.guard
        while not (found := await ask()):
            expect(time.monotonic() < end, f"not within {self.guard} s")
            await asyncio.sleep(0.02)
        return found

    async def rest(self) -> None:
        """Wait until nothing is under way, on any bus; what should not come has come by then."""
        for bus in self._buses:
            if not bus.closed:
                await asyncio.wait_for(bus.drain(), self.guard)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        unbalanced = [str(bus.books()) for bus in self._buses if not bus.books().balanced]
        for bus in self._buses:
            await bus.close(0.0 if kind else 5.0)
        if self.url is not None:
            cleaner = EventBus("cleaner", url=self.url, prefix=self.prefix)
            try:
                await cleaner._wipe()
            finally:
                await cleaner.close(0.0)
        expect(kind is not None or not unbalanced, unbalanced)
