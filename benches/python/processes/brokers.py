"""The brokers, and who runs on them."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from processes.aims import Aim
from processes.redis_benchmark import benchmark

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Contender:
    """Who runs, and how."""

    title: str
    events: int = 0
    """How many for its throughput; 0 leaves it out."""
    paced: bool = False
    """Whether its latency is measured, too."""
    needs: str = "tiebeam"
    """The module it is made of; none for a program that comes with its server."""
    alone: str = ""
    """Whose publisher and consumer run here in one process, on one event loop."""
    tool: Callable[[str, int], float] | None = None
    """A program that measures by itself: events per second of so many at a URL."""


@dataclass(frozen=True)
class Broker:
    """A broker, and those who run on it; the limit comes first, and then we."""

    serve: Callable[[], contextlib.AbstractContextManager[str]]
    contenders: dict[str, Contender]
    empty: Callable[[str], None]
    aims: tuple[Aim, ...] = ()

    @property
    def limit(self) -> str:
        """Whose figures are the limit."""
        return next(iter(self.contenders))


@contextlib.contextmanager
def _redis() -> Iterator[str]:
    sys.path.insert(0, str(ROOT / "tests"))
    from brokers.redis_server import RedisServer

    # Synced every second, which is what the figures of others are of, too.
    with RedisServer("--appendfsync", "everysec") as server:
        yield server.url


@contextlib.contextmanager
def _rabbitmq() -> Iterator[str]:
    sys.path.insert(0, str(ROOT / "tests"))
    from brokers.rabbitmq_server import RabbitMqServer

    with RabbitMqServer() as server:
        yield server.url


def _flush(url: str) -> None:
    port = int(url.rsplit(":", 1)[1].split("/", 1)[0])
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(b"FLUSHALL\r\n")
        link.recv(10)


def _purge(url: str) -> None:
    import pika

    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        channel = connection.channel()
        for queue in ("bench", "celery", "bench.group.bench"):
            channel.queue_delete(queue)


BROKERS = {
    "redis": Broker(
        _redis,
        {
            "bare_redis": Contender("the limit: a bare client, batches of 100", 600_000, True),
            "tiebeam_redis": Contender("tiebeam", 500_000, True),
            "tiebeam_redis_tasks": Contender("tiebeam, await in 64 tasks", 256_000),
            "tiebeam_redis_alone": Contender(
                "tiebeam, one process", 200_000, alone="tiebeam_redis"
            ),
            "redis_benchmark": Contender(
                "redis-benchmark, XADD alone, 100 at a time", 600_000, needs="", tool=benchmark
            ),
            "redis_py": Contender("redis-py by hand, batches of 100", 60_000, needs="redis"),
            "redis_py_single": Contender(
                "redis-py by hand, one by one", 6_000, True, needs="redis"
            ),
            "valkey_glide": Contender(
                "valkey-glide by hand, batches of 100", 60_000, needs="glide"
            ),
            "redis_py_alone": Contender(
                "redis-py by hand, batches of 100, one process",
                60_000,
                needs="redis",
                alone="redis_py",
            ),
            "faststream_redis": Contender("FastStream", 6_000, True, needs="faststream.redis"),
            "faststream_redis_tuned": Contender(
                "FastStream, batches of 100", 40_000, needs="faststream.redis"
            ),
            "dramatiq_redis": Contender("Dramatiq", 4_000, needs="dramatiq.brokers.redis"),
            "celery_redis": Contender("Celery", 3_000, needs="celery"),
        },
        _flush,
        (
            Aim("tiebeam_redis", "rate", 0.6, ("bare_redis",)),
            Aim("tiebeam_redis", "rate", 2, ("redis_py", "redis_py_single", "valkey_glide")),
            Aim("tiebeam_redis", "rate", 30, ("faststream_redis",)),
            Aim("tiebeam_redis_tasks", "rate", 0.3, ("bare_redis",)),
            Aim("tiebeam_redis", "p50", 3, ("bare_redis",)),
            Aim("tiebeam_redis", "p99", 3, ("bare_redis",)),
        ),
    ),
    "rabbitmq": Broker(
        _rabbitmq,
        {
            "bare_rabbitmq": Contender("the limit: a bare client, window of 100", 60_000, True),
            "tiebeam_rabbitmq": Contender("tiebeam", 60_000, True),
            "tiebeam_rabbitmq_tasks": Contender("tiebeam, await in 64 tasks", 40_000),
            "tiebeam_rabbitmq_alone": Contender(
                "tiebeam, one process", 40_000, alone="tiebeam_rabbitmq"
            ),
            "aio_pika": Contender(
                "aio-pika by hand, 100 confirms under way", 10_000, True, needs="aio_pika"
            ),
            "pika_single": Contender("pika by hand, one by one", 3_000, True, needs="pika"),
            "faststream_rabbitmq": Contender("FastStream", 3_000, True, needs="faststream.rabbit"),
            "celery_rabbitmq": Contender("Celery", 3_000, needs="celery"),
        },
        _purge,
        (
            Aim("tiebeam_rabbitmq", "rate", 0.6, ("bare_rabbitmq",)),
            Aim("tiebeam_rabbitmq", "rate", 4, ("aio_pika",)),
            Aim("tiebeam_rabbitmq", "p50", 1.5, ("bare_rabbitmq",)),
        ),
    ),
}
