"""The event bus: the core's, with the sugar that Python users expect."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from tiebeam import _core, _interactive
from tiebeam._adapt import adapt
from tiebeam._core import Subscription
from tiebeam._options import (
    BusOptions,
    HandleOptions,
    Handler,
    OutboxOptions,
    RespondOptions,
    RetryOptions,
    SubscribeOptions,
    TlsOptions,
    check,
    check_bus,
)
from tiebeam._routes import route
from tiebeam._typed import topic_of
from tiebeam._upcast import Upcasters, upcast
from tiebeam._waiting import WaitingBus
from tiebeam.books import Books, Explanation
from tiebeam.exceptions import ForkedProcessError
from tiebeam.middleware import Chain, Middleware

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = [
    "BusOptions",
    "EventBus",
    "HandleOptions",
    "OutboxOptions",
    "RespondOptions",
    "RetryOptions",
    "SubscribeOptions",
    "TlsOptions",
]

HandlerT = TypeVar("HandlerT", bound=Handler)
_LEFT_OUT: Any = object()


class EventBus(WaitingBus):
    """An event bus: publish, subscribe, request, command.

    It stands alone, or belongs to a :class:`~tiebeam.Framework`. Use it as a context manager,
    ``async with EventBus() as bus`` or ``with EventBus() as bus``; leaving the block waits for
    what is in flight and ends every subscription.

    >>> with EventBus() as bus:
    ...     seen = []
    ...     _ = bus.subscribe("market_data.*", lambda event: seen.append(event.payload["price"]))
    ...     _ = bus.publish("market_data.price_update", {"symbol": "BTCUSDT", "price": 38245.5})
    ...     bus.drain_sync()
    ...     seen
    [38245.5]
    """

    _chain: Chain
    _upcasters: Upcasters

    def __new__(
        cls,
        name: str = "bus",
        *,
        middleware: Iterable[Middleware] = (),
        upcasters: Upcasters | None = None,
        _view: _core.EventBus | None = None,
        **options: Unpack[BusOptions],
    ) -> Self:
        """Make a bus that stands alone.

        Args:
            name: For people; the producer of events published on the bus itself.
            middleware: What is to stand around publishing and handling, the outermost first.
            upcasters: The steps for events of old versions; ``tiebeam.upcast`` unless given.
            **options: As in :class:`BusOptions`.

        Raises:
            ValueError: For a setting that makes no sense.
            TypeError: For middleware that is none.
        """
        check_bus(name, options)
        if isinstance(middleware, (Middleware, str)) or not isinstance(middleware, Iterable):
            raise TypeError(
                f"middleware is a list of tiebeam.Middleware, got {type(middleware).__name__}; "
                "write middleware=[...]"
            )
        if upcasters is not None and not isinstance(upcasters, Upcasters):
            raise TypeError(f"upcasters is a tiebeam.Upcasters, got {type(upcasters).__name__}")
        self = super().__new__(cls, name, _view=_view, **options)
        self._upcasters = upcast if upcasters is None else upcasters
        self._chain = Chain()
        self._chain.join(self)
        for one in middleware:
            self._chain.use(one)
        return self

    def use(self, middleware: Middleware, /) -> None:
        """Put ``middleware`` around what is published and handled from now on, inside of what
        is there already.

        On a framework's bus it is around its components too; add it before the start.

        Raises:
            ConfigurationError: When it is to stand around handlers, and one is subscribed.
            TypeError: For what is no :class:`~tiebeam.Middleware`, or whose hooks are of the
                wrong kind.
        """
        self._chain.use(middleware)

    @overload
    def subscribe(
        self, pattern: str | type[Any], handler: Handler, /, **how: Unpack[SubscribeOptions]
    ) -> Subscription: ...

    @overload
    def subscribe(
        self, pattern: str | type[Any], /, **how: Unpack[SubscribeOptions]
    ) -> Callable[[HandlerT], HandlerT]: ...

    def subscribe(
        self,
        pattern: str | type[Any],
        handler: Handler = _LEFT_OUT,
        /,
        **how: Unpack[SubscribeOptions],
    ) -> Any:
        """Call ``handler`` with every event whose type matches ``pattern``.

        Args:
            pattern: Dot-separated segments; ``*`` is one segment, ``#`` zero or more. Or a
                class with an event type: the handler gets instances of it.
            handler: ``def`` or ``async def``, taking the event; or an instance, where its
                parameter is annotated with a dataclass, a pydantic model or a msgspec
                ``Struct``, and the event after it, if it has an ``event: Event``. Left out,
                ``subscribe`` is a decorator.
            **how: ``name``, ``where``, ``key``, ``concurrency``, ``capacity``, ``overflow``,
                ``sample_interval``, ``group``, ``broadcast``, ``start``, ``ack``, ``retry``,
                ``fallback``, ``run_in`` and ``timeout``, as in :class:`SubscribeOptions`.

        Returns:
            A handle whose ``cancel()`` ends the subscription; the function itself when used as
            a decorator.

        Raises:
            TopicError: For a malformed pattern.
            TypeError: For a handler that cannot take one argument, or of which it is not clear
                what it wants; for an unknown option.
            ConfigurationError: For a ``where`` or ``key`` that cannot be read; the message
                points at the mistake. For a gap in the chain of upcasters.
            ValueError: For an option that makes no sense.
            ClosedError: When the bus is closed.
        """
        if handler is not _LEFT_OUT:
            return self._add("subscribe", pattern, handler, how)

        def decorate(function: HandlerT) -> HandlerT:
            self._add("subscribe", pattern, function, how)
            return function

        return decorate

    def on_error(
        self,
        handler: Handler = _LEFT_OUT,
        /,
        *,
        category: str | None = None,
        component: str | None = None,
        error_type: type[BaseException] | str | None = None,
        final: bool | None = None,
        **how: Unpack[SubscribeOptions],
    ) -> Any:
        """Call ``handler`` with errors: the events ``system.error.<category>``.

        What they say, and what the parameters choose, is told at
        :func:`tiebeam.on_error <tiebeam.decorators.on_error>`, which does this for a method of a
        component.

        Args:
            handler: ``def`` or ``async def``, taking the event. Left out, ``on_error`` is a
                decorator.
            category: Of this category; all unless given.
            component: Of this component.
            error_type: Of exactly this class, or of the class of this name.
            final: Only those after which there is no further attempt, or only the others.
            **how: As for :meth:`subscribe`, without ``where``. Unless given, the oldest are
                dropped when more come than the handler can take, and it is not tried again.

        Returns:
            A handle whose ``cancel()`` ends it; the function itself when used as a decorator.

        Raises:
            ConfigurationError: For a category that there is not.
            TypeError: For ``where``; as :meth:`subscribe`.
        """
        pattern, options = route(category, component, error_type, final, dict(how))
        if handler is _LEFT_OUT:
            return self.subscribe(pattern, **options)
        return self.subscribe(pattern, handler, **options)

    @overload
    def once(
        self, pattern: str | type[Any], handler: Handler, /, **how: Unpack[SubscribeOptions]
    ) -> Subscription: ...

    @overload
    def once(
        self, pattern: str | type[Any], /, **how: Unpack[SubscribeOptions]
    ) -> Callable[[HandlerT], HandlerT]: ...

    def once(
        self,
        pattern: str | type[Any],
        handler: Handler = _LEFT_OUT,
        /,
        **how: Unpack[SubscribeOptions],
    ) -> Any:
        """Call ``handler`` with the next event that matches, and with no other.

        The subscription takes one event and is gone. If the handler fails, it is called again
        with the same event, as its ``retry`` says.

        Takes, returns and raises what :meth:`subscribe` does.
        """
        if handler is not _LEFT_OUT:
            return self._add("once", pattern, handler, how)

        def decorate(function: HandlerT) -> HandlerT:
            self._add("once", pattern, function, how)
            return function

        return decorate

    @overload
    def respond(
        self, event_type: str | type[Any], handler: Handler, /, **how: Unpack[RespondOptions]
    ) -> Subscription: ...

    @overload
    def respond(
        self, event_type: str | type[Any], /, **how: Unpack[RespondOptions]
    ) -> Callable[[HandlerT], HandlerT]: ...

    def respond(
        self,
        event_type: str | type[Any],
        handler: Handler = _LEFT_OUT,
        /,
        **how: Unpack[RespondOptions],
    ) -> Any:
        """Answer requests of ``event_type`` with what ``handler`` returns.

        Several responders share the requests. What ``handler`` raises, the caller gets as
        :class:`~tiebeam.RequestFault`.

        Args:
            event_type: The topic of the question, or a class that has one.
            handler: ``def`` or ``async def``, taking the event and returning the payload of the
                reply. Left out, ``respond`` is a decorator.
            **how: ``name``, ``concurrency``, ``run_in`` and ``timeout``, as in
                :class:`RespondOptions`.

        Returns:
            As :meth:`subscribe`.

        Raises:
            TopicError, TypeError, ValueError, ClosedError: As :meth:`subscribe`.
        """
        if handler is not _LEFT_OUT:
            return self._add("respond", event_type, handler, how)

        def decorate(function: HandlerT) -> HandlerT:
            self._add("respond", event_type, function, how)
            return function

        return decorate

    @overload
    def handle(
        self, event_type: str | type[Any], handler: Handler, /, **how: Unpack[HandleOptions]
    ) -> Subscription: ...

    @overload
    def handle(
        self, event_type: str | type[Any], /, **how: Unpack[HandleOptions]
    ) -> Callable[[HandlerT], HandlerT]: ...

    def handle(
        self,
        event_type: str | type[Any],
        handler: Handler = _LEFT_OUT,
        /,
        **how: Unpack[HandleOptions],
    ) -> Any:
        """Be the one handler of the command ``event_type``.

        Args:
            event_type: The topic of the command, or a class that has one.
            handler: ``def`` or ``async def``, taking the event. Left out, ``handle`` is a
                decorator.
            **how: ``name``, ``retry``, ``run_in`` and ``timeout``, as in
                :class:`HandleOptions`.

        Returns:
            As :meth:`subscribe`.

        Raises:
            DuplicateHandler: When the command has its handler already.
            TopicError, TypeError, ValueError, ClosedError: As :meth:`subscribe`.
        """
        if handler is not _LEFT_OUT:
            return self._add("handle", event_type, handler, how)

        def decorate(function: HandlerT) -> HandlerT:
            self._add("handle", event_type, function, how)
            return function

        return decorate

    def _add(
        self, role: str, given: str | type[Any], handler: Handler, how: Mapping[str, Any]
    ) -> Any:
        check(role, how)
        pattern = topic_of(given)
        if role == "once":
            role, how = "subscribe", {**how, "_once": True}
        called = self._chain.around(adapt(handler, given, self._upcasters))
        if how.get("fallback") is not None:
            fallback = adapt(how["fallback"], pattern, self._upcasters, what="fallback")
            how = {**how, "fallback": fallback}
        _interactive.replace_handler(self, role, pattern, handler)
        add: Any = getattr(self, f"_{role}")
        subscription = add(pattern, called, **how)
        _interactive.remember(self, role, pattern, handler, subscription)
        return subscription

    def books(self, *, internal: bool = False) -> Books:
        """What became of every event; ``balanced`` says whether all are accounted for.

        Args:
            internal: Whether to count what the framework itself, and a test's recorder, listen
                to.
        """
        return Books(self._books(internal))

    def explain(self, event_type: str, *, internal: bool = False) -> Explanation:
        """Who gets the events of ``event_type``, and why others do not.

        Args:
            event_type: The topic.
            internal: As for :meth:`books`.

        Raises:
            TopicError: For a malformed topic, and for a pattern.
        """
        return Explanation(self._explain(event_type, internal))

    def _repr_html_(self) -> str:
        state = "closed" if self.closed else "open"
        letters = len(self.dead_letters)
        title = f"<b>{escape(self.name)}</b> {state}, {letters} dead letter{'s'[: letters != 1]}"
        return title + self.books()._repr_html_()

    async def __aenter__(self) -> Self:
        if self.capabilities["shared"]:
            try:
                await self.ready()
            except BaseException:
                await self.close(0.0)
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ForkedProcessError):  # a forked child leaves the block, too
            await self.close(0.0 if kind else 15.0)

    def __enter__(self) -> Self:
        if self.capabilities["shared"]:
            try:
                self.ready_sync()
            except BaseException:
                self.close_sync(0.0)
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ForkedProcessError):
            self.close_sync(0.0 if kind else 15.0)
