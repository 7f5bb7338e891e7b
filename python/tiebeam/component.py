"""The component: what users subclass."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from tiebeam._core import Event, Receipt, Subscription
from tiebeam._supervised import check_supervised
from tiebeam._typed import topic_of
from tiebeam.exceptions import LifecycleError, TransientError

if TYPE_CHECKING:
    from tiebeam._added import AddedCheck
    from tiebeam._host import Host
    from tiebeam.bus import EventBus
    from tiebeam.framework import Framework

__all__ = ["Component"]

_MISSING: Any = object()

_RESERVED = {
    "bus": "its bus",
    "framework": "the framework it belongs to",
    "state": "where it is in its life",
    "degraded": "whether it is degraded",
    "missing": "the dependencies it does without",
}
"""What a component has and a class of the user's own must not hide."""


class Component:
    """A part of the system with a life of its own.

    All hooks are optional, and each may be ``def`` or ``async def``; sync ones run on a thread,
    so that they never stall the event loop. The framework calls them in this order:
    :meth:`initialize` once, :meth:`configure` before each start and after each change of the
    component's configuration, :meth:`start`, and :meth:`stop` exactly once for each start that
    was entered. :meth:`health_check` runs in the background.

    >>> class Greeter(Component):
    ...     @subscribe("user.joined")
    ...     async def greet(self, event):
    ...         await self.publish_event("user.greeting", {"text": f"Hi {event.payload['name']}"})
    """

    name: str = ""
    """Unique in the system; the class's own name in snake_case if it, or a base, gives none."""
    version: ClassVar[str] = "1.0.0"
    """Shown in health reports."""
    depends_on: ClassVar[Sequence[str]] = ()
    """Names of components or groups that must run before this one starts."""
    wants: ClassVar[Sequence[str]] = ()
    """Optional dependencies: without them, this component runs degraded."""
    after: ClassVar[Sequence[str]] = ()
    """Components that, where present, start earlier; nothing else is required of them."""
    capabilities: ClassVar[Sequence[str]] = ()
    """What others may look this component up by."""
    publishes: ClassVar[Sequence[str | type[Any]]] = ()
    """What it publishes, by topic or class, where its source does not tell: for the wiring check
    at the start. Who declares it, declares all."""
    restart: ClassVar[str | None] = None
    """``permanent``, ``transient`` or ``temporary``; the configuration has the last word."""
    supervision: ClassVar[Mapping[str, Any]] = {}
    """What supervision does otherwise for it: ``intensity`` (restarts that are borne within
    ``period``), ``period``, ``cooldown`` and ``max_cooldown`` (seconds, texts such as ``"5m"``,
    or timedeltas), and ``backoff`` with ``initial_delay``, ``multiplier``, ``max_delay`` and
    ``jitter``."""
    on_loss: ClassVar[Mapping[str, str]] = {}
    """What it does while a dependency is away, by the name of that or of its group: ``stop`` (and
    resume by itself), ``degrade`` or ``ignore``. Unless said, ``stop`` for ``depends_on`` and
    ``degrade`` for ``wants``."""
    recover_after: ClassVar[float | str | timedelta | None] = None
    """How long a dependency must be back until a degraded component counts on it: seconds, a text
    such as ``"10s"``, or a timedelta."""
    recover_passes: ClassVar[int | None] = None
    """How many rounds of health checks in a row that dependency must pass besides, all of its
    checks together. A round is as long as ``health.check_interval``."""
    Config: ClassVar[type | None] = None
    """A pydantic model or dataclass for the component's own configuration."""
    config_schema: ClassVar[dict[str, Any] | None] = None
    """A JSON Schema instead of ``Config``; ``configure`` then gets a plain dict."""

    config: Any = None
    """The configuration applied last: an instance of ``Config``, or a dict."""

    _host: Host | None = None
    _name_is_made: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # A name made from a class is that class's alone; one that was given is inherited.
        cls._name_is_made = "name" not in vars(cls) and cls._name_is_made
        if cls._name_is_made:
            cls.name = re.sub(
                r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__
            ).lower()
        for name in ("depends_on", "wants", "after", "capabilities", "publishes"):
            if isinstance(getattr(cls, name), str):
                raise TypeError(
                    f"{cls.__name__}.{name} must be a list of names, got the string "
                    f"{getattr(cls, name)!r}; write [{getattr(cls, name)!r}]"
                )
        hiding = cls.__mro__[: cls.__mro__.index(Component)]  # mixins, too
        for name in _RESERVED:
            if any(name in vars(base) for base in hiding):
                raise TypeError(
                    f"{cls.__name__}.{name} would hide what every component has under that name: "
                    f"{_RESERVED[name]}; give it another name"
                )
        check_supervised(cls, cls.__name__)
        for topic in cls.publishes:
            Event(topic_of(topic))  # raises for a malformed one, and for a pattern

    # -- lifecycle ------------------------------------------------------------------------

    def initialize(self) -> Any:
        """Prepare resources; called once."""

    def configure(self, config: Any) -> Any:
        """Apply configuration: an instance of ``Config``, or a dict without one."""

    def start(self) -> Any:
        """Begin work. Raise :class:`~tiebeam.NotReady` to be called again later."""

    def stop(self) -> Any:
        """End work and release resources."""

    def health_check(self) -> Any:
        """Report health: ``None`` or a dict of details for pass, a :class:`~tiebeam.Health`,
        or raise for fail."""

    def dependency_lost(self, name: str) -> Any:
        """Change over to doing without ``name``; called when this component is degraded by that,
        and again in a new life that begins without it."""

    def dependency_regained(self, name: str) -> Any:
        """Count on ``name`` again; called when it has been back for as long as it must, or when a
        new life begins with it there."""

    def finish_component(self, reason: str = "") -> bool:
        """End in good order, having done what this component is for.

        It is stopped in the background, with those that depend on it; if its restart type is
        ``permanent``, it starts again. From any thread.

        Args:
            reason: Words for people.

        Returns:
            Whether it was at work.
        """
        return self._joined.framework._core._finished(self.name, reason)

    def fail_component(self, error: BaseException | str) -> bool:
        """Fail at work, as when a background task of this component has ended.

        It is failed at once: its handlers begin with no further event. In the background it is
        restarted, by its restart type and as often as supervision bears; what came meanwhile is
        handled then. While it starts, it is its start that fails. From any thread.

        Args:
            error: What happened; a text is taken for a :class:`~tiebeam.TransientError`.

        Returns:
            Whether it was at work, or starting.
        """
        if not isinstance(error, (BaseException, str)):
            raise TypeError(f"fail_component takes an exception or a text, got {error!r}")
        raised = TransientError(error) if isinstance(error, str) else error
        return self._joined.framework._core._failed(self.name, raised)

    # -- events ---------------------------------------------------------------------------

    def on_event(self, event: Event) -> Any:
        """Handle every event that no method marked with ``@subscribe`` takes.

        Only a component that overrides this gets them. Events it published itself are left out.
        """

    def publish_event(self, event_type: Any, payload: Any = None, /, **how: Any) -> Receipt:
        """Publish an event under this component's name.

        Takes what :meth:`tiebeam.EventBus.publish` takes. Await the receipt to wait for room in
        full mailboxes.
        """
        return self.bus.publish(event_type, payload, **how)

    def subscribe_to_events(
        self,
        event_types: str | type[Any] | Iterable[str | type[Any]],
        handler: Callable[..., Any] | None = None,
        /,
        **how: Any,
    ) -> list[Subscription]:
        """Have ``handler`` (``on_event`` if left out) called with events of these types.

        The subscriptions end when the component stops, like everything that it makes on its
        :attr:`bus`; those made in :meth:`initialize` are there again after a restart.
        """
        one = isinstance(event_types, (str, type))
        patterns: list[Any] = [event_types] if one else list(event_types)  # type: ignore[arg-type]
        return self._joined.subscribe(patterns, handler or self.on_event, how)

    def unsubscribe_from_events(
        self, event_types: str | type[Any] | Iterable[str | type[Any]], /
    ) -> int:
        """End the subscriptions that :meth:`subscribe_to_events` made for these types; returns
        how many."""
        one = isinstance(event_types, (str, type))
        given: Any = [event_types] if one else event_types
        return self._joined.unsubscribe({topic_of(event_type) for event_type in given})

    # -- configuration --------------------------------------------------------------------

    def get_configuration(self, path: str, default: Any = _MISSING) -> Any:
        """The value at a dotted path of the whole configuration.

        Raises:
            ConfigurationError: When there is no such value and no default.
        """
        configuration = self.framework.configuration
        if default is _MISSING:
            return configuration[path]
        return configuration.get(path, default)

    def on_configuration_change(
        self, path: str, handler: Callable[[str, Any, Any], Any]
    ) -> Callable[[], None]:
        """Have ``handler(path, old, new)`` called when configuration at or below ``path``
        changes, as :func:`tiebeam.on_config` does; returns a function that ends this."""
        return self._joined.listen(path, handler)

    def validate_configuration(self, config: Any) -> None:
        """Raise :class:`~tiebeam.ConfigurationError` to refuse ``config``."""

    # -- health ---------------------------------------------------------------------------

    def add_check(
        self,
        name: str,
        function: Callable[[], Any] | None = None,
        /,
        *,
        ttl: float | timedelta | None = None,
        **options: Any,
    ) -> AddedCheck:
        """Add a health check while the system runs, beside those marked with ``@check``.

        It stays until it is removed, over restarts too; one that was added under the same name
        before makes way for it.

        Args:
            name: Unique in this component.
            function: What to ask, ``def`` or ``async def``, without arguments.
            ttl: Instead of that: the component reports by itself, by
                :meth:`~tiebeam._added.AddedCheck.report`, and when it has been silent for longer
                than so many seconds, that is a failure; each report then counts at once. Time
                begins when the component is at work. With ``kind="liveness"``, that is a
                watchdog: the component is restarted.
            **options: As for ``@check``.

        Raises:
            ConfigurationError: For options that make no sense, and for the name of a method that
                is a check.
            TypeError: For what cannot be asked, for an option that there is not, and for values
                of another type.
            ValueError: For a period, a timeout or a ttl that is none.
        """
        return self._joined.add_check(name, function, ttl, options)

    # -- surroundings ---------------------------------------------------------------------

    @property
    def bus(self) -> EventBus:
        """The bus; what is published here carries this component's name."""
        return self._joined.bus

    @property
    def framework(self) -> Framework:
        """The framework this component belongs to."""
        return self._joined.framework

    @property
    def state(self) -> str:
        """The component's state: ``initialized``, ``configured``, ``running``, ..."""
        return self._host.state if self._host else "initialized"

    @property
    def degraded(self) -> bool:
        """Whether it works with reduced functionality at this moment."""
        return self.state == "degraded"

    @property
    def missing(self) -> frozenset[str]:
        """The names of the dependencies that it does without at this moment."""
        if self._host is None:
            return frozenset()
        reasons = self._host.framework.status(self.name)["degradations"]
        keys = (key.partition(":") for key in reasons)
        return frozenset(name for kind, _, name in keys if kind in ("wants", "needs"))

    @property
    def _joined(self) -> Host:
        if self._host is None:
            raise LifecycleError(
                f"component {self.name!r} does not belong to a framework yet; pass it to "
                "Framework(components=[...])",
                component=self.name,
            )
        return self._host

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.state}>"


def _refusing(name: str) -> Callable[[Component, Any], None]:
    def refuse(component: Component, _value: Any) -> None:
        raise AttributeError(
            f"{type(component).__name__}.{name} cannot be set: it tells {_RESERVED[name]}; give "
            "an attribute of your own another name"
        )

    return refuse


if not TYPE_CHECKING:  # for who reads types they stay what cannot be set
    for _name in _RESERVED:
        setattr(Component, _name, vars(Component)[_name].setter(_refusing(_name)))
    del _name
