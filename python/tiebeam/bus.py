"""The event bus: the core's, with the sugar that Python users expect."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar, overload

from tiebeam import _core
from tiebeam._core import Subscription
from tiebeam.books import Books, Explanation

__all__ = ["EventBus"]

Handler = Callable[[Any], Any]
HandlerT = TypeVar("HandlerT", bound=Handler)
Duration = float | timedelta


class EventBus(_core.EventBus):
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

    @overload
    def subscribe(self, pattern: str, handler: Handler, /, **how: Any) -> Subscription: ...

    @overload
    def subscribe(
        self, pattern: str, /, **how: Any
    ) -> Callable[[HandlerT], HandlerT]: ...

    def subscribe(self, pattern: str, handler: Handler | None = None, /, **how: Any) -> Any:
        """Call ``handler`` with every event whose type matches ``pattern``.

        Args:
            pattern: Dot-separated segments; ``*`` is one segment, ``#`` zero or more.
            handler: ``def`` or ``async def``, taking the event. Left out, ``subscribe`` is a
                decorator.
            **how: ``name`` for reports; ``where``, which events to take, checked before Python
                wakes: a dict of paths and values that must be equal, such as
                ``{"payload.symbol": "BTCUSDT"}``, or an expression, such as
                ``"payload.price >= 100 and payload.symbol in ['BTCUSDT', 'ETHUSDT']"``;
                ``key``, the path of the value whose events keep their order while one of them
                waits for a retry, such as ``"payload.symbol"`` (left out, it is the ``key``
                that an event was published with);
                ``concurrency``, how many events at once (1 keeps the order); ``capacity`` and
                ``overflow`` (``block``, ``drop_oldest``, ``drop_newest``, ``fail``) of the
                mailbox; ``retry`` (``False``, a number of attempts, or a dict with
                ``max_attempts``, ``initial_delay``, ``multiplier``, ``max_delay``, ``jitter``);
                ``fallback``, called after the last failure; ``run_in``: ``loop`` (the running
                one; the default for ``async def``), ``thread`` (the default for ``def``) or
                ``inline`` (inside ``publish``); ``timeout`` in seconds.

        Returns:
            A handle whose ``cancel()`` ends the subscription; the function itself when used as
            a decorator.

        Raises:
            TopicError: For a malformed pattern.
            TypeError: For a handler that cannot take one argument.
            ConfigurationError: For a ``where`` or ``key`` that cannot be read; the message
                points at the mistake.
            ValueError: For an option that makes no sense.
        """
        if handler is not None:
            return self._subscribe(pattern, handler, **how)

        def decorate(function: HandlerT) -> HandlerT:
            self._subscribe(pattern, function, **how)
            return function

        return decorate

    def respond(self, event_type: str, handler: Handler | None = None, /, **how: Any) -> Any:
        """Answer requests of ``event_type`` with what ``handler`` returns.

        Several responders share the requests. Takes ``name``, ``concurrency``, ``run_in`` and
        ``timeout`` as :meth:`subscribe` does, and is a decorator without ``handler``.
        """
        if handler is not None:
            return self._respond(event_type, handler, **how)

        def decorate(function: HandlerT) -> HandlerT:
            self._respond(event_type, function, **how)
            return function

        return decorate

    def handle(self, event_type: str, handler: Handler | None = None, /, **how: Any) -> Any:
        """Be the one handler of the command ``event_type``.

        Takes ``name``, ``retry``, ``run_in`` and ``timeout`` as :meth:`subscribe` does, and is
        a decorator without ``handler``.

        Raises:
            DuplicateHandler: When the command has its handler already.
        """
        if handler is not None:
            return self._handle(event_type, handler, **how)

        def decorate(function: HandlerT) -> HandlerT:
            self._handle(event_type, function, **how)
            return function

        return decorate

    def books(self) -> Books:
        """What became of every event; ``balanced`` says whether all are accounted for."""
        return Books(self._books())

    def explain(self, event_type: str) -> Explanation:
        """Who gets the events of ``event_type``, and why others do not."""
        return Explanation(self._explain(event_type))

    async def __aenter__(self) -> EventBus:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close(0.0 if kind else 15.0)

    def __enter__(self) -> EventBus:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close_sync(0.0 if kind else 15.0)
