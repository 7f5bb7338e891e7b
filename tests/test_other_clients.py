"""RabbitMQ as other clients see it: pika reads what we publish, and we read what it does."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from brokers.rabbitmq_server import NEEDED, RabbitMqServer
from brokers.waiting import until
from pika.adapters.blocking_connection import BlockingChannel
from tiebeam import Event, EventBus

pytestmark = [pytest.mark.broker, NEEDED]


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitMqServer]:
    with RabbitMqServer() as server:
        yield server


@pytest.fixture
def channel(server: RabbitMqServer) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(server.url))
    yield connection.channel()
    connection.close()


@pytest.fixture
def prefix() -> str:
    """Names of a test's own."""
    return f"clients-{uuid.uuid4().hex[:8]}"


def entry(n: int, **more: Any) -> bytes:
    """An event with nothing but what has to be there."""
    event = {
        "event_id": f"evt_{n}",
        "event_type": "market_data.price_update",
        "timestamp": 1645541585432,
        "payload": {"n": n},
        **more,
    }
    return json.dumps(event).encode()


def test_another_client_reads_what_we_publish(
    server: RabbitMqServer, channel: BlockingChannel, prefix: str, run: Any
) -> None:
    async def main() -> None:
        async with EventBus("trader", url=server.url, prefix=prefix) as bus:
            await bus.publish("market_data.first")  # the exchange is there from now on
            queue = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queue, prefix, "market_data.#")
            receipt = bus.publish("market_data.price_update", {"price": 38245.5}, key="BTC")
            await receipt
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            event = json.loads(body)
            assert method.routing_key == event["event_type"] == "market_data.price_update"
            assert properties.message_id == event["event_id"] == receipt.event_id
            assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
            assert (event["producer"], event["payload"]) == ("trader", {"price": 38245.5})
            assert event["metadata"]["key"] == "BTC"
            assert Event.from_json(body.decode()).payload == {"price": 38245.5}

    run(main())


def test_we_read_what_another_client_publishes(
    server: RabbitMqServer, channel: BlockingChannel, prefix: str, run: Any
) -> None:
    async def main() -> None:
        async with EventBus("reader", url=server.url, prefix=prefix) as bus:
            seen: list[Event] = []
            copies: list[Event] = []
            bus.subscribe("market_data.*", seen.append, group="g")
            bus.subscribe("market_data.#", copies.append)
            await bus.ready()
            for n in (1, 2, 2):  # a copy is known by its id
                channel.basic_publish(prefix, "market_data.price_update", entry(n))
            channel.basic_publish("", f"{prefix}.group.g", entry(3))
            await until(lambda: len(seen) == 3 and len(copies) == 2)
            assert [event.payload["n"] for event in seen] == [1, 2, 3]
            assert [event.payload["n"] for event in copies] == [1, 2]
            assert (seen[0].event_id, seen[0].version) == ("evt_1", 1)
            await bus.drain()
            assert bus.books().duplicates >= 1

    run(main())


def test_another_client_answers_what_we_ask(
    server: RabbitMqServer, channel: BlockingChannel, prefix: str, run: Any
) -> None:
    """And what it asks is answered: a request names where its reply goes."""

    async def main() -> None:
        async with EventBus("asker", url=server.url, prefix=prefix) as bus:
            bus.respond("price.get", lambda event: {"price": event.payload["n"] * 2})
            await bus.ready()
            queue = channel.queue_declare(f"{prefix}.reply.pika", exclusive=True).method.queue
            channel.queue_bind(queue, f"{prefix}.direct", "reply.pika")
            asked = entry(
                4, event_type="price.get", metadata={"reply_to": "pika:1", "correlation_id": "c"}
            )
            channel.basic_publish(f"{prefix}.direct", "request.price.get", asked)

            def answered() -> bytes | None:
                _method, _properties, body = channel.basic_get(queue, auto_ack=True)
                return body  # type: ignore[no-any-return]

            reply = json.loads(await until(answered))
            assert reply["payload"] == {"price": 8}
            assert reply["metadata"]["correlation_id"] == "c"

    run(main())


def test_what_is_no_event_is_set_aside_and_never_comes_again(
    server: RabbitMqServer, channel: BlockingChannel, prefix: str, run: Any
) -> None:
    foreign = {
        b"{": "not an event",
        b"\xff\xfe": "not UTF-8",
        entry(1, event_type="a..b"): "empty segment",
        entry(2, version="two"): "expected u32",
        entry(3, payload={"x": "x" * 11_000_000}): "bytes",
    }

    async def main() -> None:
        async with EventBus("reader", url=server.url, prefix=prefix) as bus:
            seen: list[Event] = []
            told: list[Event] = []
            bus.subscribe("market_data.*", seen.append, group="g")
            bus.subscribe("system.event_quarantined", told.append)
            await bus.ready()
            for body in foreign:
                channel.basic_publish(prefix, "market_data.price_update", body)
            channel.basic_publish(prefix, "market_data.price_update", entry(7, version=9_999))
            await until(lambda: seen and len(told) == len(foreign))
            # Of a later version than anybody knows, and an event all the same.
            assert [(event.payload["n"], event.version) for event in seen] == [(7, 9_999)]
            for event, said in zip(told, foreign.values(), strict=True):
                assert said in event.payload["reason"], event.payload
            reasons = []
            for _body in foreign:
                _method, properties, _body = channel.basic_get(
                    f"{prefix}.quarantine", auto_ack=True
                )
                reasons.append(properties.headers["reason"])
            assert reasons == [event.payload["reason"] for event in told]
            left = channel.queue_declare(f"{prefix}.group.g", passive=True).method.message_count
            assert left == 0

    run(main())
