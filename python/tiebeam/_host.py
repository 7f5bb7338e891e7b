"""What stands between a component and the core's registry: hooks, handlers, checks, models."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tiebeam import _core, _models
from tiebeam._added import AddedCheck
from tiebeam._added import added as check_of
from tiebeam._component_bus import ComponentBus, Made
from tiebeam._core import Event, Periodic, Stream, Subscription
from tiebeam._declared import declared
from tiebeam._hooks import call, call_here, is_async
from tiebeam._supervised import supervised
from tiebeam.component import Component
from tiebeam.exceptions import ConfigurationError, LifecycleError
from tiebeam.health import Health
from tiebeam.services import type_name

if TYPE_CHECKING:
    from tiebeam.framework import Framework

__all__ = ["Host"]

DRAIN_SECONDS = 5.0
"""How long a stopping component may work off what waits before its stop hook is called; never
more than half of the time that the whole stop has."""


class Host:
    """One component in one framework. The core calls it; the component calls it."""

    def __init__(self, component: Component, framework: Framework, path: str) -> None:
        self.component = component
        self.framework = framework
        self.path = path
        self.handlers, self.checks, self.listeners = declared(component)
        self._own: list[Subscription] = []
        self._bus: ComponentBus | None = None
        self._lasting: list[tuple[Made, Callable[[], Made]]] = []
        self._declared: list[Subscription] = []
        # Whether the last start has failed: what is ended by then was ended by that.
        self._cut_short = False
        self._asking: set[str] = set()
        self.added: dict[str, AddedCheck] = {}
        if is_async(component.validate_configuration):
            raise TypeError(
                f"{type(component).__name__}.validate_configuration must be `def`: a change is "
                "decided in one step"
            )

    # -- what the component uses ----------------------------------------------------------

    @property
    def bus(self) -> ComponentBus:
        assert self._bus is not None, "a host is given its bus when it is registered"
        return self._bus

    def join(self, bus: _core.EventBus) -> None:
        """Belong to the framework from now on.

        Raises:
            LifecycleError: While the component is at work in another framework.
        """
        other = self.component._host
        if other is not None and other.state in ("starting", "running", "degraded", "stopping"):
            raise LifecycleError(
                f"the component `{self.component.name}` is {other.state} in another framework; "
                "stop that one first, or make another instance",
                component=self.component.name,
            )
        self._bus = ComponentBus(bus, self.framework.bus)
        self.component._host = self

    @property
    def state(self) -> str:
        return str(self.framework.status(self.component.name)["state"])

    def subscribe(
        self, patterns: list[str | type[Any]], handler: Callable[..., Any], how: dict[str, Any]
    ) -> list[Subscription]:
        if getattr(handler, "__self__", None) is self.component:
            how = {"name": handler.__name__, **how}  # as where it is declared
        made = [self.bus.subscribe(pattern, handler, **how) for pattern in patterns]
        self._own = [earlier for earlier in self._own if earlier.status != "cancelled"] + made
        return made

    def unsubscribe(self, patterns: set[str]) -> int:
        ended = [subscription for subscription in self._own if subscription.pattern in patterns]
        self._own = [subscription for subscription in self._own if subscription not in ended]
        self.bus.end(ended)
        return len(ended)

    def add_check(
        self,
        name: str,
        function: Callable[[], Any] | None,
        ttl: float | timedelta | None,
        options: dict[str, Any],
    ) -> AddedCheck:
        described = check_of(name, function, ttl, options).described(name)
        if name in self.checks or name == "health_check":
            raise ConfigurationError(
                f"`{self.component.name}` has a method `{name}` that is a check; choose another "
                "name",
                component=self.component.name,
            )
        before = self.added.get(name)
        added = self.added[name] = AddedCheck(self, name, function)
        try:
            self.framework._core._add_check(self.component.name, described, ttl, bool(before))
        except BaseException:
            if before:
                self.added[name] = before  # which goes on
            else:
                del self.added[name]
            raise
        return added

    def listen(self, path: str, handler: Callable[[str, Any, Any], Any]) -> Callable[[], None]:
        entry = (path, handler)
        self.listeners.append(entry)

        def end() -> None:
            if entry in self.listeners:
                self.listeners.remove(entry)

        return end

    # -- what the core calls --------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        component = self.component
        injected, optional = self.framework._injected_names(component)
        return {
            "name": component.name,
            "version": component.version,
            "depends_on": [*component.depends_on, *injected],
            "wants": [*component.wants, *optional],
            "after": list(component.after),
            "capabilities": list(component.capabilities),
            "types": [
                type_name(kind)
                for kind in type(component).__mro__
                if issubclass(kind, Component) and kind is not Component
            ],
            "restart": component.restart,
            "class_name": type(component).__name__,
            "supervision": supervised(component),
            "checks": [mark.described(name) for name, (_, mark) in self.checks.items()],
        }

    def problems(
        self, value: dict[str, Any], place: Callable[[str], str | None] | None = None
    ) -> list[str]:
        """Everything that is wrong with a configuration, each with its place."""
        place = place or self.framework.configuration.place
        config, found = _models.build(self.component, value, strict=self._strict)
        lines = [self._located(problem, place) for problem in found]
        if not found:
            try:
                self._validate(config)
            except Exception as veto:
                # One that fails to look at a configuration has not agreed to it.
                kind = "" if isinstance(veto, ConfigurationError) else f"{type(veto).__name__}: "
                lines.append(f"{place(self.path) or 'default'}: {self.path}: {kind}{veto}")
        return lines

    def _validate(self, config: Any) -> None:
        hook = self.component.validate_configuration
        if not self._is_default("validate_configuration"):
            call_here(hook, config, watch=self.watch("validate_configuration", hook))

    def validate(self, value: dict[str, Any]) -> None:
        """What the core asks before it changes anything by itself."""
        if problems := self.problems(value):
            raise ConfigurationError("\n".join(problems), component=self.component.name)

    @property
    def _strict(self) -> bool:
        return bool(self.framework.configuration.get("configuration.validation_strict", True))

    def _located(self, problem: _models.Problem, place: Callable[[str], str | None]) -> str:
        dotted = f"{self.path}.{problem.path}" if problem.path else self.path
        # What is missing stands nowhere; what it is missing from does.
        known, where = dotted, place(dotted)
        while where is None and "." in known:
            known = known.rpartition(".")[0]
            where = place(known)
        return f"{where or 'default'}: {dotted}: {problem.message}"

    async def _hook(self, name: str, *arguments: Any) -> Any:
        if self._is_default(name):
            return None  # no thread is started for it
        hook = getattr(self.component, name)
        return await call(hook, *arguments, watch=self.watch(name, hook))

    def watch(self, name: str, function: Callable[..., Any]) -> _core._HookWatch | None:
        """Have the watchdog know of a call of the component's code."""
        return self.framework._core._watch_hook(self.component.name, name, function)

    def _is_default(self, name: str) -> bool:
        """Whether nobody wrote this hook."""
        hook = getattr(self.component, name)
        return getattr(hook, "__func__", None) is getattr(Component, name)

    async def initialize(self) -> None:
        before = list(self.bus.made)
        self._lasting.clear()
        self.bus.lasting = self._lasting
        try:
            await self._hook("initialize")
        except BaseException:
            self._lasting.clear()  # it is called again
            self.bus.end(made for made in self.bus.made if made not in before)
            raise
        finally:
            self.bus.lasting = None

    async def configure(self, value: dict[str, Any]) -> None:
        config, problems = _models.build(self.component, value, strict=self._strict)
        if problems:
            place = self.framework.configuration.place
            raise ConfigurationError("\n".join(self._located(p, place) for p in problems))
        before, self.component.config = self.component.config, config
        try:
            await self._hook("configure", config)
        except BaseException:
            self.component.config = before
            raise

    async def start(self) -> None:
        """Subscribe first and hold the events back: none is missed, and none comes too early.

        Where the last life has failed, what the class declares and `initialize` made waits for
        this one, with what came since.
        """
        # Where nobody was to come after it, the core has ended them.
        self.bus.made = [made for made in self.bus.made if made.status != "cancelled"]
        # `initialize` is not called again: what it made, and a stop has ended, is made again.
        self._lasting = [(self._again(made, make), make) for made, make in self._lasting]
        before = list(self.bus.made)
        try:
            declared, held = self._subscribe_declared()
            await self._hook("start")
        except BaseException:
            self._cut_short = True
            self.bus.end(made for made in self.bus.made if made not in before)
            raise
        self._cut_short = False
        self._declared = declared
        for subscription in held:
            subscription._hold(False)

    def _again(self, ended: Made, make: Callable[[], Made]) -> Made:
        if ended in self.bus.made:
            return ended
        made = self.bus.keep(make)
        if isinstance(made, Subscription):
            self._own = [made if own is ended else own for own in self._own]
        return made

    def _subscribe_declared(self) -> tuple[list[Subscription], list[Subscription]]:
        """All that the class declares, and those of them that are new, and held."""
        declared: list[Subscription] = []
        held: list[Subscription] = []

        def place(make: Callable[[], Subscription]) -> None:
            at = len(declared)
            before = self._declared[at] if at < len(self._declared) else None
            if before is not None and before._suspended:
                declared.append(before)
                return
            made = make()
            made._hold(True)
            declared.append(made)
            held.append(made)

        for method, mark in self.handlers:
            options = {"name": method.__name__, **mark.options}
            if not self.framework._core._fallbacks:
                options.pop("fallback", None)
            elif isinstance(options.get("fallback"), str):
                options["fallback"] = getattr(self.component, options["fallback"])
            make: Callable[..., Subscription] = self.bus.subscribe
            if mark.role == "respond":
                make = self.bus.respond
            elif mark.role == "command":
                make = self.bus.handle
            place(functools.partial(make, mark.given, method, **options))
        if type(self.component).on_event is not Component.on_event:
            taken = [mark.pattern for _, mark in self.handlers if mark.role == "subscribe"]
            handler = self.bus._chain.around(self._other_events())
            place(lambda: self.bus._subscribe("#", handler, name="on_event", _exclude=taken))
        return declared, held

    def _other_events(self) -> Callable[[Event], Any]:
        component = self.component

        async def on_event(event: Event) -> None:
            if event.producer != component.name:  # answering one's own events has no end
                await component.on_event(event)

        def on_event_sync(event: Event) -> None:
            if event.producer != component.name:
                component.on_event(event)

        return on_event if is_async(component.on_event) else on_event_sync

    async def stop(self) -> None:
        """Take in nothing new, work off what waits, stop, and end."""
        if not self._cut_short:
            # What the component itself has ended meanwhile is not to come back.
            lasting = [(made, make) for made, make in self._lasting if made.status != "cancelled"]
            self._lasting = lasting
        limit = self.framework._core._service_timeout
        self.bus.end(made for made in self.bus.made if isinstance(made, Periodic))
        # Of one that has failed nothing is worked off: that is for its next life, if there is one.
        # What `start` made ends with the life.
        suspended = _suspended(self.bus.made)
        lasting_made = [made for made, _ in self._lasting]
        left = [made for made in suspended if made in self._declared or made in lasting_made]
        waiting = [
            asyncio.ensure_future(_wait(made._drained() if made in suspended else made._retire()))
            for made in self.bus.made
            if isinstance(made, Subscription)
        ]
        waits = list(self.bus.waits)
        waiting += [
            asyncio.ensure_future(_wait(stream._retire()))
            for stream in waits
            if isinstance(stream, Stream)
        ]
        try:
            if waiting:
                _, late = await asyncio.wait(waiting, timeout=min(DRAIN_SECONDS, limit / 2))
                for task in late:
                    task.cancel()
            # Before the hook, which may wait for the code that waits for these.
            for wait in waits:
                wait.cancel()
            await self._hook("stop")
        finally:
            self.bus.end(made for made in self.bus.made if made not in left)

    async def dependency(self, name: str, lost: bool) -> None:
        await self._hook("dependency_lost" if lost else "dependency_regained", name)

    async def health_check(self) -> dict[str, Any] | None:
        if self._is_default("health_check"):
            return None  # nothing was looked at
        return _answer(await self._ask("health_check", self.component.health_check))

    async def run_check(self, name: str) -> dict[str, Any]:
        added = self.added.get(name)
        check = added.function if added is not None else self.checks[name][0]
        assert check is not None, "one that is reported is not asked"
        return _answer(await self._ask(name, check))

    async def _ask(self, name: str, check: Callable[[], Any]) -> Any:
        """The answer of a check; one that hangs in its thread gets no second thread."""
        watch = self.watch(name, check)
        if is_async(check):
            return await call(check, watch=watch)
        if name in self._asking:
            raise TimeoutError(f"{name} has not come back from an earlier run")

        def ask() -> Any:
            self._asking.add(name)
            try:
                return check()
            finally:
                self._asking.discard(name)

        return await call(ask, watch=watch)


def _suspended(made: Iterable[Made]) -> list[Subscription]:
    """Those whose events wait for the next life of the component."""
    return [one for one in made if isinstance(one, Subscription) and one._suspended]


async def _wait(awaitable: Any) -> None:
    await awaitable


def _answer(returned: Any) -> dict[str, Any]:
    health = Health.of(returned)
    return health._as_dict()
