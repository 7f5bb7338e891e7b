"""Every exception of tiebeam: one root, and a fitting builtin beside it.

Each carries ``context``, the facts needed to mend what went wrong (which topic, which path,
which component). The core raises them; components may raise the five that name a category.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BrokerBlocked",
    "BulkheadFull",
    "CircuitOpen",
    "ClosedError",
    "ConfigurationError",
    "DependencyCycle",
    "DependencyError",
    "DuplicateHandler",
    "ForkedProcessError",
    "InternalError",
    "LifecycleError",
    "MailboxFull",
    "NoHandler",
    "NoResponder",
    "NotReady",
    "OutcomeUnknown",
    "PayloadError",
    "PermanentError",
    "RateLimited",
    "RequestFault",
    "RequestTimeout",
    "TiebeamError",
    "TimeoutExceeded",
    "TopicError",
    "TransientError",
    "Unroutable",
    "WouldDeadlock",
]


class TiebeamError(Exception):
    """Root of all exceptions of tiebeam."""

    category: ClassVar[str] = "internal"
    """What to do about it: transient, permanent, configuration, dependency or internal."""

    context: dict[str, str]
    """The facts, by name: ``{"topic": "a..b"}``."""

    def __init__(self, message: str = "", **context: str) -> None:
        super().__init__(message)
        self.context = context


class PayloadError(TiebeamError, ValueError):
    """A payload or metadata value that cannot be an event; ``path`` says which."""

    category = "permanent"

    @property
    def path(self) -> str:
        """Where the value stands: ``payload.orders[3].price``."""
        return self.context.get("path", "payload")


class TopicError(TiebeamError, ValueError):
    """A malformed topic or pattern."""

    category = "permanent"


class MailboxFull(TiebeamError, BufferError):
    """A bounded mailbox had no room, and nobody waited for it."""

    category = "transient"


class RequestTimeout(TiebeamError, TimeoutError):
    """A request got no reply in time, or fewer than it needs."""

    category = "transient"

    @property
    def replies(self) -> int:
        """How many replies had come."""
        return int(self.context.get("replies", 0))


class RequestFault(TiebeamError, RuntimeError):
    """The responder failed; the remote error is in ``context``."""

    category = "permanent"

    @property
    def remote_type(self) -> str:
        """The class of the responder's exception."""
        return self.context.get("error_type", "")

    @property
    def remote_message(self) -> str:
        """What the responder's exception said."""
        return self.context.get("error_message", "")

    @property
    def remote_traceback(self) -> str:
        """Where the responder's exception came from."""
        return self.context.get("traceback", "")


class NoResponder(TiebeamError, LookupError):
    """Nobody responds to this request type."""

    category = "permanent"


class NoHandler(TiebeamError, LookupError):
    """Nobody handles this command."""

    category = "permanent"


class Unroutable(TiebeamError, LookupError):
    """The broker has no reader for this event, and did not keep it."""

    category = "permanent"


class OutcomeUnknown(TiebeamError, TimeoutError):
    """The broker's answer got lost: it may have the event.

    Published again under the same ``event_id``, the event is handled once.
    """

    category = "dependency"

    @property
    def event_id(self) -> str:
        """The id of the event."""
        return self.context.get("event_id", "")


class BrokerBlocked(TiebeamError, ConnectionError):
    """The broker takes nothing just now: its memory or its disk is full."""

    category = "dependency"


class DuplicateHandler(TiebeamError, ValueError):
    """The command, or the request type, already has its handler."""

    category = "permanent"


class WouldDeadlock(TiebeamError, RuntimeError):
    """Waiting here would wait for itself: this thread runs the loop that must do the work."""


class ForkedProcessError(TiebeamError, RuntimeError):
    """The process was forked after tiebeam had started in its parent."""


class ClosedError(TiebeamError, RuntimeError):
    """The bus or framework is closed."""

    category = "permanent"


class TimeoutExceeded(TiebeamError, TimeoutError):
    """A bounded time ran out."""

    category = "transient"

    @property
    def limit(self) -> float | None:
        """The time that there was, in seconds, where it is known."""
        return _number(self.context.get("limit"))


class LifecycleError(TiebeamError, RuntimeError):
    """An illegal state transition, or a lifecycle hook that failed."""


class DependencyCycle(TiebeamError, ValueError):
    """Components depend on each other in a circle; the message shows it."""

    category = "configuration"


class NotReady(TiebeamError, RuntimeError):
    """Raised by ``start``: try again later."""

    category = "transient"


class ConfigurationError(TiebeamError, ValueError):
    """The configuration is wrong; raised by ``validate_configuration``, it vetoes a change."""

    category = "configuration"


class TransientError(TiebeamError, RuntimeError):
    """A temporary failure: another attempt may succeed."""

    category = "transient"


class PermanentError(TiebeamError, RuntimeError):
    """A persistent failure: the same input will fail again."""

    category = "permanent"


class DependencyError(TiebeamError, ConnectionError):
    """Something outside the system does not answer."""

    category = "dependency"


class InternalError(TiebeamError, RuntimeError):
    """A bug, in a component or in tiebeam itself."""


class CircuitOpen(TiebeamError, ConnectionError):
    """A circuit breaker rejected the call."""

    category = "dependency"

    @property
    def name(self) -> str:
        """The breaker's name."""
        return self.context.get("name", "")

    @property
    def state(self) -> str:
        """The state that rejects: ``open``, ``half_open`` or ``forced_open``."""
        return self.context.get("state", "")

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may pass; ``None`` when time alone does not help."""
        return _number(self.context.get("retry_after"))

    @property
    def last_error(self) -> str | None:
        """The last failure that counted, in a few words."""
        return self.context.get("last_error")

    @property
    def opened_at(self) -> float | None:
        """When the breaker opened, in Unix seconds."""
        at = _number(self.context.get("opened_at"))
        return None if at is None else at / 1000


class BulkheadFull(TiebeamError, RuntimeError):
    """A bulkhead had no place for the call, and none to wait in, or not in time."""

    category = "transient"

    @property
    def reason(self) -> str:
        """``full``, or ``max_wait`` for a wait that took too long."""
        return self.context.get("reason", "")


class RateLimited(TiebeamError, RuntimeError):
    """A rate limiter had no permit for the call within the wait it allows."""

    category = "transient"

    @property
    def retry_after(self) -> float | None:
        """Seconds until there would be one."""
        return _number(self.context.get("retry_after"))


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
