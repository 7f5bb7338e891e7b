"""T6: what an administrator, a full disk or a slow handler does to channels and queues."""

from __future__ import annotations

import time
from collections.abc import Callable

from faults.checker import percentile
from faults.processes import until
from faults.rabbit_site import RabbitSite
from faults.report import Result
from faults.runs.plan import Plan, Scale

RESTORED = 2.0
"""How soon events are published and handled again, in seconds."""


def carry_out(site: RabbitSite, scale: Scale, result: Result) -> Result:
    """Each kind of trouble so many times, and none of them needs a process to begin anew."""
    site.consumer(options={"claim_idle": 60.0})
    producer = site.producer(rate=300.0, options={"outbox": {"timeout": 5.0}})
    site.await_count("done", 300)
    site.connect_anew()
    site.note_base()
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    deleted: set[str] = set()
    for _ in range(scale.faults):
        for kind, trouble in KINDS.items():
            trouble(site)
            took[kind].append(_restored(site, kind))
            if kind == "queue_deleted":
                deleted |= _not_begun(site)
    producer.ask()
    site.settle(but=deleted)
    found = site.findings()
    result.take(found, may=("lost", "doubled", "concurrent", "disorder"))
    lost, twice = set(found.lost), {*found.doubled, *found.concurrent}
    result.need(lost <= deleted, f"lost, and not deleted: {sorted(lost - deleted)[:5]}")
    # What the broker has taken from a slow handler, it gives to another one.
    slow = {
        entry.event_id
        for name, calls in site.calls().items()
        for entry in calls
        if name.startswith("slow") and entry.word == "begin"
    }
    result.need(twice <= slow, f"handled twice, and not taken away: {sorted(twice - slow)[:5]}")
    for kind, times in took.items():
        result.add(f"{kind}_restored_s", percentile(times, 1.0), most=RESTORED)
    result.add("faults", sum(map(len, took.values())))
    result.sizes(site.grown())
    result.need(all(books["balanced"] for books in site.books()), "books that do not balance")
    return result


def _restored(site: RabbitSite, after: str) -> float:
    """How long it takes until an event that is published from now on was handled."""
    began = time.monotonic()

    def handled() -> bool:
        later = {
            entry.event_id
            for ledger in site.offers()
            for entry in ledger
            if entry.word == "offered" and entry.at > began
        }
        return any(
            entry.word == "done" and entry.event_id in later
            for calls in site.calls().values()
            for entry in calls
        )

    until(handled, 30.0, f"events are handled again after {after}")
    return time.monotonic() - began


def _connections_closed(site: RabbitSite) -> None:
    site.server.ctl("close_all_connections", "by hand")


def _exchange_deleted(site: RabbitSite) -> None:
    """Publishing to what is gone ends the channel, and what was sent meanwhile is refused."""
    with site.channel() as channel:
        channel.exchange_delete(site.prefix)


def _queue_deleted(site: RabbitSite) -> None:
    """What is in it is gone; so is what nobody's queue gets, until the group has made it again."""
    with site.channel() as channel:
        channel.queue_delete(site.queue)


def _not_begun(site: RabbitSite) -> set[str]:
    """What was offered by now, and did not come to anybody."""
    offered = {e.event_id for ledger in site.offers() for e in ledger if e.word == "offered"}
    begun = {e.event_id for calls in site.calls().values() for e in calls if e.word == "begin"}
    return offered - begun


def _memory_alarm(site: RabbitSite) -> None:
    """The broker takes nothing more, until it has memory again."""
    before = site.count("refused")
    site.server.ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        until(lambda: site.count("refused") > before, 30.0, "publishers are told")
    finally:
        site.server.ctl("set_vm_memory_high_watermark", "0.4")
    told = {e.more for ledger in site.offers() for e in ledger if e.word == "refused"}
    assert "BrokerBlocked" in told, told


def _consumer_timeout(site: RabbitSite) -> None:
    """The broker ends the channel of whoever does not acknowledge in time; what was at work there
    comes to an end, and is not handled once more."""
    timeout = "application:set_env(rabbit, consumer_timeout, "
    # A channel that is opened from now on looks that often.
    look = "application:set_env(rabbit, channel_tick_interval, 500)"
    site.server.ctl("eval", f"{look}, {timeout}1000).")
    slow = site.consumer(f"slow{len(site.consumers)}", work=4.0, options={"claim_idle": 60.0})
    try:
        until(lambda: _is_told(site, "consumer_timeout"), 30.0, "the broker loses its patience")
    finally:
        site.server.ctl("eval", f"{timeout}1800000).")
    slow.ask()


def _is_told(site: RabbitSite, word: str) -> bool:
    return any(word in lost["reason"] for lost in site.told("system.transport.disconnected"))


KINDS: dict[str, Callable[[RabbitSite], None]] = {
    "connections_closed": _connections_closed,
    "exchange_deleted": _exchange_deleted,
    "queue_deleted": _queue_deleted,
    "memory_alarm": _memory_alarm,
    "consumer_timeout": _consumer_timeout,
}

RABBIT_TROUBLE = Plan(
    "T6",
    "RabbitMQ closes, deletes, runs full and loses its patience",
    quick=Scale(events=0, faults=1),
    full=Scale(events=0, faults=10, rounds=2),
    carry_out=carry_out,
    site=RabbitSite,
)
