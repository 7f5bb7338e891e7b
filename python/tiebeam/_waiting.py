"""Events for the code that waits for them: the next one, or one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from tiebeam import _core
from tiebeam._core import PendingEvent, Stream
from tiebeam._options import check_values
from tiebeam._typed import topic_of

__all__ = ["WaitingBus"]

Where = Mapping[str, str | int | float | bool | None] | str


class WaitingBus(_core.EventBus):
    """What an event bus offers to code that waits."""

    def wait_for(
        self,
        pattern: str | type[Any],
        /,
        *,
        where: Where | None = None,
        timeout: float | timedelta | None = None,
    ) -> PendingEvent:
        """The next event that matches, from this call on.

        An event that is published after the call and before the ``await`` is not missed.

        Args:
            pattern: As in :meth:`~tiebeam.EventBus.subscribe`.
            where: As in :meth:`~tiebeam.EventBus.subscribe`.
            timeout: The longest wait, in seconds from this call; ``None`` waits for ever.

        Returns:
            What to await, or to ``wait()`` for in a thread; it gives the event. Throw it away,
            or cancel the ``await``, and the wait is over.

        Raises:
            TopicError: For a malformed pattern.
            ConfigurationError: For a ``where`` that cannot be read.
            ClosedError: When the bus is closed.
        """
        return self._wait_for(topic_of(pattern), where=where, timeout=timeout)

    def stream(
        self,
        pattern: str | type[Any],
        /,
        *,
        name: str | None = None,
        where: Where | None = None,
        capacity: int | None = None,
        overflow: Literal["block", "drop_oldest", "drop_newest", "fail", "latest"] | None = None,
    ) -> Stream:
        """The events that match, from this call on, for a loop: ``async for``, or ``for`` in a
        thread.

        The subscription lives as long as the stream: leaving the loop ends it, if nothing else
        holds the stream; so does leaving its ``async with`` or ``with`` block, and ``cancel()``.
        The loop ends when the bus closes.

        An event is settled when the loop asks for the next one. In the body of the loop it is
        the one that is being handled: what is published there inherits its correlation.

        Args:
            pattern: As in :meth:`~tiebeam.EventBus.subscribe`.
            name: For books; ``stream`` unless given.
            where: As in :meth:`~tiebeam.EventBus.subscribe`.
            capacity: How many events may wait for the loop; the bus's unless given.
            overflow: What happens when more come; the bus's unless given.

        Raises:
            TopicError: For a malformed pattern.
            ConfigurationError: For a ``where`` that cannot be read, or no ``capacity``.
            ClosedError: When the bus is closed.
        """
        check_values({"name": name, "capacity": capacity, "overflow": overflow})
        return self._stream(
            topic_of(pattern), name=name, where=where, capacity=capacity, overflow=overflow
        )
