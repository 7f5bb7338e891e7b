"""What buses and handlers may be told, by keyword, and what is refused of it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from datetime import timedelta
from os import PathLike
from typing import Any, Literal, TypedDict

from tiebeam import _core
from tiebeam._core import Backoff, Clock
from tiebeam.exceptions import ConfigurationError

__all__ = [
    "BusOptions",
    "HandleOptions",
    "RespondOptions",
    "RetryOptions",
    "SubscribeOptions",
    "check",
    "check_bus",
    "check_values",
]

Handler = Callable[[Any], Any]
Duration = float | timedelta


class RetryOptions(TypedDict, total=False):
    """How a failed handler is called again; what is left out is the bus's default."""

    max_attempts: int
    """How often the handler is called at most, the first call included."""
    initial_delay: Duration
    """Seconds before the second attempt; 0.1."""
    multiplier: float
    """By how much the delay grows from one attempt to the next; 2."""
    max_delay: Duration
    """Where the delay stops to grow, in seconds; 10, or ``initial_delay`` if that is longer."""
    jitter: Literal["none", "full", "equal"]
    """``full`` waits between nothing and the delay, ``equal`` between half of it and all."""
    backoff: Backoff
    """The waits, where they are not an exponential; instead of the four above."""


class RespondOptions(TypedDict, total=False):
    """What ``respond`` takes beside the handler."""

    name: str
    """For books, errors and dead letters; the function's own name unless given."""
    concurrency: int
    """How many events at once; 1 keeps their order, more keep it for each key."""
    run_in: Literal["loop", "thread", "inline"]
    """Where the handler runs: ``loop``, the running one (always for ``async def``); ``thread``
    (unless given for ``def``); ``inline``, inside ``publish``, before it returns."""
    timeout: Duration
    """How long one call may take, in seconds; the bus's ``handler_timeout`` unless given."""


class HandleOptions(TypedDict, total=False):
    """What ``handle`` takes beside the handler."""

    name: str
    """As in :class:`RespondOptions`."""
    retry: bool | int | RetryOptions
    """As in :class:`SubscribeOptions`."""
    run_in: Literal["loop", "thread", "inline"]
    """As in :class:`RespondOptions`."""
    timeout: Duration
    """As in :class:`RespondOptions`."""


class SubscribeOptions(RespondOptions, total=False):
    """What ``subscribe`` takes beside the handler."""

    where: Mapping[str, str | int | float | bool | None] | str
    """Which events to take, decided before Python wakes: paths and the values they must have,
    ``{"payload.symbol": "BTCUSDT"}``, or an expression, ``"payload.price >= 100 and
    payload.symbol in ['BTCUSDT', 'ETHUSDT']"``."""
    key: str
    """The path of the value whose events keep their order among themselves, such as
    ``"payload.symbol"``; the ``key`` an event was published with unless given. With
    ``concurrency`` above 1 events of one key run one after the other, and keys side by side."""
    capacity: int
    """How many events may wait in the mailbox; the bus's unless given."""
    overflow: Literal["block", "drop_oldest", "drop_newest", "fail", "latest", "sample"]
    """What happens when more come; the bus's unless given. ``latest``: of each type and key only
    the newest event waits. ``sample``: the same, and one of them is handled in each interval."""
    sample_interval: Duration
    """For ``overflow="sample"``: the seconds in which at most one event of each type and key is
    handled. The first goes at once; of those that come before the interval is over, the last."""
    group: str
    """Subscriptions of one group share their events: each goes to one of those whose pattern and
    ``where`` take it. By its key it is always the same one, else the next in turn that has room.
    What waits at a member that ends goes to the others."""
    broadcast: bool
    """``True``: every event, whatever others get. So it is without ``group``; a component's
    handler has the group ``component.handler``, which replicas of the component share."""
    start: str | int
    """Where a new group begins: ``now``; on a broker that keeps events also ``first``, or a time in
    Unix milliseconds."""
    ack: Literal["ack_first", "ack", "reject_on_error", "nack_on_error", "manual"]
    """When an event counts as done, and what a failure means. ``nack_on_error``, unless given:
    the event is tried again, and is a dead letter in the end. ``reject_on_error``: it is a dead
    letter at once. ``ack``: it is done however the handler ended. ``ack_first``: it is done
    before the handler runs. ``manual``: the handler calls ``event.ack()``, ``event.nack()`` or
    ``event.reject()``, at once or later."""
    retry: bool | int | RetryOptions
    """``False``, a number of attempts, or :class:`RetryOptions`; 3 attempts unless given."""
    fallback: Handler
    """Called with the event after the last failure; its success settles the event."""


class DedupOptions(TypedDict, total=False):
    """How long, and how many, ids are remembered."""

    window: Duration
    """Seconds after an event in which a second one with its id is a duplicate; 600."""
    size: int
    """How many ids are remembered; beyond it, the oldest is forgotten; 100,000."""


class OutboxOptions(TypedDict, total=False):
    """What waits to be sent to a broker."""

    capacity: int
    """How many events; 10,000 unless given."""
    overflow: Literal["block", "fail", "drop_oldest"]
    """What happens to more; ``block`` unless given."""
    timeout: Duration
    """The longest wait of an event to be taken by the broker, in seconds; 30 unless given."""


class WatchdogOptions(TypedDict, total=False):
    """When a handler is said to be stuck, in seconds of real time."""

    step_limit: Duration
    """The longest step on an event loop; 1 unless given."""
    call_limit: Duration
    """The longest run on a thread of its own; 10 unless given."""
    await_limit: Duration
    """The longest suspension of an async handler; 10 unless given."""


class TlsOptions(TypedDict, total=False):
    """Files that TLS to a broker needs beside what the system trusts, in PEM."""

    ca_file: str | PathLike[str] | None
    """The CAs that are trusted instead of the system's."""
    cert_file: str | PathLike[str] | None
    """The certificate that is shown to the broker."""
    key_file: str | PathLike[str] | None
    """Its key; in ``cert_file``, too, unless given."""


class BusOptions(TypedDict, total=False):
    """What a bus takes beside its name, ``middleware`` and ``upcasters``."""

    capacity: int
    """How many events may wait for one subscription; 10,000 unless given."""
    overflow: Literal["block", "drop_oldest", "drop_newest", "fail", "latest"]
    """What happens when more come; ``block`` unless given."""
    batch_size: int
    """The most events a consumer takes at a time; 100 unless given."""
    handler_timeout: Duration
    """How long a handler may take, in seconds; 30 unless given."""
    request_timeout: Duration
    """How long a request waits for its reply, in seconds; 30 unless given."""
    max_payload: int
    """The largest encoded payload, in bytes; 1 MiB unless given."""
    dedup: bool | DedupOptions
    """Whether an event whose id was published before goes nowhere; ``False`` unless given."""
    url: str | None
    """Where the broker is that carries events between processes; in memory unless given."""
    prefix: str | None
    """First part of every name on the broker; ``tiebeam`` unless given."""
    outbox: OutboxOptions | None
    """What waits to be sent to the broker."""
    claim_idle: Duration | None
    """Silence of a consumer after which others take its events over, in seconds; 30. Redis."""
    partitions: int | None
    """Among how many streams the keys of a category are shared out, 1 to 256; 1. Redis."""
    tls: TlsOptions | None
    """What TLS to the broker needs beside what the system trusts."""
    heartbeat: Duration | None
    """RabbitMQ: time between two signs of life, in whole seconds; 5."""
    mandatory: bool | None
    """RabbitMQ: whether an event that no queue takes is an error, ``Unroutable``; ``False``."""
    connect_timeout: Duration | None
    """How long the broker may take to be there, in seconds; 10 unless given."""
    max_retry: int | None
    """How often an event that the broker did not take is sent again, and one comes back that was
    never settled; 3 unless given."""
    retry_delay: Duration | None
    """How long to wait before it is sent again, in seconds; 1 unless given."""
    watchdog: bool | WatchdogOptions
    """When a handler is said to be stuck; ``False``: never."""
    clock: Clock | None
    """The machine's, unless a test brings its own."""
    seed: int | None
    """Fixes ids and jitter, so that each run is the same."""


_COUNTS = ("concurrency", "capacity", "batch_size", "max_payload")
_TEXTS = ("name", "key", "overflow", "group", "ack", "run_in")
_KINDS: dict[str, type] = {
    "subscribe": SubscribeOptions,
    "once": SubscribeOptions,
    "respond": RespondOptions,
    "handle": HandleOptions,
    "command": HandleOptions,
}


def check(method: str, given: Mapping[str, Any], *, sign: str = "") -> None:
    """Refuse options that ``method`` does not have, and values that are none of theirs.

    What only the core can tell, it tells when it is given them.

    Args:
        method: ``subscribe``, ``once``, ``respond``, ``handle`` or ``command``.
        given: The options.
        sign: What stands before the method's name where it is written.

    Raises:
        TypeError: For an unknown option, or a value of the wrong type.
        ConfigurationError: For a value that makes no sense.
    """
    known = sorted(_KINDS[method].__annotations__)
    for option in given:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(known)}"
            raise TypeError(f"{sign}{method} has no option `{option}`; {hint}")
    check_values(given)


def check_bus(name: object, given: Mapping[str, Any]) -> None:
    """The same for what a bus is made with.

    Raises:
        TypeError, ConfigurationError: As :func:`check`.
    """
    known = sorted(BusOptions.__annotations__)
    for option in given:
        if option not in known:
            near = difflib.get_close_matches(option, [*known, "middleware", "upcasters"], n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(known)}"
            raise TypeError(f"EventBus has no option `{option}`; {hint}")
    check_values({"name": name, **given})
    for option in ("handler_timeout", "request_timeout"):
        limit = given.get(option)
        if limit is not None and _core._seconds(limit, option) == 0:
            raise ConfigurationError(f"{option} must be above zero: no {option[:7]} takes no time")


def check_values(given: Mapping[str, Any]) -> None:
    """Refuse counts that count nothing, and what is to be text and is none.

    Raises:
        TypeError, ConfigurationError: As :func:`check`.
    """
    for option in _COUNTS:
        count = given.get(option)
        if count is None:
            continue
        if not isinstance(count, int) or isinstance(count, bool):
            raise TypeError(f"{option} is a whole number, got {type(count).__name__} {count!r}")
        if count < 1:
            raise ConfigurationError(f"{option} must be at least 1, got {count}")
    for option in _TEXTS:
        text = given.get(option)
        if text is not None and not isinstance(text, str):
            raise TypeError(f"{option} is text, got {type(text).__name__} {text!r}")
    broadcast = given.get("broadcast")
    if broadcast is not None and not isinstance(broadcast, bool):
        raise TypeError(f"broadcast is True or False, got {broadcast!r}")
    name = given.get("name")
    if name is not None and not (name.strip() and name.isprintable()):
        raise ConfigurationError(
            f"name={name!r} cannot be told from others in books and errors; give a name of "
            "printable characters"
        )
