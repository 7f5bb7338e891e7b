"""What stands between a component and the core's registry: hooks, handlers, checks, models."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from tiebeam import _core, _models
from tiebeam._core import Event, PendingEvent, Periodic, Stream, Subscription
from tiebeam._hooks import call, is_async
from tiebeam.bus import EventBus
from tiebeam.component import Component
from tiebeam.decorators import MARKS, CheckMark, ConfigMark, HandlerMark
from tiebeam.exceptions import ConfigurationError, LifecycleError
from tiebeam.health import Health

if TYPE_CHECKING:
    from tiebeam.framework import Framework

__all__ = ["Host"]

Made = Subscription | Periodic
MadeT = TypeVar("MadeT", bound=Made)

DRAIN_SECONDS = 5.0
"""How long a stopping component may work off what waits before its stop hook is called; never
more than half of the time that the whole stop has."""


class ComponentBus(EventBus):
    """The bus as one component has it: what it makes here ends with it."""

    made: list[Made]
    """What goes on, in the order in which it was made; some may have ended."""
    lasting: list[tuple[Made, Callable[[], Made]]] | None
    """While the component initializes: what is made, and how to make it again."""

    waits: WeakSet[PendingEvent | Stream]
    """What waits for events, as long as somebody holds it."""

    def __new__(cls, view: _core.EventBus, home: EventBus) -> ComponentBus:
        self: ComponentBus = super().__new__(cls, upcasters=home._upcasters, _view=view)
        self._chain = home._chain
        self._chain.join(self)
        self.made = []
        self.lasting = None
        self.waits = WeakSet()
        return self

    def keep(self, make: Callable[[], MadeT]) -> MadeT:
        """What ``make`` makes, remembered."""
        made = make()
        if len(self.made) >= 64 and len(self.made).bit_count() == 1:
            # Now and then: whoever subscribes and cancels all the time leaves no trail.
            self.made = [earlier for earlier in self.made if earlier.status != "cancelled"]
        self.made.append(made)
        if self.lasting is not None:
            self.lasting.append((made, make))
        return made

    def _subscribe(self, *what: Any, **how: Any) -> Subscription:
        return self.keep(lambda: super(ComponentBus, self)._subscribe(*what, **how))

    def _respond(self, *what: Any, **how: Any) -> Subscription:
        return self.keep(lambda: super(ComponentBus, self)._respond(*what, **how))

    def _handle(self, *what: Any, **how: Any) -> Subscription:
        return self.keep(lambda: super(ComponentBus, self)._handle(*what, **how))

    def _wait_for(self, *what: Any, **how: Any) -> PendingEvent:
        wait = super()._wait_for(*what, **how)
        self.waits.add(wait)
        return wait

    def _stream(self, *what: Any, **how: Any) -> Stream:
        stream = super()._stream(*what, **how)
        self.waits.add(stream)
        return stream

    def every(self, *what: Any, **how: Any) -> Periodic:
        return self.keep(lambda: super(ComponentBus, self).every(*what, **how))

    def end(self, which: Iterable[Made]) -> None:
        """End what goes on of ``which``."""
        which = list(which)
        for made in which:
            made.cancel()
        self.made = [made for made in self.made if made not in which]


class Host:
    """One component in one framework. The core calls it; the component calls it."""

    def __init__(self, component: Component, framework: Framework, path: str) -> None:
        self.component = component
        self.framework = framework
        self.path = path
        self.handlers: list[tuple[Callable[..., Any], HandlerMark]] = []
        self.checks: dict[str, tuple[Callable[..., Any], CheckMark]] = {}
        self.listeners: list[tuple[str, Callable[[str, Any, Any], Any]]] = []
        self._own: list[Subscription] = []
        self._bus: ComponentBus | None = None
        self._lasting: list[tuple[Made, Callable[[], Made]]] = []
        self._asking: set[str] = set()
        self._read_marks()
        if is_async(component.validate_configuration):
            raise TypeError(
                f"{type(component).__name__}.validate_configuration must be `def`: a change is "
                "decided in one step"
            )

    def _read_marks(self) -> None:
        # By class and in the order of writing; looking at the instance would run properties.
        names = {name: None for cls in reversed(type(self.component).__mro__) for name in vars(cls)}
        for name in names:
            attribute = inspect.getattr_static(type(self.component), name)
            for mark in getattr(attribute, MARKS, ()):
                method = getattr(self.component, name)
                if isinstance(mark, HandlerMark):
                    self._check_fallback(name, mark)
                    self.handlers.append((method, mark))
                elif isinstance(mark, CheckMark):
                    self.checks[name] = (method, mark)
                elif isinstance(mark, ConfigMark):
                    self.listeners.append((mark.path, method))

    def _check_fallback(self, handler: str, mark: HandlerMark) -> None:
        fallback = mark.options.get("fallback")
        if isinstance(fallback, str) and not callable(getattr(self.component, fallback, None)):
            raise ConfigurationError(
                f"the fallback of {type(self.component).__name__}.{handler} is `{fallback}`, "
                "which is no method of that class"
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
            "restart": component.restart,
            "checks": [
                {
                    "name": name,
                    "kind": mark.kind,
                    "critical": mark.critical,
                    "period": mark.period,
                    "timeout": mark.timeout,
                }
                for name, (_, mark) in self.checks.items()
            ],
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
                self.component.validate_configuration(config)
            except Exception as veto:
                # One that fails to look at a configuration has not agreed to it.
                kind = "" if isinstance(veto, ConfigurationError) else f"{type(veto).__name__}: "
                lines.append(f"{place(self.path) or 'default'}: {self.path}: {kind}{veto}")
        return lines

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
        return await call(getattr(self.component, name), *arguments)

    def _is_default(self, name: str) -> bool:
        """Whether nobody wrote this hook."""
        hook = getattr(self.component, name)
        return getattr(hook, "__func__", None) is getattr(Component, name)

    async def initialize(self) -> None:
        self.bus.lasting = self._lasting
        try:
            await self._hook("initialize")
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
        """Subscribe first and hold the events back: none is missed, and none comes too early."""
        # `initialize` is not called again: what it made, and a stop has ended, is made again.
        self._lasting = [(self._again(made, make), make) for made, make in self._lasting]
        before = list(self.bus.made)
        try:
            declared = self._subscribe_declared()
            await self._hook("start")
        except BaseException:
            self.bus.end(made for made in self.bus.made if made not in before)
            raise
        for subscription in declared:
            subscription._hold(False)

    def _again(self, ended: Made, make: Callable[[], Made]) -> Made:
        if ended in self.bus.made:
            return ended
        made = self.bus.keep(make)
        if isinstance(made, Subscription):
            self._own = [made if own is ended else own for own in self._own]
        return made

    def _subscribe_declared(self) -> list[Subscription]:
        declared: list[Subscription] = []
        for method, mark in self.handlers:
            options = {"name": method.__name__, **mark.options}
            if not self.framework._core._fallbacks:
                options.pop("fallback", None)
            elif isinstance(options.get("fallback"), str):
                options["fallback"] = getattr(self.component, options["fallback"])
            if mark.role == "respond":
                made = self.bus.respond(mark.given, method, **options)
            elif mark.role == "command":
                made = self.bus.handle(mark.given, method, **options)
            else:
                made = self.bus.subscribe(mark.given, method, **options)
            made._hold(True)
            declared.append(made)
        if type(self.component).on_event is not Component.on_event:
            taken = [mark.pattern for _, mark in self.handlers if mark.role == "subscribe"]
            handler = self.bus._chain.around(self._other_events())
            rest = self.bus._subscribe("#", handler, name="on_event", _exclude=taken)
            rest._hold(True)
            declared.append(rest)
        return declared

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
        # What the component itself has ended meanwhile is not to come back.
        self._lasting = [(made, make) for made, make in self._lasting if made.status != "cancelled"]
        limit = self.framework._core._service_timeout
        self.bus.end(made for made in self.bus.made if isinstance(made, Periodic))
        waiting = [
            asyncio.ensure_future(_wait(made._retire()))
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
            self.bus.end(self.bus.made)

    async def health_check(self) -> dict[str, Any]:
        if self._is_default("health_check"):
            return _answer(None)
        return _answer(await self._ask("health_check", self.component.health_check))

    async def run_check(self, name: str) -> dict[str, Any]:
        method, _ = self.checks[name]
        return _answer(await self._ask(name, method))

    async def _ask(self, name: str, check: Callable[[], Any]) -> Any:
        """The answer of a check; one that hangs in its thread gets no second thread."""
        if is_async(check):
            return await check()
        if name in self._asking:
            raise TimeoutError(f"{name} has not come back from an earlier run")

        def ask() -> Any:
            self._asking.add(name)
            try:
                return check()
            finally:
                self._asking.discard(name)

        return await call(ask)


async def _wait(awaitable: Any) -> None:
    await awaitable


def _answer(returned: Any) -> dict[str, Any]:
    health = Health.of(returned)
    return {"verdict": health.verdict, "message": health.message, "details": health.details}
