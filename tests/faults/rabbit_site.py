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
        """A channel of somebody else, past any proxy."""
        where = pika.URLParameters(self.server.url)
        with contextlib.closing(pika.BlockingConnection(where)) as link:
            yield link.channel()

    def connect_anew(self, acked: int = 1_000) -> None:
        """Have everybody connect once more, which opens what stays open from then on, and wait
        until the broker has taken so many more events: more than may be under way."""
        told = len(self.told("system.transport.connected"))
        self.server.ctl("close_all_connections", "by hand")
        consumers = len(self.consumers)
        until(
            lambda: len(self.told("system.transport.connected")) >= told + consumers,
            30.0,
            "consumers are connected again",
        )
        before = self.count("acked")
        self.await_count("acked", before + acked)  # producers are, too

    def pending(self) -> int:
        """How many messages nobody has acknowledged, given out or not. Those who have them say so:
        what the list of queues says of them may be seconds old."""
        waiting = 0
        with contextlib.suppress(ChannelClosedByBroker), self.channel() as channel:
            waiting = channel.queue_declare(self.queue, passive=True).method.message_count
        words = ("list_channels", "messages_unacknowledged", "--formatter", "json")
        given: Any = json.loads(self.server.ctl(*words))
        return int(waiting + sum(row["messages_unacknowledged"] for row in given))

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
