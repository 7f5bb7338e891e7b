"""An event that the broker refuses is sent again ``max_retry`` times, and not for ever."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from brokers import rabbitmq_server, redis_server
from brokers.waiting import until
from pika.adapters.blocking_connection import BlockingChannel
from tiebeam import DependencyError, Framework

pytestmark = pytest.mark.broker

DELAY = 0.1
"""The wait between two of them."""

TIMEOUT = 20.0
"""How long an event may wait to be sent: much longer than the tries take."""


class Redis:
    """A server that has no memory, when that is wanted."""

    implementation = "redis"
    says = "OOM"

    def __init__(self, prefix: str, server: redis_server.RedisServer) -> None:
        self.url, self.client = server.url, server.client()
        self.stream = f"{{{prefix}:market_data:0}}"

    def fill(self) -> None:
        """Have it refuse what comes; it counts from now on."""
        self.client.config_set("maxmemory", 1)
        self.client.config_resetstat()

    def empty(self) -> None:
        """Have it take everything."""
        self.client.config_set("maxmemory", 0)

    def sent(self) -> int:
        """How often it was given an event, and refused it."""
        commands: Any = self.client.info("commandstats")
        errors: Any = self.client.info("errorstats")
        rejected = int(commands.get("cmdstat_xadd", {}).get("rejected_calls", 0))
        assert int(errors.get("errorstat_OOM", {}).get("count", 0)) >= rejected
        return rejected

    def there(self) -> int:
        """How many events of the category came to somewhere."""
        return int(self.client.xlen(self.stream))

    def close(self) -> None:
        self.empty()
        self.client.close()


class RabbitMq:
    """A broker with two queues of another client: one is full, when that is wanted, and takes
    nothing; the other one has a copy of all that comes."""

    implementation = "rabbitmq"
    says = "did not take the message"

    def __init__(self, prefix: str, server: rabbitmq_server.RabbitMqServer) -> None:
        self.url = server.url
        self._connection = pika.BlockingConnection(pika.URLParameters(server.url))
        self._channel: BlockingChannel = self._connection.channel()
        self.full, self.copies = f"{prefix}.full", f"{prefix}.copies"
        self._exchange = prefix

    def fill(self) -> None:
        channel = self._channel
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        channel.queue_declare(self.full, arguments=arguments)
        channel.basic_publish("", self.full, b"the one that it has room for")
        channel.queue_declare(self.copies)
        for queue in (self.full, self.copies):
            channel.queue_bind(queue, self._exchange, "market_data.#")

    def empty(self) -> None:
        self._channel.queue_unbind(self.full, self._exchange, "market_data.#")

    def sent(self) -> int:
        count: int = self._channel.queue_declare(self.copies, passive=True).method.message_count
        return count

    there = sent

    def close(self) -> None:
        for queue in (self.full, self.copies):
            self._channel.queue_delete(queue)
        self._connection.close()


@pytest.fixture(
    params=[
        pytest.param(Redis, id="redis", marks=redis_server.NEEDED),
        pytest.param(RabbitMq, id="rabbitmq", marks=rabbitmq_server.NEEDED),
    ]
)
def site(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A broker that can be full, under names of its own."""
    prefix = f"retries-{uuid.uuid4().hex[:8]}"
    kind = request.param
    site = kind(prefix, request.getfixturevalue(kind.implementation))
    site.prefix = prefix
    yield site
    site.close()


def system(site: Any, max_retry: int, delay: float = DELAY) -> Framework:
    """One that says nothing of itself on the broker."""
    return Framework(
        {
            "event_bus": {
                "implementation": site.implementation,
                "connection_string": site.url,
                "channel_prefix": site.prefix,
                "max_retry": max_retry,
                "retry_delay": delay * 1_000,
                "outbox": {"timeout": TIMEOUT},
            },
            "service_registry": {"auto_discovery": False},
            "logging": {"console": False},
        },
        components=[],
    )


@pytest.mark.parametrize("max_retry", [0, 2])
def test_it_gives_up_after_so_many_tries(site: Any, max_retry: int, run: Any) -> None:
    """With the refusal itself, and long before the outbox would."""

    async def main() -> None:
        async with system(site, max_retry) as framework:
            await framework.bus.publish("market_data.first")
            site.fill()
            begun = time.monotonic()
            with pytest.raises(DependencyError, match=site.says) as refused:
                await framework.bus.publish("market_data.price", {"n": 1})
            took = time.monotonic() - begun
            assert refused.value.context["outcome"] == "refused"
            assert site.sent() == 1 + max_retry
            assert max_retry * DELAY <= took < TIMEOUT / 4
            assert framework.bus.unsent == 0
            site.empty()
            await framework.bus.publish("market_data.price", {"n": 2})
            await until(lambda: framework.bus.trouble is None)

    run(main())


def test_one_that_is_taken_meanwhile_is_there_once(site: Any, run: Any) -> None:
    async def main() -> None:
        async with system(site, 1_000, 0.02) as framework:
            await framework.bus.publish("market_data.first")
            site.fill()
            receipt = framework.bus.publish("market_data.price", {"n": 1})
            await until(lambda: site.sent() >= 5)
            assert not receipt.accepted
            site.empty()
            await receipt
            there = site.there()
            await framework.bus.publish("market_data.price", {"n": 2})
            assert site.there() == there + 1, "it is sent although it was taken"
            if site.implementation == "redis":
                assert there == 2
            assert framework.bus.trouble is None

    run(main())
