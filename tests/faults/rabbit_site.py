"""The same site with RabbitMQ, on quorum queues."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pika
from brokers.rabbitmq_server import RabbitMqServer
from pika.exceptions import ChannelClosedByBroker

from faults.processes import until
from faults.site import Site


class RabbitSite(Site):
    """One broker on ports of its own, and all that uses it."""

    def serve(self) -> Any:
        """Begin the broker."""
        return RabbitMqServer()

    @property
    def queue(self) -> str:
        """Of the group that the consumers read for."""
        return f"{self.prefix}.group.g"

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        """A channel of somebody else."""
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.url))) as link:
            yield link.channel()

    def connect_anew(self) -> None:
        """Have everybody connect once more, which opens what stays open from then on."""
        told = len(self.told("system.transport.connected"))
        self.server.ctl("close_all_connections", "by hand")
        consumers = len(self.consumers)
        until(
            lambda: len(self.told("system.transport.connected")) >= told + consumers,
            30.0,
            "consumers are connected again",
        )
        acked = self.count("acked")
        self.await_count("acked", acked + 1_000)  # producers are, too

    def pending(self) -> int:
        """How many messages the group's queue has, given out or not."""
        words = ("list_queues", "name", "messages", "--formatter", "json")
        rows = json.loads(self.server.ctl(*words))
        return sum(row["messages"] for row in rows if row["name"] == self.queue)

    def dead(self) -> list[str]:
        """The ids of the dead letters on the broker, which stay there."""
        found: list[str] = []
        with contextlib.suppress(ChannelClosedByBroker), self.channel() as channel:
            channel.basic_qos(prefetch_count=100)  # a stream is read no other way
            letters = channel.consume(
                f"{self.prefix}.dead.letters",
                arguments={"x-stream-offset": "first"},
                inactivity_timeout=1.0,
            )
            for method, _properties, body in letters:  # there is no queue before there is a letter
                if method is None:
                    break
                channel.basic_ack(method.delivery_tag)
                found.append(json.loads(body)["event"]["event_id"])
        return found
