"""tiebeam: an integration framework for systems of Python agents, with a Rust core."""

from tiebeam._core import (
    DeadLetter,
    Event,
    PendingEvent,
    PendingReply,
    Periodic,
    Receipt,
    Stream,
    Subscription,
    __version__,
)
from tiebeam._typed import event
from tiebeam._upcast import Upcasters, upcast
from tiebeam.books import Books, Explanation, Tally
from tiebeam.bus import EventBus
from tiebeam.component import Component
from tiebeam.configuration import Configuration
from tiebeam.decorators import check, command, on_config, respond, subscribe
from tiebeam.exceptions import (
    CircuitOpen,
    ClosedError,
    ConfigurationError,
    DependencyCycle,
    DependencyError,
    DuplicateHandler,
    ForkedProcessError,
    InternalError,
    LifecycleError,
    MailboxFull,
    NoHandler,
    NoResponder,
    NotReady,
    PayloadError,
    PermanentError,
    RequestFault,
    RequestTimeout,
    TiebeamError,
    TimeoutExceeded,
    TopicError,
    TransientError,
    WouldDeadlock,
)
from tiebeam.framework import Framework
from tiebeam.health import Health
from tiebeam.middleware import Middleware

__all__ = [
    "Books",
    "CircuitOpen",
    "ClosedError",
    "Component",
    "Configuration",
    "ConfigurationError",
    "DeadLetter",
    "DependencyCycle",
    "DependencyError",
    "DuplicateHandler",
    "Event",
    "EventBus",
    "Explanation",
    "ForkedProcessError",
    "Framework",
    "Health",
    "InternalError",
    "LifecycleError",
    "MailboxFull",
    "Middleware",
    "NoHandler",
    "NoResponder",
    "NotReady",
    "PayloadError",
    "PendingEvent",
    "PendingReply",
    "Periodic",
    "PermanentError",
    "Receipt",
    "RequestFault",
    "RequestTimeout",
    "Stream",
    "Subscription",
    "Tally",
    "TiebeamError",
    "TimeoutExceeded",
    "TopicError",
    "TransientError",
    "Upcasters",
    "WouldDeadlock",
    "__version__",
    "check",
    "command",
    "event",
    "on_config",
    "respond",
    "subscribe",
    "upcast",
]
