"""Where a case runs: buses as processes of their own would have them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from tiebeam._core import Subscription
from tiebeam.bus import EventBus, TlsOptions
from tiebeam.conformance._expect import expect
from tiebeam.exceptions import TiebeamError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PREFIX", "Site"]

T = TypeVar("T")

PREFIX = "tiebeam-conformance"
"""What the names on the broker begin with, unless somebody says otherwise."""


class Site:
    """One transport, with names of its own on the broker, which go with the site."""

    def __init__(
        self,
        url: str | None = None,
        *,
        guard: float = 20.0,
        prefix: str = PREFIX,
        tls: TlsOptions | None = None,
    ) -> None:
        """Prepare a site; nothing is connected yet.

        Args:
            url: Where the broker is; in memory if left out.
            guard: How long anything may take, in seconds.
            prefix: What the names on the broker begin with; each site adds something of its own.
            tls: What TLS to the broker needs, as for a bus.
        """
        self.url = url
        self.guard = guard
        self.prefix = f"{prefix}-{uuid.uuid4().hex[:12]}"
        self._tls = tls
        self._buses: list[EventBus] = []
        self._lasting: dict[tuple[str, str], _Hold] = {}

    def probe(self) -> EventBus:
        """A bus that no case knows of: whoever asks for it closes it."""
        if self.url is None:
            return EventBus("probe")
        return EventBus("probe", url=self.url, prefix=self.prefix, tls=self._tls)

    def bus(self, name: str = "bus", **options: Any) -> EventBus:
        """A bus as another process would have it; in memory always the same one."""
        options.setdefault("dedup", True)
        if self.url is None:
            if not self._buses:
                self._buses.append(EventBus(name, **options))
            return self._buses[0]
        options.setdefault("claim_idle", 1.0)
        bus = _Noting(name, url=self.url, prefix=self.prefix, tls=self._tls, **options)
        bus.lasting = self._lasting
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
            try:
                await self._clean_up()
            except TiebeamError:
                if kind is None:  # else what went wrong before says more
                    raise
        expect(kind is not None or not unbalanced, unbalanced)

    async def _clean_up(self) -> None:
        """Take everything off the broker."""
        cleaner = self.probe()
        held = []
        try:
            # RabbitMQ does not tell what there is: a bus wipes only what it has itself. And only
            # once nobody reads it any more, who would have it made again.
            if cleaner.capabilities["name"] == "rabbitmq" and self._lasting:
                held = [hold(cleaner) for hold in self._lasting.values()]
                await cleaner.ready(self.guard)
        finally:
            for subscription in held:
                subscription.cancel()
            try:
                await cleaner._wipe()
            finally:
                await cleaner.close(0.0)


_Hold = Callable[[EventBus], Subscription]
"""Subscribes to what another bus had subscribed to, for nothing."""


class _Noting(EventBus):
    """A bus that notes what it leaves on the broker, where that outlives all who read it."""

    lasting: dict[tuple[str, str], _Hold]
    """By what it is, and its name."""

    def _add(self, role: str, given: Any, handler: Any, how: Mapping[str, Any]) -> Any:
        added = super()._add(role, given, handler, how)
        if role == "handle":
            self.lasting[role, given] = lambda bus: bus.handle(given, _nothing)
        elif "group" in how:
            same: Any = {option: how[option] for option in ("group", "key") if option in how}
            self.lasting["group", how["group"]] = lambda bus: bus.subscribe(given, _nothing, **same)
        return added


def _nothing(_event: object) -> None:
    """Handle what is left of a case."""
