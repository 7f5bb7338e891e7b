"""Handlers that count, and the proof that each of them got every event of a round once.

Handlers are part of every figure, so they cost next to nothing: a number in a closure goes down
by one. Those that read take one field of the payload beside that, and add it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from harness.envelope import PAYLOAD

PRICE = PAYLOAD["price"]


class Miscount(RuntimeError):
    """A contender lost, doubled or changed events: its figure would mean nothing."""


class Tally:
    """Makes the handlers of one contender and checks them after each round."""

    def __init__(self, *, reads: bool = False) -> None:
        self._reads = reads
        self._books: list[tuple[Callable[[int], None], Callable[[], tuple[int, float | None]]]] = []
        self._expected = 0
        self._busy = 0
        self._over = asyncio.Event()

    def expect(self, events: int) -> None:
        """A round begins: each handler is to see so many events."""
        self._expected = events
        self._busy = len(self._books)
        self._over.clear()
        for begin, _ in self._books:
            begin(events)

    async def over(self) -> None:
        """Until every async handler has seen its last event of the round."""
        await self._over.wait()

    def check(self, name: str) -> None:
        """Raise :class:`Miscount` unless all was handled, once, and unchanged."""
        for _, state in self._books:
            left, total = state()
            if left:
                handled = self._expected - left
                raise Miscount(f"{name}: a handler saw {handled} events, not {self._expected}")
            if total is not None and total != PRICE * self._expected:
                raise Miscount(f"{name}: {self._expected} payloads add up to {total}")

    def _finished(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._over.set()

    def handler(self) -> Callable[[Any], None]:
        """A ``def`` for events that are dicts."""
        return self._book(_sync_of_dict if self._reads else _sync)

    def event_handler(self) -> Callable[[Any], None]:
        """A ``def`` for events that have a ``payload``."""
        return self._book(_sync_of_event if self._reads else _sync)

    def async_handler(self) -> Callable[[Any], Awaitable[None]]:
        """An ``async def`` for events that are dicts; its last one ends :meth:`over`."""
        make = _async_of_dict if self._reads else _async
        return self._book(lambda: make(self._finished))

    def async_event_handler(self) -> Callable[[Any], Awaitable[None]]:
        """An ``async def`` for events that have a ``payload``; as :meth:`async_handler`."""
        make = _async_of_event if self._reads else _async
        return self._book(lambda: make(self._finished))

    def replies(self) -> Callable[[dict[str, Any]], None]:
        """For replies that hold the price that was asked for; they are always read."""
        return self._book(_replies)

    def _book(self, make: Callable[[], Any]) -> Any:
        handler, begin, state = make()
        self._books.append((begin, state))
        return handler


def _sync() -> Any:
    left = 0

    def handler(_event: Any) -> None:
        nonlocal left
        left -= 1

    def begin(events: int) -> None:
        nonlocal left
        left = events

    return handler, begin, lambda: (left, None)


def _sync_of_dict() -> Any:
    left, total = 0, 0.0

    def handler(event: dict[str, Any]) -> None:
        nonlocal left, total
        left -= 1
        total += event["payload"]["price"]

    def begin(events: int) -> None:
        nonlocal left, total
        left, total = events, 0.0

    return handler, begin, lambda: (left, total)


def _sync_of_event() -> Any:
    left, total = 0, 0.0

    def handler(event: Any) -> None:
        nonlocal left, total
        left -= 1
        total += event.payload["price"]

    def begin(events: int) -> None:
        nonlocal left, total
        left, total = events, 0.0

    return handler, begin, lambda: (left, total)


def _replies() -> Any:
    left, total = 0, 0.0

    def handler(reply: dict[str, Any]) -> None:
        nonlocal left, total
        left -= 1
        total += reply["price"]

    def begin(events: int) -> None:
        nonlocal left, total
        left, total = events, 0.0

    return handler, begin, lambda: (left, total)


def _async(finished: Callable[[], None]) -> Any:
    left = 0

    async def handler(_event: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            finished()

    def begin(events: int) -> None:
        nonlocal left
        left = events

    return handler, begin, lambda: (left, None)


def _async_of_dict(finished: Callable[[], None]) -> Any:
    left, total = 0, 0.0

    async def handler(event: dict[str, Any]) -> None:
        nonlocal left, total
        left -= 1
        total += event["payload"]["price"]
        if not left:
            finished()

    def begin(events: int) -> None:
        nonlocal left, total
        left, total = events, 0.0

    return handler, begin, lambda: (left, total)


def _async_of_event(finished: Callable[[], None]) -> Any:
    left, total = 0, 0.0

    async def handler(event: Any) -> None:
        nonlocal left, total
        left -= 1
        total += event.payload["price"]
        if not left:
            finished()

    def begin(events: int) -> None:
        nonlocal left, total
        left, total = events, 0.0

    return handler, begin, lambda: (left, total)
