"""Dramatiq, as its guide shows it: ``actor.send(...)``, one worker of one thread."""

from __future__ import annotations

import threading
from typing import Any

from processes.envelope import payload
from processes.pace import Pace


def _actor(url: str, function: Any) -> tuple[Any, Any]:
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=url)
    return broker, dramatiq.actor(function, actor_name="handle", broker=broker)


def publish(url: str, count: int, pace: Pace) -> None:
    """One message after the other."""
    _broker, actor = _actor(url, print)
    for n in pace.ticks(count):
        actor.send(payload(n, pace.sent()))


def consume(url: str, ready: Any, handled: Any) -> None:
    """A worker in this process."""
    from dramatiq import Worker

    done = threading.Event()

    def handle(body: dict[str, Any]) -> None:
        if handled(body):
            done.set()

    broker, _actor_of_ours = _actor(url, handle)
    worker = Worker(broker, worker_threads=1)
    worker.start()
    ready()
    done.wait()
    worker.stop()
