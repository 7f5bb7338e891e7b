"""The bus and the framework as tests use them: the real ones, on the test's clock."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tiebeam import _core
from tiebeam._core import Clock, Event
from tiebeam._discovery import checked
from tiebeam._upcast import Upcasters
from tiebeam.bus import EventBus
from tiebeam.component import Component
from tiebeam.configuration import Configuration
from tiebeam.framework import Framework
from tiebeam.middleware import Middleware
from tiebeam.resilience import Stage
from tiebeam.services import Capability
from tiebeam.testing._loop import VirtualLoop

__all__ = ["TestBus", "TestFramework"]


def _virtual_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise RuntimeError(
            "virtual time needs its own event loop: run the test with tiebeam.testing.run(...), "
            "or use the pytest fixtures"
        )
    return loop


def _clock(clock: Clock | None) -> Clock:
    return clock if clock is not None else _virtual_loop().clock


class _InVirtualTime:
    """What moves time, shared by both doubles."""

    __test__ = False

    async def advance(self, seconds: float) -> None:
        """Move time on by ``seconds``; everything that falls due happens, in true order."""
        await _virtual_loop().advance(seconds)

    async def settle(self) -> None:
        """Return when nothing is queued, running or due."""
        await _virtual_loop().settle()


class _Recorder:
    """Every event that was published, in order."""

    def __init__(self, bus: EventBus) -> None:
        self.events: list[Event] = []
        name, remember = "testing.recorder", self.events.append
        bus._subscribe("#", remember, name=name, run_in="inline", _internal=True)

    def matching(self, pattern: str) -> list[Event]:
        return [event for event in self.events if _core._matches(pattern, event.event_type)]


class TestBus(_InVirtualTime, EventBus):
    """An :class:`~tiebeam.EventBus` in virtual time that remembers what was published."""

    _recorder: _Recorder | None

    def __new__(cls, name: str = "bus", *, clock: Clock | None = None, **options: Any) -> TestBus:
        options.setdefault("seed", 0)
        self: TestBus = super().__new__(cls, name, clock=_clock(clock), **options)
        self._recorder = _Recorder(self)
        return self

    def published(self, pattern: str = "#") -> list[Event]:
        """The events published so far whose type matches ``pattern``, in order."""
        assert self._recorder is not None
        return self._recorder.matching(pattern)

    def handled(self, subscription: str) -> int:
        """How many events the subscription of that name has handled with success."""
        return self.books()[subscription].delivered


class TestFramework(_InVirtualTime, Framework):
    """A :class:`~tiebeam.Framework` in virtual time that remembers what was published.

    The process's environment is left out, so that the machine it runs on does not matter.
    """

    def __init__(
        self,
        configuration: Configuration | Mapping[str, Any] | None = None,
        *,
        components: Iterable[Component | type[Component]] = (),
        clock: Clock | None = None,
        fail_fast: bool = False,
        overrides: Mapping[type[Any] | Capability, Any] | None = None,
        middleware: Iterable[Middleware] = (),
        upcasters: Upcasters | None = None,
        only: Iterable[str] | None = None,
        policies: Mapping[str, Stage] | None = None,
    ) -> None:
        given = checked(components)
        clock = _clock(clock)
        if not isinstance(configuration, Configuration):
            values = dict(configuration or {})
            values["logging"] = {"console": False, **values.get("logging", {})}
            configuration = Configuration(
                values=values, environ={}, components=[c.name for c in given], clock=clock
            )
        super().__init__(
            configuration,
            components=given,
            clock=clock,
            fail_fast=fail_fast,
            overrides=overrides,
            middleware=middleware,
            upcasters=upcasters,
            only=only,
            policies=policies,
        )
        self._recorder = _Recorder(self.bus)

    @classmethod
    def from_config(
        cls,
        *paths: str | os.PathLike[str],
        components: Iterable[Component | type[Component]] = (),
        set: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        fail_fast: bool = False,
        middleware: Iterable[Middleware] = (),
        upcasters: Upcasters | None = None,
        only: Iterable[str] | None = None,
        policies: Mapping[str, Stage] | None = None,
        overrides: Mapping[type[Any] | Capability, Any] | None = None,
    ) -> TestFramework:
        """As :meth:`tiebeam.Framework.from_config`, without the process's environment unless
        one is given."""
        given, clock = checked(components), _clock(clock)
        configuration = Configuration(
            *paths,
            set=["logging.console=false", *set],
            environ=environ or {},
            components=[component.name for component in given],
            clock=clock,
        )
        return cls(
            configuration,
            components=given,
            clock=clock,
            fail_fast=fail_fast,
            overrides=overrides,
            middleware=middleware,
            upcasters=upcasters,
            only=only,
            policies=policies,
        )

    def published(self, pattern: str = "#") -> list[Event]:
        """The events published so far whose type matches ``pattern``, in order."""
        return self._recorder.matching(pattern)

    def handled(self, subscription: str) -> int:
        """How many events the subscription ``component.handler`` has handled with success."""
        return self.bus.books()[subscription].delivered

    @property
    def dead_letters(self) -> _core.DeadLetters:
        """The deliveries that were given up on."""
        return self.bus.dead_letters
