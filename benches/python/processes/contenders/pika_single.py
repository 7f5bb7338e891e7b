"""pika by hand, one by one: each confirmed before the next, a quorum queue."""

from __future__ import annotations

import json
from typing import Any

from processes.contenders.aio_pika import QUORUM
from processes.envelope import BATCH, GROUP, text
from processes.pace import Pace


def publish(url: str, count: int, pace: Pace) -> None:
    """One ``basic_publish`` after the other."""
    import pika

    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    persistent = pika.BasicProperties(delivery_mode=2)
    for n in pace.ticks(count):
        channel.basic_publish("", GROUP, text(n, pace.sent()), persistent)
    connection.close()


def consume(url: str, ready: Any, handled: Any) -> None:
    """Messages as they come."""
    import pika

    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=BATCH)
    channel.queue_declare(GROUP, durable=True, arguments=QUORUM)
    ready()
    for method, _properties, body in channel.consume(GROUP):
        over = handled(json.loads(body)["payload"])
        channel.basic_ack(method.delivery_tag)
        if over:
            break
    connection.close()
