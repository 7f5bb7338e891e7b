"""Middleware: code around every publish and every handler of a bus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from weakref import WeakSet

from tiebeam import _core
from tiebeam._adapt import dressed
from tiebeam._hooks import is_async
from tiebeam._mismatch import short_name
from tiebeam._typed import describe
from tiebeam.exceptions import ConfigurationError

__all__ = ["Middleware"]


class Middleware:
    """Code around what a bus does; override what is of interest, and leave the rest.

    The first one that a bus is given is the outermost.

    >>> class Tenant(Middleware):
    ...     def on_publish(self, call_next, event_type, payload, **options):
    ...         options["metadata"] = {**(options.get("metadata") or {}), "tenant": "acme"}
    ...         return call_next(event_type, payload, **options)
    """

    def on_publish(
        self, call_next: Callable[..., Any], event_type: str, payload: Any, **options: Any
    ) -> Any:
        """Called for each ``publish``, ``request`` and ``send``, before anything is encoded.

        Args:
            call_next: What comes after; takes the same, and returns the receipt. Do not call
                it, and nothing is published.
            event_type: The topic.
            payload: As the publisher gave it: a dict, an instance of a typed event, ``None``.
            **options: What else was given, by name: ``key``, ``metadata``, ``timeout``...

        Returns:
            The receipt, which the publisher gets. Raise to refuse the event.
        """
        return call_next(event_type, payload, **options)

    def on_handle(self, call_next: Callable[[_core.Event], Any], event: _core.Event) -> Any:
        """Called for each attempt to handle an event; ``def`` for ``def`` handlers.

        Written as ``async def``, it is for ``async def`` handlers alone; one for both kinds
        has :meth:`on_handle_async` beside it.

        Args:
            call_next: What comes after, and in the end the handler. Do not call it, and the
                event counts as delivered without having been handled; with ``ack="manual"``, as
                thrown away undecided.
            event: The event, also where the handler takes an instance.

        Returns:
            What the handler returned: to a request, the reply. What is raised here counts as
            if the handler had raised it.
        """
        return call_next(event)

    async def on_handle_async(
        self, call_next: Callable[[_core.Event], Awaitable[Any]], event: _core.Event
    ) -> Any:
        """:meth:`on_handle` for ``async def`` handlers; ``await call_next(event)``."""
        return await call_next(event)


class Chain:
    """The middleware of one bus, shared by all views of it."""

    def __init__(self) -> None:
        self._middleware: list[Middleware] = []
        self._views: WeakSet[_core.EventBus] = WeakSet()
        self._subscribed: str | None = None

    def join(self, view: _core.EventBus) -> None:
        """Have what is published on ``view`` go through the chain."""
        self._views.add(view)
        self._dress(view)

    def use(self, middleware: Middleware) -> None:
        """Add the innermost."""
        if not isinstance(middleware, Middleware):
            hint = "; give an instance of it" if isinstance(middleware, type) else ""
            raise TypeError(f"middleware derives from tiebeam.Middleware, got {middleware!r}{hint}")
        if is_async(middleware.on_publish):
            raise TypeError(
                f"{type(middleware).__name__}.on_publish must be `def`: `publish` returns before "
                "anything is awaited"
            )
        if not is_async(middleware.on_handle_async):
            raise TypeError(f"{type(middleware).__name__}.on_handle_async must be `async def`")
        if self._subscribed is not None and (
            _has(middleware, "on_handle") or _has_async(middleware)
        ):
            raise ConfigurationError(
                f"{type(middleware).__name__} is to stand around handlers, but {self._subscribed} "
                "is subscribed already; add middleware before the first subscription, as in "
                "EventBus(middleware=[...])"
            )
        self._middleware.append(middleware)
        for view in self._views:
            self._dress(view)

    def around(self, handler: Any) -> Any:
        """``handler`` with the chain around it; itself where there is none."""
        around = handler
        for middleware in reversed(self._middleware):
            around = _around(middleware, around, handler)
        self._subscribed = self._subscribed or _named(handler)
        return around

    def _dress(self, view: _core.EventBus) -> None:
        publishing = [m for m in self._middleware if _has(m, "on_publish")]
        if not publishing:
            return
        for name in ("publish", "request", "send"):
            # Found before the method of the class; without middleware there is only that.
            vars(view)[name] = _publishing(publishing, getattr(type(view), name).__get__(view))


def _has(middleware: Middleware, hook: str) -> bool:
    return getattr(type(middleware), hook) is not getattr(Middleware, hook)


def _has_async(middleware: Middleware) -> bool:
    return _has(middleware, "on_handle_async")


def _publishing(middleware: Iterable[Middleware], publish: Callable[..., Any]) -> Any:
    call = publish
    for one in reversed(list(middleware)):
        call = _one(one, call)

    def through(event_type: Any, payload: Any = None, /, **options: Any) -> Any:
        if isinstance(event_type, str):
            return call(event_type, payload, **options)
        if payload is not None:
            return publish(event_type, payload, **options)  # raises, and says what is wrong
        topic, version = describe(event_type)
        return call(topic, event_type, **{"version": version, **options})

    return dressed(through, publish)


def _one(middleware: Middleware, call_next: Callable[..., Any]) -> Callable[..., Any]:
    def call(event_type: str, payload: Any = None, /, **options: Any) -> Any:
        return middleware.on_publish(call_next, event_type, payload, **options)

    return call


def _around(middleware: Middleware, inner: Any, handler: Any) -> Any:
    """``inner`` with one middleware around it."""
    name = type(middleware).__name__
    asynchronous = is_async(inner)
    if asynchronous:
        if _has_async(middleware):
            hook: Any = middleware.on_handle_async
        elif is_async(middleware.on_handle):
            hook = middleware.on_handle
        elif _has(middleware, "on_handle"):
            raise ConfigurationError(
                f"{name}.on_handle is `def`, but the handler {_named(handler)} is `async def`: "
                "what stands after `call_next` would run before the handler does; write "
                "`async def on_handle_async` beside it"
            )
        else:
            return inner
    elif is_async(middleware.on_handle) or (
        _has_async(middleware) and not _has(middleware, "on_handle")
    ):
        raise ConfigurationError(
            f"{name} is for `async def` handlers, but {_named(handler)} is `def`, and nobody "
            "could await it there; write `def on_handle` for such handlers, and `async def "
            "on_handle_async` for the others"
        )
    elif _has(middleware, "on_handle"):
        hook = middleware.on_handle
    else:
        return inner
    around: Any
    if asynchronous:

        async def around(event: _core.Event) -> Any:
            return await hook(inner, event)
    else:

        def around(event: _core.Event) -> Any:
            return hook(inner, event)

    return dressed(around, inner)


def _named(handler: Any) -> str:
    return short_name(handler)
