"""The framework: components, their bus and configuration, started and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tiebeam import _core, _injection, _interactive, _logging
from tiebeam._changes import Changes
from tiebeam._core import Clock
from tiebeam._decided import Decided
from tiebeam._discovery import checked, resolve
from tiebeam._host import Host
from tiebeam._inquiries import Inquiries
from tiebeam._part import part
from tiebeam._plugins import CHECKS, Plugins
from tiebeam._policies import Policies
from tiebeam._policy_sections import pipelines
from tiebeam._signals import Signals
from tiebeam._upcast import Upcasters
from tiebeam._wanted import overriding
from tiebeam._watch import Watch
from tiebeam._wiring import tell
from tiebeam.bus import EventBus
from tiebeam.component import Component
from tiebeam.configuration import Configuration
from tiebeam.exceptions import ConfigurationError, ForkedProcessError, LifecycleError
from tiebeam.middleware import Middleware
from tiebeam.resilience import Stage
from tiebeam.services import Capability

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Framework"]


class Framework(Inquiries):
    """A system of components.

    >>> async def main():
    ...     async with Framework(components=[Greeter()]) as framework:
    ...         await framework.bus.publish("user.joined", {"name": "Ada"})

    In a script, ``Framework.from_config("config/integration.yaml").run()`` blocks until
    SIGINT or SIGTERM.
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
        """Put a system together; nothing runs yet.

        Args:
            configuration: A :class:`~tiebeam.Configuration`, or a dict of values.
            components: Instances, or classes to make instances of. Components that the
                configuration declares and that are not given here are found by entry point or
                by their section's ``class``.
            clock: The clock to live by; the machine's if left out.
            fail_fast: Whether a component that does not start stops the whole system, and
                :meth:`start` raises. Otherwise the others run, without those that depend on it.
            overrides: What to inject instead of components of these classes, of these protocols,
                or with these capabilities, whatever it is; for tests.
            middleware: What is to stand around publishing and handling, of all components and
                of the system's own bus, the outermost first.
            upcasters: The steps for events of old versions; ``tiebeam.upcast`` unless given.
            only: The part of the system to run here, by names of components and groups; the
                other components run in other processes, and are waited for where they are
                depended on. Everything if left out.
            policies: Pipelines or single stages by name, beside those of the configuration, of
                which they take the place.

        Raises:
            ConfigurationError: Listing every problem with its place; for names in ``only`` that
                mean nothing; and for a component that depends on another part of the system
                where no other process can be reached.
            DependencyCycle: Showing the circle.
        """
        given = checked(components)
        if not isinstance(configuration, Configuration):
            configuration = Configuration(
                values=dict(configuration or {}),
                components=[component.name for component in given],
                clock=clock,
            )
        self.configuration = configuration
        self.fail_fast = fail_fast
        self._clock = clock or Clock.real()
        self.start_report: dict[str, Any] = {}
        self.stop_report: dict[str, Any] = {}
        entries = {entry["name"]: entry for entry in configuration.components()}
        here = part(only, given, entries)
        elsewhere = list(here.elsewhere.items())
        self._core = _core.Framework(
            configuration._store, clock=clock, elsewhere=elsewhere, host=platform.node()
        )
        self._plugins = Plugins(discover=configuration.get("service_registry.auto_discovery", True))
        around = [*self._plugins.middleware(), *middleware]
        self._bus = EventBus(middleware=around, upcasters=upcasters, _view=self._core._bus())
        self._hosts: dict[str, Host] = {}
        configured = pipelines(configuration._store.policies(), clock, configuration.place)
        self.policies = Policies(configured, policies or {})
        self._core._show_breakers(self.policies.breakers())
        self._decided: Decided | None = None
        self._changes = Changes(self)
        self._watch: Watch | None = None
        self._overrides = overriding(overrides)
        self._running_on: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._exit_code = 0
        # Whether who starts it stops it, however that ends.
        self._is_stopped_anyway = False
        self._wiring_told = False
        self._logs: _logging.Logs | None = None
        self._part = here
        self._join(*here.here(given, entries))

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
    ) -> Framework:
        """A system from configuration files; later files win.

        Args:
            *paths: YAML, TOML or JSON files.
            components: As for the constructor.
            set: Overrides such as ``"event_bus.batch_size=10"``.
            environ: The environment; the process's own if left out.
            clock: As for the constructor.
            fail_fast: As for the constructor.
            middleware: As for the constructor.
            upcasters: As for the constructor.
            only: As for the constructor.
            policies: As for the constructor.
        """
        given = checked(components)
        configuration = Configuration(
            *paths,
            set=set,
            environ=environ,
            components=[component.name for component in given],
            clock=clock,
        )
        return cls(
            configuration,
            components=given,
            clock=clock,
            fail_fast=fail_fast,
            middleware=middleware,
            upcasters=upcasters,
            only=only,
            policies=policies,
        )

    # -- putting together -----------------------------------------------------------------

    def _join(
        self,
        given: list[Component | type[Component]],
        entries: Mapping[str, Mapping[str, Any]],
    ) -> None:
        classes = resolve(self.configuration, given, entries, self._plugins)
        checks = self._plugins.checks()
        if checks is not None and CHECKS not in classes:
            classes[CHECKS] = checks
        for name, component in _injection.instantiate(classes, self._overrides).items():
            path = entries[name]["path"] if name in entries else f"components.{name}"
            self._hosts[name] = Host(component, self, path)
        missing = []
        for name, host in list(self._hosts.items()):
            bus = self._core._register(host)
            if bus is None:  # switched off: it is absent
                del self._hosts[name]
                continue
            host.join(bus)
            section = entries[name]["config"] if name in entries else {}
            missing += host.problems(section)
        if missing:
            raise ConfigurationError("\n".join(missing))
        self._core._start_order()  # a plan that cannot be made is an error now, not at start
        _injection.inject(self.components, self._overrides)
        _injection.tell_unresolved(self.components)

    def _injected_names(self, component: Component) -> tuple[list[str], list[str]]:
        others = [host.component for host in self._hosts.values()]
        return _injection.names(component, others, self._overrides, self._part.elsewhere)

    # -- life -----------------------------------------------------------------------------

    async def start(self) -> dict[str, Any]:
        """Start every component on the running loop, dependencies first.

        Cancelled, it stops what it has started, dependents first, and may be made again.

        Returns:
            ``started``, ``failed`` (with the error), ``blocked`` (with the cause).

        Raises:
            LifecycleError: With ``fail_fast``, naming every component that did not start.
        """
        await _interactive.replace_system(self)
        self._open_logs()
        if self._decided is None:
            self._decided = Decided(self._core._bus(), self.policies.values(), self._clock)
        try:
            self.start_report = await self._core._start()
        except BaseException as error:
            if self.state == "created" and isinstance(error, asyncio.CancelledError):
                if self._is_stopped_anyway:
                    raise
                await self._core._take_back()
            if self.state in ("created", "stopped"):
                self._close_logs()
                self._decided.end()
                self._decided = None  # another start begins with another one
            raise
        runs = self.state == "running"  # somebody may have stopped it meanwhile
        if runs and self._watch is None and self.configuration._store.files():
            self._watch = Watch(self)
        failures = [*self.start_report["failed"], *self.start_report["blocked"]]
        if failures and self.fail_fast:
            await self.stop()
            lines = "\n".join(f"  {name}: {why}" for name, why in failures)
            raise LifecycleError(f"the system did not start:\n{lines}")
        if not self._wiring_told:
            self._wiring_told = True
            tell(self)
        return self.start_report

    async def stop(self) -> dict[str, Any]:
        """Stop every component, dependents first, within ``service_registry.shutdown_timeout``.

        Returns:
            ``stopped``, ``failed`` (with the error), ``left`` (events still in flight, by
            subscription) and ``seconds``. Idempotent.
        """
        if self._watch is not None:
            await self._watch.stop()
        report: dict[str, Any] = await self._core._stop()
        if report["stopped"] or report["failed"] or not self.stop_report:
            self.stop_report = report
        if self._decided is not None:
            self._decided.end()
        self._close_logs()
        return self.stop_report

    def request_stop(self, exit_code: int = 0) -> None:
        """Have :meth:`run` stop the system and return; from any component's code, on any
        thread."""
        self._exit_code = exit_code
        if self._running_on is None:
            return
        loop, asked = self._running_on
        with contextlib.suppress(RuntimeError):  # the loop has ended: it did stop
            loop.call_soon_threadsafe(asked.set)

    def run(self) -> int:
        """Run until SIGINT, SIGTERM or :meth:`request_stop`; for scripts.

        The first signal stops in order, within ``service_registry.shutdown_timeout``; a second
        one ends the process at once with 128 and the signal's number (130 for SIGINT, 143 for
        SIGTERM), even when a component blocks the event loop. Outside of the main thread,
        signals are left to the caller.

        Returns:
            The exit code, for ``sys.exit``: that of :meth:`request_stop`; else 0, also after a
            signal; 1 when nothing could start, or a component did not stop as it should.
        """
        return asyncio.run(self._run())

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        stop_requested = asyncio.Event()
        self._running_on = (loop, stop_requested)
        signals = Signals(self, loop)
        signals.install()
        self._is_stopped_anyway = True
        starting = asyncio.ensure_future(self.start())
        asked = asyncio.ensure_future(stop_requested.wait())
        try:
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                report = starting.result()
                if not report["started"] and report["failed"]:
                    self.request_stop(1)
                await asked
        finally:
            starting.cancel()
            asked.cancel()
            try:
                await asyncio.gather(starting, return_exceptions=True)
            finally:
                try:
                    await self.stop()
                finally:
                    signals.remove()
        if self.stop_report["failed"]:
            return self._exit_code or 1
        return self._exit_code

    async def __aenter__(self) -> Self:
        self._is_stopped_anyway = True
        try:
            await self.start()
        except BaseException:
            # Nobody will leave a block that was never entered.
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ForkedProcessError):  # a forked child leaves the block, too
            await self.stop()

    def _open_logs(self) -> None:
        if self._logs is None:
            self._logs = _logging.Logs(self._core, self.configuration)

    def _close_logs(self) -> None:
        if self._logs is not None:
            self._logs.close()
            self._logs = None

    # -- parts ----------------------------------------------------------------------------

    async def start_component(self, name: str) -> None:
        """Start one component that is stopped, failed or blocked."""
        await self._core._command("start", name)

    async def stop_component(self, name: str) -> None:
        """Stop one component and those that depend on it."""
        await self._core._command("stop", name)

    async def restart_component(self, name: str) -> None:
        """Stop, configure and start one component."""
        await self._core._command("restart", name)

    # -- changing -------------------------------------------------------------------------

    async def configure(self, changes: Mapping[str, Any]) -> list[str]:
        """Change configuration at run time, as one step: all of ``changes``, or none.

        Everything is validated, and the components concerned are asked, before anything
        changes; then those whose paths changed are told.

        Args:
            changes: Values by dotted path.

        Returns:
            The paths that changed.

        Raises:
            ConfigurationError: When anything objects; nothing has changed then.
        """
        return await self._changes.set(dict(changes))

    async def reload(self) -> list[str]:
        """Read all sources again, and adopt what is different as in :meth:`configure`.

        Returns:
            The paths that changed.

        Raises:
            ConfigurationError: When anything objects; what runs is left as it was.
        """
        return await self._changes.reload()

    async def rollback(self, revision: int) -> list[str]:
        """Go back to the content of an earlier revision, as a new one; as :meth:`configure`.

        Args:
            revision: A number out of ``configuration.history()``.

        Returns:
            The paths that changed.

        Raises:
            ConfigurationError: For a revision that is not, or no longer, in the history.
        """
        return await self._changes.roll_back(revision)
