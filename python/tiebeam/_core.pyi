"""The core: everything that is written in Rust.

Import its public classes from ``tiebeam``. Durations are seconds (``int``, ``float``) or
``timedelta``; points in time are Unix milliseconds, as in an event's ``timestamp``.
"""

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, final

from typing_extensions import Self, disjoint_base

from tiebeam.books import Tally

__all__ = [
    "_TIME_IS_UP",
    "Backoff",
    "Clock",
    "ConfigProposal",
    "ConfigStore",
    "DeadLetter",
    "DeadLetters",
    "DeadLettersEverywhere",
    "Event",
    "EventBus",
    "Framework",
    "PendingEvent",
    "PendingReply",
    "Periodic",
    "Receipt",
    "RetryBudget",
    "Slo",
    "Stream",
    "Subscription",
    "_Apart",
    "_Bounded",
    "_Breaker",
    "_BudgetedCall",
    "_Bulkhead",
    "_Handover",
    "_HookWatch",
    "_Limiter",
    "_Opened",
    "_Reservation",
    "_Retry",
    "_RetryRun",
    "_Ticket",
    "_TimeLimit",
    "_Timer",
    "__version__",
    "_aggregate",
    "_begin_activity",
    "_busy",
    "_check_options",
    "_end_activity",
    "_http_status",
    "_join_activity",
    "_left_behind",
    "_log",
    "_matches",
    "_panic",
    "_process_clock",
    "_resilience_active",
    "_seconds",
    "_set_resilience",
    "_stand_in",
    "_time_is_up",
    "_verdict",
    "_watch_activity",
]

__version__: Final[str]

_Category: TypeAlias = Literal["transient", "permanent", "configuration", "dependency", "internal"]
_Duration: TypeAlias = float | timedelta
_DeadLetterList: TypeAlias = list[DeadLetter]  # inside the class, `list` is the method
_Handler: TypeAlias = Callable[[Any], Any]
_Overflow: TypeAlias = Literal["block", "drop_oldest", "drop_newest", "fail", "latest", "sample"]
_Priority: TypeAlias = Literal["low", "normal", "high", "critical"]
_Literal: TypeAlias = str | int | float | bool | None

@final
class Event:
    """One thing that happened, as one handler sees it.

    Events are immutable, but for the payload: each handler has its own copy, decoded when it is
    first looked at. Two events are equal when their ids are. They pickle as their JSON wire form.
    """

    def __new__(
        cls,
        event_type: str,
        payload: object = None,
        *,
        event_id: str | None = None,
        timestamp: int = 0,
        producer: str = "",
        version: int = 1,
        metadata: dict[str, Any] | None = None,
    ) -> Self:
        """Make an event by hand: for tests, and for tools that write to a broker.

        Args:
            event_type: A topic such as ``market_data.price_update``.
            payload: What JSON can say, and the documented encodings; ``None`` is ``{}``.
            event_id: Its id; left out, a new one.
            timestamp: When it happened, in Unix milliseconds.
            producer: Who says so.
            version: The version of the payload's form.
            metadata: ``priority``, ``correlation_id`` and so on, as in the wire form; unknown
                keys are kept.

        Raises:
            TopicError: For a malformed ``event_type``.
            PayloadError: For a payload or metadata that cannot be an event's.
        """

    @staticmethod
    def from_json(text: str) -> Event:
        """Read an event from its JSON wire form.

        Raises:
            PayloadError: For text that is no event, saying what is wrong.
            TopicError: For a malformed ``event_type``.
        """

    def to_json(self) -> str:
        """The event in its JSON wire form, which any Redis or AMQP client can read."""

    @property
    def event_id(self) -> str:
        """``evt_`` and a time-ordered id."""

    @property
    def event_type(self) -> str:
        """The topic it was published to."""

    @property
    def category(self) -> str:
        """The first segment of ``event_type``: ``market_data``, ``trading``, ..."""

    @property
    def timestamp(self) -> int:
        """When it was published, in Unix milliseconds."""

    @property
    def producer(self) -> str:
        """Who published it: a component's name, or the bus's."""

    @property
    def version(self) -> int:
        """The version of the payload's form."""

    @property
    def payload(self) -> Any:
        """What it says, usually a ``dict``; a copy that belongs to this handler alone."""

    @property
    def metadata(self) -> dict[str, Any]:
        """``priority``, ``correlation_id``, ``retry_count`` and what else is set; a copy."""

    @property
    def priority(self) -> _Priority:
        """Which lane of a mailbox it takes."""

    @property
    def correlation_id(self) -> str:
        """The id of the event that began it all; the own id of a root event."""

    @property
    def causation_id(self) -> str | None:
        """The id of the event in whose handling this one was published."""

    @property
    def retry_count(self) -> int:
        """How many attempts to handle it have failed before this one."""

    @property
    def key(self) -> str | None:
        """What it is about; the order of events with one key is kept."""

    @property
    def deadline(self) -> int | None:
        """When it is of no use any more, in Unix milliseconds."""

    def ack(self) -> None:
        """Settle the event as handled.

        This and the two below are for handlers with ``ack="manual"``, and for whoever they give
        the event to, in any task or thread. One of them is called once. An event that is thrown
        away undecided, or whose handler fails, comes back as after :meth:`nack`.

        Raises:
            LifecycleError: When the event was settled before, or is not for its handler to
                settle.
        """

    def nack(self) -> None:
        """Settle the event as failed: it comes back by the subscription's retry policy, and is a
        dead letter after the last attempt.

        Raises:
            LifecycleError: As :meth:`ack`.
        """

    def reject(self, reason: str | None = None) -> None:
        """Settle the event as a dead letter, at once.

        Args:
            reason: What the dead letter says.

        Raises:
            LifecycleError: As :meth:`ack`.
        """

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, tuple[str]]: ...
    def _repr_html_(self) -> str: ...

@final
class Receipt:
    """What ``publish`` and ``send`` return: accepted, waiting for room in a mailbox, or on its way
    to the broker.

    Await it in a coroutine, ``wait()`` for it in a thread, or leave it alone where room is
    certain. When a full mailbox with ``overflow="block"`` makes it wait and nobody does, the
    event is dropped there, counted, and reported.
    """

    @property
    def event_id(self) -> str:
        """The id the event was given."""

    @property
    def duplicate(self) -> bool:
        """Whether an event of this id was published before, so that this one went nowhere."""

    @property
    def accepted(self) -> bool:
        """Whether every mailbox, or the broker, has taken the event."""

    def __await__(self) -> Generator[Any, Any]:
        """Wait until every mailbox has taken the event; at once when there is room. On a broker,
        wait until that has it.

        Raises:
            ClosedError: When the bus closes meanwhile.
            OutcomeUnknown: When the broker's answer got lost: it may have the event.
            DependencyError: When the broker did not take the event in time.
            MailboxFull: When the outbox had no room for the event.
            NoHandler: For a command that nobody handles, here or elsewhere.
        """

    def wait(self, timeout: _Duration | None = None) -> None:
        """Block this thread until every mailbox has taken the event.

        Args:
            timeout: The longest wait, in seconds of real time; ``None`` waits for ever.

        Raises:
            TimeoutExceeded: After ``timeout``; the event is then dropped where there was no room.
            WouldDeadlock: On the thread whose event loop has to make the room.
            ClosedError: When the bus closes meanwhile.
            OutcomeUnknown, DependencyError, MailboxFull, NoHandler: As awaiting does.
        """

@final
class PendingReply:
    """What ``request`` returns: the reply, to be awaited or waited for once."""

    @property
    def event_id(self) -> str:
        """The id of the request."""

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for the reply, and return its payload.

        Raises:
            RequestTimeout: When none came in time, or fewer than the quorum; ``replies`` says
                how many.
            RequestFault: When the responder failed, or so many did that the quorum cannot be
                reached; carries the first error, and notes of the others.
            RuntimeError: When it was awaited before.
        """

    def __iter__(self) -> Self:
        """Return itself: its await is iterated over, as the interpreter does."""

    def __next__(self) -> Any:
        """Take a step of the await, as the interpreter does."""

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any:
        """End the await with an exception, as the interpreter does; the request is forgotten."""

    def close(self) -> None:
        """End the await; the request is forgotten."""

    def wait(self, timeout: _Duration | None = None) -> Any:
        """Block this thread for the reply, and return its payload.

        Args:
            timeout: The longest wait, in seconds of real time, beside the request's own.

        Raises:
            RequestTimeout: When none came within the request's own time.
            TimeoutExceeded: After ``timeout``.
            RequestFault: When the responder failed; carries its error.
            WouldDeadlock: On the thread whose event loop has to answer.
            RuntimeError: When it was awaited before.
        """

@final
class PendingEvent:
    """What ``wait_for`` returns: the next event that matches, to be awaited or waited for once.

    Throwing it away ends the wait.
    """

    @property
    def pattern(self) -> str:
        """The topics it waits for."""

    def __await__(self) -> Generator[Any, Any, Event]:
        """Wait for the event.

        Raises:
            TimeoutExceeded: When none came in the time that ``wait_for`` was given.
            ClosedError: When the bus closes, or the component stops, before one came.
            RuntimeError: When it was awaited before, or cancelled.
        """

    def wait(self, timeout: _Duration | None = None) -> Event:
        """Block this thread for the event.

        Args:
            timeout: The longest wait, in seconds of real time, beside the one of ``wait_for``.

        Raises:
            TimeoutExceeded: After either time.
            WouldDeadlock: On a thread whose event loop runs.
            ClosedError, RuntimeError: As awaiting does.
        """

    def cancel(self) -> None:
        """Wait no longer; idempotent. Whoever awaits it gets a ``ClosedError``."""

@final
class Stream:
    """What ``stream`` returns: events for a loop, ``async for`` or ``for``.

    The subscription ends with the stream: when it is thrown away, when its ``async with`` or
    ``with`` block is left, by ``cancel()``. An event is settled when the loop asks for the next
    one. The one at hand at the end counts as delivered, or as dropped when an exception leaves
    the block.
    """

    @property
    def name(self) -> str:
        """Its name in books."""

    @property
    def pattern(self) -> str:
        """The topics it takes."""

    @property
    def status(self) -> Literal["active", "cancelled", "orphaned"]:
        """Whether events still reach it."""

    @property
    def queued(self) -> int:
        """How many events wait for it."""

    def cancel(self) -> None:
        """End it, and the loop; idempotent. Events that waited are booked as dropped."""

    def _retire(self) -> Awaitable[None]: ...
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Awaitable[Event]:
        """The next event.

        Raises:
            StopAsyncIteration: When the stream, or its bus, has ended.
            RuntimeError: When somebody else waits for the next event.
        """

    def __iter__(self) -> Self: ...
    def __next__(self) -> Event:
        """Block this thread for the next event.

        Raises:
            StopIteration: When the stream, or its bus, has ended.
            WouldDeadlock: On a thread whose event loop runs.
            RuntimeError: When somebody else waits for the next event.
        """

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: object = None, *_more: object) -> None: ...
    def __aenter__(self) -> Awaitable[Self]: ...
    def __aexit__(self, kind: object = None, *_more: object) -> Awaitable[None]: ...

@final
class Subscription:
    """A handler's place on a bus; ``cancel()`` ends it, and so does leaving its ``with`` block."""

    @property
    def name(self) -> str:
        """Its name in books, errors and dead letters."""

    @property
    def pattern(self) -> str:
        """The topics it takes."""

    @property
    def handler(self) -> _Handler:
        """The function that was subscribed."""

    @property
    def status(self) -> Literal["active", "cancelled", "orphaned"]:
        """``orphaned`` when the event loop of its handler has ended."""

    @property
    def queued(self) -> int:
        """How many events wait for it."""

    def books(self) -> Tally:
        """What became of its events, as ``bus.books()`` has it under its name."""

    def cancel(self) -> int:
        """End it; idempotent.

        No handler starts after this returns. Events that waited are booked as dropped.

        Returns:
            How many events were dropped.
        """

    def _retire(self) -> Awaitable[None]: ...
    def _hold(self, held: bool) -> None: ...
    def _drained(self) -> Awaitable[None]: ...
    @property
    def _suspended(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...

@final
class Periodic:
    """A periodic publish; ``cancel()`` ends it, and so does leaving its ``with`` block."""

    @property
    def status(self) -> Literal["active", "cancelled"]:
        """Whether it goes on."""

    def cancel(self) -> None:
        """End it; idempotent."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...

@final
class DeadLetter:
    """One delivery that was given up on, and why."""

    @property
    def id(self) -> int:
        """Its number on its bus, which rises with each dead letter; 0 where it was read from a
        broker."""

    @property
    def name(self) -> str:
        """What it is called in every process; see :attr:`DeadLetters.everywhere`."""

    @property
    def event(self) -> Event:
        """What could not be handled."""

    @property
    def subscription(self) -> str:
        """Whose handler failed."""

    @property
    def component(self) -> str | None:
        """The component the handler belongs to."""

    @property
    def reason(self) -> str:
        """Why it was given up: ``attempts``, ``not_retryable``, ``orphaned``, ..."""

    @property
    def category(self) -> _Category:
        """The category of the last failure."""

    @property
    def error_type(self) -> str:
        """The class of the last exception."""

    @property
    def message(self) -> str:
        """What the last exception said."""

    @property
    def traceback(self) -> str | None:
        """Where the last exception came from; its last 16 KiB."""

    @property
    def attempts(self) -> int:
        """How many attempts were made."""

    @property
    def timestamp(self) -> int:
        """When it was given up, in Unix milliseconds."""

@final
class DeadLettersEverywhere:
    """The dead letters of all processes, as their broker keeps them: the newest 100,000 on Redis,
    one GiB of them on RabbitMQ. In memory, those of the one bus there is.

    A subscription without a group has its dead letters in its own process alone:
    ``bus.dead_letters``.

    Everything here raises :class:`DependencyError` where the broker does not answer, and
    :class:`ConfigurationError` where it keeps them in a way that cannot be read.
    """

    def list(
        self,
        *,
        subscription: str | None = None,
        event_type: str | None = None,
        limit: int = 1000,
    ) -> Awaitable[_DeadLetterList]:
        """Those that are kept, the oldest first.

        Args:
            subscription: Only those of the subscription of this name.
            event_type: Only those of events of this type.
            limit: The most that are listed.
        """

    def list_sync(
        self,
        *,
        subscription: str | None = None,
        event_type: str | None = None,
        limit: int = 1000,
    ) -> _DeadLetterList:
        """:meth:`list` for a plain thread."""

    def replay(
        self,
        names: str | Sequence[str] | None = None,
        *,
        subscription: str | None = None,
        event_type: str | None = None,
    ) -> Awaitable[int]:
        """Have them handled again, each by the group that gave it up and by no other, wherever
        it runs: now, or when one of its members runs again.

        They come behind what waits there already, and their attempts begin anew.

        Args:
            names: The :attr:`~DeadLetter.name` of one, or those of several; ``None`` means all.
            subscription: Only those of the subscription of this name.
            event_type: Only those of events of this type.

        Returns:
            How many are on their way. Those stay whose group is gone, and whose deadline is over.
        """

    def replay_sync(
        self,
        names: str | Sequence[str] | None = None,
        *,
        subscription: str | None = None,
        event_type: str | None = None,
    ) -> int:
        """:meth:`replay` for a plain thread."""

    def purge(
        self,
        names: str | Sequence[str] | None = None,
        *,
        subscription: str | None = None,
        event_type: str | None = None,
    ) -> Awaitable[int]:
        """Throw them away; picked as in :meth:`replay`.

        Returns:
            How many were thrown away.
        """

    def purge_sync(
        self,
        names: str | Sequence[str] | None = None,
        *,
        subscription: str | None = None,
        event_type: str | None = None,
    ) -> int:
        """:meth:`purge` for a plain thread."""

@final
class DeadLetters:
    """What one bus gave up: the newest 10,000."""

    @property
    def everywhere(self) -> DeadLettersEverywhere:
        """What all processes gave up, as the broker keeps it."""

    def list(
        self, *, subscription: str | None = None, event_type: str | None = None
    ) -> _DeadLetterList:
        """Those that are kept, the oldest first.

        Args:
            subscription: Only those of the subscription of this name.
            event_type: Only those of events of this type.
        """

    def show(self, id: int) -> DeadLetter:
        """The one numbered ``id``.

        Raises:
            KeyError: When there is none.
        """

    def replay(
        self,
        ids: int | Sequence[int] | None = None,
        *,
        subscription: str | None = None,
        event_type: str | None = None,
    ) -> int:
        """Deliver them again, each to the subscription that gave it up.

        In the mailbox they come before what is new, in their old order, and their attempts
        begin anew. A subscription that was restarted is known by its name; for one of a group
        that is gone, another member takes them.

        Args:
            ids: The number of one, or those of several; ``None`` means all.
            subscription: Only those of the subscription of this name.
            event_type: Only those of events of this type.

        Returns:
            How many are on their way. Those stay here that nobody takes, whose deadline is over,
            or for which there is no room.
        """

    def purge(
        self,
        ids: int | Sequence[int] | None = None,
        *,
        subscription: str | None = None,
        event_type: str | None = None,
    ) -> int:
        """Throw them away; picked as in :meth:`replay`.

        Returns:
            How many were thrown away.
        """

    def __len__(self) -> int: ...

@final
class Clock:
    """The machine's clock, or one that a test moves; see ``tiebeam.testing``."""

    @staticmethod
    def real() -> Clock:
        """The machine's clock."""

    @staticmethod
    def simulated(start: float = 1_700_000_000.0) -> Clock:
        """A clock that stands still until it is moved.

        Args:
            start: Where it stands first, in Unix seconds.
        """

    @property
    def is_virtual(self) -> bool:
        """Whether a test moves it."""

    def monotonic(self) -> float:
        """Seconds since the clock was made; never steps back."""

    def nanos(self) -> int:
        """Nanoseconds since the clock was made."""

    def unix_ms(self) -> int:
        """Unix time in milliseconds."""

    def next_due(self) -> float | None:
        """When the next timer fires, in seconds as :meth:`monotonic`."""

    def sleep(self, delay: _Duration) -> Awaitable[None]:
        """Wait for ``delay`` seconds."""

    def wait(self, delay: _Duration) -> None:
        """Block this thread for ``delay`` seconds; Ctrl-C ends it.

        A simulated clock is moved on from here, if this is the thread that made it, or that moved
        it last: the test. Any other waits for that one.
        """

    def step(self, until: int) -> bool:
        """Move to the next timer at or before ``until``, and fire it.

        Args:
            until: In nanoseconds since the clock was made.

        Returns:
            ``False``, with the time moved to ``until``, when no timer was due.

        Raises:
            RuntimeError: For a clock that is not simulated.
        """

    def call_at(self, at: float, callback: Callable[[], object]) -> _Timer:
        """Call ``callback`` on the running event loop at ``at``.

        Args:
            at: In seconds as :meth:`monotonic`.
            callback: Takes nothing; what it returns is not looked at.

        Raises:
            RuntimeError: Where no event loop runs.
        """

@final
class _Timer:
    """A timer that waits for its time."""

    def cancel(self) -> None:
        """Never fire; idempotent."""

@disjoint_base
class EventBus:
    """What ``tiebeam.EventBus`` is made on: the bus itself, without Python's sugar."""

    def __new__(
        cls,
        name: str = "bus",
        *,
        capacity: int | None = None,
        overflow: _Overflow | None = None,
        batch_size: int | None = None,
        handler_timeout: _Duration | None = None,
        request_timeout: _Duration | None = None,
        max_payload: int | None = None,
        dedup: bool | Mapping[str, Any] | None = None,
        url: str | None = None,
        prefix: str | None = None,
        outbox: Mapping[str, Any] | None = None,
        claim_idle: _Duration | None = None,
        partitions: int | None = None,
        tls: Mapping[str, Any] | None = None,
        heartbeat: _Duration | None = None,
        mandatory: bool | None = None,
        connect_timeout: _Duration | None = None,
        max_retry: int | None = None,
        retry_delay: _Duration | None = None,
        watchdog: bool | Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
        _view: EventBus | None = None,
    ) -> Self:
        """Make a bus that stands alone.

        Args:
            name: For people; the producer of events published on the bus itself.
            capacity: How many events may wait for one subscription; 10,000.
            overflow: What happens when more come: ``block``. Any but ``sample``, which needs an
                interval of each subscription.
            batch_size: The most events a consumer takes at a time; 100.
            handler_timeout: How long a handler may take; 30 seconds.
            request_timeout: How long a request waits for its reply; 30 seconds.
            max_payload: The largest encoded payload, in bytes; 1 MiB.
            dedup: Whether an event whose id was published before is left out: ``True``, or
                ``{"window": seconds, "size": ids}`` for how long and how many ids are
                remembered; 600 seconds and 100,000. On a broker ids are remembered unless this
                is ``False``.
            url: Where the broker is that carries events between processes, as
                ``redis://localhost:6379/0``; in memory unless given. With TLS: ``rediss://`` and
                ``amqps://``.
            prefix: First part of every name on the broker; ``tiebeam``.
            outbox: What waits to be sent to the broker: ``{"capacity": events, "overflow":
                "block", "fail" or "drop_oldest", "timeout": seconds}``; 10,000, ``block``, 30.
            claim_idle: Silence of a consumer after which others take its events over; 30
                seconds. Redis.
            partitions: Among how many streams the keys of a category are shared out, 1 to 256;
                1. The same number in every process of a prefix. Redis.
            tls: Files in PEM: ``{"ca_file": the CAs that are trusted instead of the system's,
                "cert_file": the certificate that is shown to the broker, "key_file": its key,
                unless it stands in the same file}``. Certificates are always verified.
            heartbeat: RabbitMQ: how often broker and process tell each other that they are
                there, in whole seconds; 5. Who is silent for twice that time is gone.
            mandatory: RabbitMQ: whether an event that no queue takes is an error for its
                publisher, `Unroutable`; ``False``.
            connect_timeout: How long the broker may take to be there when the bus is entered,
                and each step of a connection; 10 seconds.
            max_retry: How often an event that the broker did not take is sent again, and how
                often one comes back that was never settled, before it is a dead letter; 3.
            retry_delay: How long to wait before it is sent again; 1 second.
            watchdog: When a handler is said to be stuck, in seconds of real time:
                ``{"step_limit": on an event loop, "call_limit": on a thread of its own,
                "await_limit": while it is suspended}``; 1, 10 and 10. ``False``: never.
            clock: The machine's, unless a test brings its own.
            seed: Fixes ids and jitter, so that each run is the same.

        Raises:
            ValueError: For a setting that makes no sense.
            ConfigurationError: For a URL, or files, that no broker can be reached with.
        """

    @property
    def name(self) -> str:
        """Its name, and the producer of what is published here."""

    @property
    def closed(self) -> bool:
        """Whether it takes no more events."""

    @property
    def subscriptions(self) -> list[str]:
        """One line for each: its name and its pattern; without the framework's own."""

    @property
    def dead_letters(self) -> DeadLetters:
        """The deliveries that were given up on."""

    @property
    def capabilities(self) -> dict[str, Any]:
        """What can be asked of its subscriptions and publishers, by the transport it is on."""

    @property
    def trouble(self) -> str | None:
        """Why the broker is not there just now; ``None`` if it is, or there is none."""

    @property
    def unsent(self) -> int:
        """How many events wait to be sent to the broker."""

    def ready(self, timeout: _Duration | None = None) -> Awaitable[None]:
        """Wait until the broker answers, and all that was subscribed to by now is read.

        What any process publishes after that arrives. In memory it is so at once.

        Args:
            timeout: The longest wait; 10 seconds.

        Raises:
            DependencyError: When the broker is not there in time.
            ConfigurationError: When it refuses this user.
            DuplicateHandler: When another process handles a command of this one.
        """

    def _wipe(self) -> Awaitable[None]: ...
    def ready_sync(self, timeout: _Duration | None = None) -> None:
        """:meth:`ready` for a plain thread."""

    def publish(
        self,
        event_type: object,
        payload: object = None,
        /,
        *,
        key: str | None = None,
        priority: _Priority | None = None,
        correlation_id: str | None = None,
        deadline: _Duration | None = None,
        delay: _Duration | None = None,
        version: int | None = None,
        metadata: dict[str, Any] | None = None,
        event_id: str | None = None,
    ) -> Receipt:
        """Tell everybody who wants to know.

        The payload is encoded at once: what the caller changes later, nobody sees. Published
        while an event is handled, the new one inherits its correlation and causation.

        Args:
            event_type: A topic: segments of ``a-z 0-9 _``, separated by dots. Or, without a
                payload, an instance of a class that has an event type.
            payload: What JSON can say, and the documented encodings; ``None`` is ``{}``.
            key: What it is about; the order of events with one key is kept.
            priority: ``normal`` unless given.
            correlation_id: The parent's, or the event's own id, unless given.
            deadline: Seconds from now after which nobody wants it; the parent's, if sooner.
            delay: Seconds from now at which to publish it.
            version: The version of the payload's form: 1, or that of the instance's class.
            metadata: Keys of your own, at most 8 KiB; kept on the way.
            event_id: The event's id, at most 256 bytes; a new one unless given. On a bus with
                ``dedup`` a second event of the same id goes nowhere: whoever is not sure that
                a publish came through may repeat it.

        Returns:
            A receipt, to be awaited or waited for; it need not be where room is certain.

        Raises:
            TopicError: For a malformed topic, or a pattern.
            TypeError: For what is no topic and no typed event.
            PayloadError: For a value that cannot be sent; names its path.
            MailboxFull: When a mailbox with ``fail`` is full; also with ``block``, where the
                receipt is thrown away, so that nobody could wait.
            ClosedError: When the bus is closed.
            ForkedProcessError: In a child of the process that made the bus.
        """

    def request(
        self,
        event_type: object,
        payload: object = None,
        /,
        *,
        timeout: _Duration | None = None,
        n: int | None = None,
        quorum: int | None = None,
        key: str | None = None,
        priority: _Priority | None = None,
        correlation_id: str | None = None,
        version: int | None = None,
        metadata: dict[str, Any] | None = None,
        event_id: str | None = None,
    ) -> PendingReply:
        """Ask, and get an answer: ``await bus.request(...)``.

        Args:
            event_type: The topic of the question.
            payload: As in :meth:`publish`.
            timeout: How long to wait, in seconds; the bus's ``request_timeout`` unless given.
                It is also the deadline of the request, and of what it causes.
            n: Ask every responder, and wait for the first ``n`` replies; they come as a list,
                in the order of arrival.
            quorum: With ``n``: how many replies are enough when no more come in time; ``n``
                unless given.
            key: As in :meth:`publish`.
            priority: As in :meth:`publish`.
            correlation_id: As in :meth:`publish`.
            version: As in :meth:`publish`.
            metadata: As in :meth:`publish`.
            event_id: As in :meth:`publish`; a second request of the same id is refused.

        Returns:
            The reply to come: await it, or ``wait()`` for it in a thread.

        Raises:
            NoResponder: When nobody responds to ``event_type``, or fewer than ``n`` do; at once.
            ConfigurationError: For an ``n`` of 0, or a ``quorum`` beyond it.
            ValueError: For a ``quorum`` without ``n``.
            TopicError, PayloadError, ClosedError, ForkedProcessError: As in :meth:`publish`.
        """

    def send(
        self,
        event_type: object,
        payload: object = None,
        /,
        *,
        key: str | None = None,
        priority: _Priority | None = None,
        correlation_id: str | None = None,
        deadline: _Duration | None = None,
        version: int | None = None,
        metadata: dict[str, Any] | None = None,
        event_id: str | None = None,
    ) -> Receipt:
        """Send a command to its one handler.

        Takes and returns what :meth:`publish` does, without ``delay``.

        Raises:
            NoHandler: When nobody handles ``event_type``.
            MailboxFull, TopicError, PayloadError, ClosedError, ForkedProcessError: As in
                :meth:`publish`.
        """

    def every(self, seconds: _Duration, event_type: object, payload: object = None, /) -> Periodic:
        """Publish the same thing again and again, ``seconds`` apart.

        Returns:
            A handle; ``cancel()`` ends it.

        Raises:
            ConfigurationError: For a period of zero.
            TopicError, PayloadError, ClosedError: As in :meth:`publish`.
        """

    def drain(self) -> Awaitable[None]:
        """Wait until nothing is queued, handled, or due for another attempt."""

    def drain_sync(self, timeout: _Duration | None = None) -> None:
        """:meth:`drain` for a plain thread.

        Args:
            timeout: The longest wait, in seconds of real time; ``None`` waits for ever.

        Raises:
            TimeoutExceeded: After ``timeout``.
            WouldDeadlock: On the thread whose event loop is to handle what is in flight.
        """

    def close(self, grace: _Duration = ...) -> Awaitable[list[tuple[str, int]]]:
        """Refuse new events, wait for those in flight, and end every subscription; idempotent.

        Args:
            grace: The longest wait for what is in flight, in seconds; 15 unless given.

        Returns:
            What was left, as pairs of a subscription's name and a number of events.
        """

    def close_sync(self, grace: _Duration = ...) -> list[tuple[str, int]]:
        """:meth:`close` for a plain thread.

        Args:
            grace: As of :meth:`close`; 0 waits for nothing.

        Returns:
            As :meth:`close`.

        Raises:
            WouldDeadlock: On the thread whose event loop is to handle what is in flight, unless
                ``grace`` is 0. The bus stays open.
        """

    def _subscribe(
        self, pattern: str, handler: _Handler, /, **how: Any
    ) -> Subscription: ...  # what `tiebeam._options` has let through
    def _respond(self, event_type: str, handler: _Handler, /, **how: Any) -> Subscription: ...
    def _handle(self, event_type: str, handler: _Handler, /, **how: Any) -> Subscription: ...
    def _wait_for(
        self,
        pattern: str,
        /,
        *,
        where: Mapping[str, _Literal] | str | None = None,
        timeout: _Duration | None = None,
    ) -> PendingEvent: ...
    def _stream(
        self,
        pattern: str,
        /,
        *,
        name: str | None = None,
        where: Mapping[str, _Literal] | str | None = None,
        capacity: int | None = None,
        overflow: _Overflow | None = None,
    ) -> Stream: ...
    def _books(self, internal: bool) -> dict[str, Any]: ...
    def _explain(self, event_type: str, internal: bool) -> dict[str, Any]: ...

@final
class ConfigProposal:
    """A valid configuration that is not in force yet: whoever is concerned can be asked first."""

    @property
    def changes(self) -> list[tuple[str, Any, Any]]:
        """The paths that it changes, each with the old and the new value."""

    def components(self) -> list[dict[str, Any]]:
        """The components as they would be, as :meth:`ConfigStore.components`."""

    def place(self, path: str) -> str | None:
        """The place of the value that would decide."""

@final
class ConfigStore:
    """What ``tiebeam.Configuration`` is made on: the current revision, and those before."""

    def __new__(
        cls,
        paths: Sequence[str],
        *,
        values: dict[str, Any] | None = None,
        set: Sequence[str] = ...,
        environ: dict[str, str] = ...,
        known_components: Sequence[str] = ...,
        sources: Sequence[tuple[str, Callable[[], Mapping[str, Any]]]] = ...,
        clock: Clock | None = None,
    ) -> Self:
        """Load everything once; :class:`tiebeam.Configuration` says what the arguments mean.

        Raises:
            ConfigurationError: Listing every problem with file, line, path and rule.
        """

    @property
    def revision(self) -> int:
        """The number of the revision in force; it rises with each change."""

    def get(self, path: str) -> Any:
        """The value at a dotted path.

        Raises:
            KeyError: When there is none.
        """

    def __contains__(self, path: str, /) -> bool:
        """Whether a value stands at a dotted path."""

    def explain(self, path: str) -> str | None:
        """Where the value at a path comes from, strongest source first; ``None`` without one."""

    def place(self, path: str) -> str | None:
        """The place of the value that decided, such as ``config/system.yaml:3``."""

    def components(self) -> list[dict[str, Any]]:
        """The components in the order of declaration, each with ``name``, ``path``, ``group``,
        ``enabled``, ``class`` and ``config``."""

    def policies(self) -> dict[str, dict[str, Any]]:
        """The named policies: what was said of each stage, durations in seconds."""

    def warnings(self) -> list[str]:
        """Problems that are no errors, one line each."""

    def to_dict(self) -> Any:
        """Everything, with secrets masked."""

    def propose(self, changes: dict[str, Any]) -> ConfigProposal:
        """What setting values by path would change, above every other source.

        Raises:
            ConfigurationError: Listing everything that the new values violate.
        """

    def propose_rollback(self, revision: int) -> ConfigProposal:
        """What going back to an earlier revision would change.

        Raises:
            ConfigurationError: For a revision that is not, or no longer, in the history.
        """

    def propose_reload(self) -> ConfigProposal:
        """What reading all sources again would change.

        Raises:
            ConfigurationError: Listing every problem with file, line, path and rule.
        """

    def commit(self, proposal: ConfigProposal, author: str) -> None:
        """Put a proposal in force; one that changes nothing makes no revision.

        Raises:
            ConfigurationError: When another revision came in force since it was proposed.
        """

    def history(self) -> list[dict[str, Any]]:
        """The last 20 revisions, oldest first: ``revision``, ``timestamp``, ``author``,
        ``rollback_of`` and the paths ``changed``."""

    def files(self) -> list[Path]:
        """Every file that was read, and overlays that may appear."""

    @staticmethod
    def check_schema(schema: object, value: object) -> list[tuple[str, str]]:
        """The problems of ``value`` by a JSON Schema: pairs of JSON pointer and message.

        Raises:
            PayloadError: For what JSON cannot say.
        """

    @staticmethod
    def redact(path: str, value: object) -> Any:
        """``value`` as it may be shown under ``path``: secrets masked."""

@final
class _HookWatch:
    """What a hook that is called tells the watchdog of itself."""

    def call(self) -> None:
        """It is called on this thread, which is its own."""

    def step(self) -> None:
        """Its coroutine is about to take a step on the running loop."""

    def suspend(self, task: Any, coroutine: Any) -> None:
        """It waits for something: ``coroutine``, in ``task``."""

    def end(self) -> None:
        """It has ended."""

@final
class Framework:
    """What ``tiebeam.Framework`` is made on: the composition root of one system."""

    def __new__(
        cls,
        config: ConfigStore,
        *,
        clock: Clock | None = None,
        elsewhere: list[tuple[str, list[str]]] = ...,
        host: str = "",
    ) -> Self:
        """Put the core of a system together; nothing runs yet.

        Args:
            config: What it was told.
            clock: The clock to live by; the machine's if left out.
            elsewhere: The components that run in other processes, each with its groups.
            host: What this machine is called.

        Raises:
            ConfigurationError: For settings that do not go together.
        """

    @property
    def state(self) -> Literal["created", "starting", "running", "stopping", "stopped"]:
        """What it does now."""

    @property
    def components(self) -> list[str]:
        """The names of all components, in the order of registration."""

    def _watch_hook(
        self, component: str, name: str, function: Callable[..., Any]
    ) -> _HookWatch | None:
        """Has the watchdog watch a call of a component's hook; ``None`` where it is off."""

    @property
    def _service_timeout(self) -> float: ...
    @property
    def _reload_interval(self) -> float | None: ...
    @property
    def _fallbacks(self) -> bool: ...
    def _show_breakers(self, breakers: list[tuple[str, _Breaker]]) -> None: ...
    def _bus(self) -> EventBus: ...
    def _open_logs(self) -> None: ...
    def _close_logs(self) -> None: ...
    def _register(self, host: object) -> EventBus | None: ...
    def _start(self) -> Awaitable[dict[str, Any]]: ...
    def _stop(self) -> Awaitable[dict[str, Any]]: ...
    def _take_back(self) -> Awaitable[None]: ...
    def _command(self, what: str, name: str) -> Awaitable[None]: ...
    def _finished(self, name: str, why: str) -> bool: ...
    def _failed(self, name: str, error: BaseException) -> bool: ...
    def _told_of_change(self, name: str, path: str) -> None: ...
    def _why(self, name: str) -> dict[str, Any]: ...
    def _use_config(self, config: ConfigStore) -> None: ...
    @property
    def _health_url(self) -> str | None: ...
    def _health(self) -> Any: ...
    def _health_json(self) -> dict[str, Any]: ...
    def _metrics(self, openmetrics: bool) -> str: ...
    def _add_check(
        self, component: str, check: object, ttl: _Duration | None, replaces: bool
    ) -> None: ...
    def _remove_check(self, component: str, name: str) -> None: ...
    def _report_check(self, component: str, name: str, answer: object) -> None: ...
    def _health_history(self, name: str) -> dict[str, Any]: ...
    def _check_now(self, name: str) -> Awaitable[Any]: ...
    @property
    def _instance(self) -> str: ...
    def _services(self) -> list[dict[str, Any]]: ...
    def _ask(
        self, instance: str, component: str, what: str, timeout: _Duration
    ) -> Awaitable[Any]: ...
    def _status(self, name: str) -> dict[str, Any]: ...
    def _start_order(self) -> list[str]: ...
    def _graph(self, form: str) -> str: ...

def _begin_activity() -> None:
    """Something begins on a thread that the core did not start."""

def _join_activity() -> None:
    """What this thread does is counted by whoever started it."""

def _end_activity() -> None:
    """It has ended."""

def _check_options(role: str, is_async: bool, /, **how: Any) -> None:
    """Refuse options that no bus would take, with the reason that a bus would give."""

def _log(level: int, target: str, message: str, fields: dict[str, Any]) -> bool:
    """Write one record of Python's ``logging``; returns whether anybody wants it."""

def _busy() -> int:
    """How many things are under way outside the event loops."""

def _watch_activity(on: bool) -> None:
    """Have the running loop woken when nothing is under way any more."""

def _panic(message: str) -> None:
    """Panic as a bug in the core would, so that tests see what becomes of that."""

def _matches(pattern: str, topic: str) -> bool:
    """Whether a pattern matches a topic, by the rules of the bus.

    Raises:
        TopicError: When either is malformed.
    """

def _seconds(value: _Duration, name: str = "value", /) -> float:
    """One duration in seconds, by the rules of all arguments.

    Raises:
        TypeError: For what is neither a number nor a ``timedelta``.
        ValueError: For a negative or endless one.
    """

@final
class Backoff:
    """How long to wait before each further attempt: a curve, a cap, a jitter.

    Delays are in seconds (or timedeltas); attempt 1 is the wait after the first failure. Each
    constructor takes, beside its own arguments, ``max_delay``, ``min_delay``, ``jitter``
    (``"full"``, the default, ``"none"``, ``"equal"``, ``"factor"`` or ``"down"``, the latter two
    with ``jitter_amount``, 0 to 1) and ``max_server_delay``, the longest wait that a server's hint
    may ask for.

    With ``c`` the wait after the cap and ``R`` uniform in [0, 1): ``full`` is ``R * c``, ``equal``
    is ``c/2 + R * c/2``, ``factor`` is ``c * (1 - a + 2aR)``, never above the cap unless
    ``hard_cap=False``, ``down`` is ``c * (1 - aR)`` (AWS Architecture Blog, "Exponential Backoff
    And Jitter").
    """

    @staticmethod
    def constant(delay: _Duration, **options: Any) -> Backoff:
        """Always ``delay``."""

    @staticmethod
    def linear(initial_delay: _Duration, increment: float, **options: Any) -> Backoff:
        """``increment`` seconds more each time; a negative one shrinks the wait to zero."""

    @staticmethod
    def exponential(initial_delay: _Duration, multiplier: float = 2.0, **options: Any) -> Backoff:
        """``multiplier`` times longer each time."""

    @staticmethod
    def fibonacci(initial_delay: _Duration, **options: Any) -> Backoff:
        """1, 1, 2, 3, 5, ... times ``initial_delay``."""

    @staticmethod
    def sequence(delays: Sequence[_Duration], **options: Any) -> Backoff:
        """These waits in turn, the last one for ever."""

    @staticmethod
    def decorrelated(initial_delay: _Duration, **options: Any) -> Backoff:
        """Between ``initial_delay`` and three times the wait before; random in itself (AWS)."""

    @staticmethod
    def smooth(initial_delay: _Duration, **options: Any) -> Backoff:
        """Doubling around ``initial_delay``, smoothly spread; random in itself (Polly V2)."""

    @staticmethod
    def geometric(
        initial_delay: _Duration, max_delay: _Duration, steps: int, **options: Any
    ) -> Backoff:
        """From ``initial_delay`` to ``max_delay`` in ``steps`` equal ratios (systemd)."""

    def delays(
        self, count: int, *, seed: int | None = None, random: float | None = None
    ) -> list[float | None]:
        """The first ``count`` waits in seconds; ``None`` for one that outgrew all bounds.

        Args:
            count: How many.
            seed: Repeats them.
            random: What every draw returns: 0 for the lower edge of a jitter, 1 for the upper.
        """

    def delay(
        self,
        attempt: int,
        *,
        hint: _Duration | None = None,
        seed: int | None = None,
        random: float | None = None,
    ) -> float | None:
        """The wait after failure number ``attempt``, in seconds.

        Args:
            attempt: From 1.
            hint: What a server asked for.
            seed: As for :meth:`delays`.
            random: As for :meth:`delays`.
        """

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class RetryBudget:
    """How many retries all callers of one dependency get together, shared by retries and hedges.

    Give the same budget to every policy that calls the same dependency.
    """

    @staticmethod
    def token(
        ratio: float = 0.2,
        min_per_second: int = 10,
        ttl: _Duration | None = None,
        *,
        clock: Clock | None = None,
    ) -> RetryBudget:
        """Finagle's rule: calls pay for retries.

        Args:
            ratio: Retries per call, 0 to 1000.
            min_per_second: Retries that need no calls.
            ttl: How long what was paid counts, in seconds, 1 to 60; 10.
            clock: The clock it goes by; the process's unless given.

        Raises:
            ConfigurationError: For a figure outside of its range.
        """

    @staticmethod
    def throttle(
        max_tokens: float = 10.0, token_ratio: float = 0.1, *, clock: Clock | None = None
    ) -> RetryBudget:
        """gRPC's rule (A6): a failure takes a token, and there are retries while more than half
        are left.

        Args:
            max_tokens: Tokens at most, and at first.
            token_ratio: What a success gives back.
            clock: As for :meth:`token`.

        Raises:
            ConfigurationError: As for :meth:`token`.
        """

    @staticmethod
    def concurrency(
        ratio: float = 0.2, min_concurrency: int = 3, *, clock: Clock | None = None
    ) -> RetryBudget:
        """Envoy's rule: a share of the calls under way may be retries, waiting ones included.

        Args:
            ratio: Retries per call under way, 0 to 1.
            min_concurrency: So many in any case.
            clock: As for :meth:`token`.

        Raises:
            ConfigurationError: As for :meth:`token`.
        """

    @staticmethod
    def adaptive(
        target: float = 0.9,
        threshold: int = 10,
        window: _Duration | None = None,
        *,
        clock: Clock | None = None,
        seed: int | None = None,
    ) -> RetryBudget:
        """Google SRE's rule ("Handling Overload"): a retry is refused with the probability
        ``(calls - ok / target) / (calls + 1)``, at most 0.9.

        Args:
            target: The share of successes that is good enough, above 0 to 1.
            threshold: Nothing is refused with fewer calls in the window.
            window: How long outcomes count, in seconds; 120.
            clock: As for :meth:`token`.
            seed: Refuses the same retries again.

        Raises:
            ConfigurationError: As for :meth:`token`.
        """

    @property
    def balance(self) -> float:
        """What is left: retries (token, concurrency), tokens (throttle), or the probability that
        a retry is granted (adaptive)."""

    def enter(self) -> _BudgetedCall:
        """A call begins, of code that counts its attempts itself."""

    def resume(self) -> _BudgetedCall:
        """A further part of a call that has entered already."""

@final
class _BudgetedCall:
    def retry(self) -> bool:
        """Ask for one retry, and pay for it."""

    def succeeded(self) -> None:
        """An attempt succeeded."""

    def failed(self) -> None:
        """An attempt failed in a way that could be retried."""

    def end(self) -> None:
        """The call is over."""

_TIME_IS_UP: str
"""What the cancellation says of a task whose time limit has passed."""

@final
class _Breaker:
    def __new__(
        cls, name: str, options: dict[str, Any], clock: Clock | None = None
    ) -> _Breaker: ...
    def enter(self) -> Any: ...
    def passed(self, permit: Any) -> None: ...
    def failed(self, permit: Any, error: str) -> None: ...
    def given_back(self, permit: Any, abandoned: bool) -> None: ...
    def observe(self, callback: Callable[[str, dict[str, Any]], object]) -> None: ...
    @property
    def state(self) -> str: ...
    @property
    def retry_after(self) -> float | None: ...
    def force(self, state: str, wait: _Duration | None = None) -> None: ...
    def reset(self) -> None: ...
    def metrics(self) -> dict[str, Any]: ...

@final
class _Ticket: ...

@final
class _Retry:
    def __new__(
        cls,
        options: dict[str, Any],
        backoff: Backoff | None = None,
        budget: RetryBudget | None = None,
        limit: _Duration | None = None,
        clock: Clock | None = None,
    ) -> _Retry: ...
    @property
    def follows(self) -> bool: ...
    def begin(self) -> Any: ...
    def run(self, begun: Any) -> _RetryRun | None: ...

@final
class _RetryRun:
    def failed(
        self,
        error: BaseException | None,
        *,
        retryable: bool | None = None,
        circuit_open: bool = False,
        hint: float | None = None,
    ) -> float | str: ...
    def succeeded(self) -> None: ...
    def end(self) -> None: ...
    @property
    def attempt(self) -> int: ...

@final
class _Bulkhead:
    def __new__(
        cls,
        name: str,
        max_concurrent: int,
        max_waiting: int,
        max_wait: _Duration | None = None,
        clock: Clock | None = None,
    ) -> _Bulkhead: ...
    def enter(self) -> bool | None: ...
    def arrive(self) -> Awaitable[bool]: ...
    def arrive_sync(self) -> bool: ...
    def leave(self) -> None: ...
    @property
    def load(self) -> tuple[int, int]: ...

@final
class _Limiter:
    def __new__(
        cls,
        name: str,
        limit: int,
        period: _Duration,
        max_wait: _Duration | None = None,
        clock: Clock | None = None,
    ) -> _Limiter: ...
    def enter(self, permits: int | None = None) -> float: ...
    def reserve(self) -> _Reservation | None: ...
    def wait_for(self, permits: int | None = None) -> float: ...
    @property
    def available(self) -> int: ...

@final
class _Reservation:
    @property
    def wait(self) -> float: ...
    def give_back(self) -> None: ...

@final
class _TimeLimit:
    def __new__(
        cls,
        name: str | None,
        limit: _Duration,
        told: Callable[[str], object],
        clock: Clock | None = None,
    ) -> _TimeLimit: ...
    def bound(self, coroutine: Awaitable[Any]) -> Awaitable[Any]: ...
    def open(self) -> _Opened | None: ...
    def exceeded(self, what: str) -> BaseException: ...

@final
class _Opened:
    def close(self, error: BaseException | None = None) -> bool: ...

@final
class _Bounded:
    def __await__(self) -> Any: ...
    def __iter__(self) -> Any: ...
    def __next__(self) -> Any: ...
    def send(self, _value: Any) -> Any: ...
    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any: ...
    def close(self) -> None: ...

@final
class _Apart:
    def __new__(cls) -> _Apart: ...
    def begin(self) -> None: ...
    def leave_behind(self, error: str) -> None: ...

@final
class _Handover:
    def __new__(cls) -> _Handover: ...
    def set(self) -> None: ...
    def wait(self, clock: Clock, limit: _Duration) -> bool: ...

def _left_behind() -> bool:
    """Whether the time limit around what this thread is at is over."""

def _process_clock() -> Clock:
    """The clock of everything that is not given one."""

def _stand_in(clock: Clock | None) -> Clock | None:
    """Have that clock go as ``clock`` does, or as the machine's again.

    Returns:
        The simulated clock it went by before, if it was one.
    """

def _time_is_up() -> bool:
    """Whether the time of the running task is up, and that has cancelled it."""

def _resilience_active() -> bool:
    """Whether stages do what they are for."""

def _set_resilience(active: bool) -> bool:
    """Switch them on or off; returns what it was."""

@final
class Slo:
    """A service-level objective: how much of its error budget is left, and how fast it goes.

    With a target of 0.999 a thousandth of all events may be bad over the period. The burn rate
    says how many times faster than that they are: at 1 the budget lasts exactly the period
    (Google, "The Site Reliability Workbook", chapter 5).

    >>> orders = Slo(0.999)
    >>> orders.record(good=99, bad=1)
    >>> orders.alert
    'page'
    """

    def __new__(
        cls,
        target: float,
        *,
        period: _Duration | None = None,
        min_events: int = 1,
        clock: Clock | None = None,
    ) -> Slo:
        """Set an objective.

        Args:
            target: The share of events that is to be good, above 0.931 (or no burn rate would be
                a ``page``) and below 1.
            period: Over how many seconds, 3 to 366 days; 30 days.
            min_events: A window with fewer says nothing.
            clock: The clock it goes by; the process's unless given.

        Raises:
            ConfigurationError: For figures outside of their range.
        """

    @property
    def target(self) -> float:
        """The share of events that is to be good."""

    @property
    def period(self) -> float:
        """Over how many seconds."""

    def record(self, good: int = 1, bad: int = 0) -> None:
        """So many good and bad events happened."""

    def ratio(self, window: _Duration) -> float | None:
        """The share of bad events in one of the windows of the alerts, or in the period.

        Args:
            window: Seconds: 5 or 30 minutes, 1 or 6 hours, 3 days, or the period.

        Returns:
            ``None`` below ``min_events``, and for another window.
        """

    def burn(self, window: _Duration) -> float | None:
        """How fast the budget goes in such a window; ``None`` as for :meth:`ratio`."""

    @property
    def alert(self) -> Literal["page", "ticket"] | None:
        """The loudest alert at present.

        ``page`` at 14.4 times over the last hour and the last 5 minutes, or 6 times over 6 hours
        and 30 minutes; ``ticket`` at 1 time over 3 days and 6 hours. Both windows of a pair must
        exceed the rate.
        """

    @property
    def remaining(self) -> float:
        """The share of this period's budget that is left; below zero when it is overdrawn."""

    def consumed(self, burn: float, window: _Duration) -> float:
        """The share of the whole budget that so many seconds at this rate use up."""

    def lasts(self, burn: float) -> float | None:
        """For how many seconds a full budget lasts at this rate; ``None`` for ever."""

def _aggregate(verdicts: Sequence[str], order: Sequence[str] | None = None) -> str:
    """The worst of some verdicts, or the first in ``order``."""

def _http_status(verdict: str) -> int:
    """The HTTP status of an endpoint that says this."""

def _verdict(name: str) -> str | None:
    """The verdict of a name; ``None`` for what is none."""
