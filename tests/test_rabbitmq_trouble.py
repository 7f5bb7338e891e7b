"""RabbitMQ that takes nothing, or not everything: what is at work stays where it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from brokers import rabbitmq_server
from brokers.rabbitmq_server import RabbitMqServer
from brokers.waiting import until
from tiebeam import BrokerBlocked, DependencyError, EventBus, OutcomeUnknown

pytestmark = [pytest.mark.broker, rabbitmq_server.NEEDED]


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitMqServer]:
    with RabbitMqServer() as server:
        yield server


def test_what_cannot_be_kept_as_given_up_stays_until_it_can(
    server: RabbitMqServer, run: Any
) -> None:
    """And what stands behind it is handled meanwhile."""
    server.ctl("add_user", "clerk", "pass")
    server.ctl("set_permissions", "clerk", ".*", ".*", ".*")
    where = server.url.rpartition("@")[2]

    def comes_to(line: str) -> None:
        end = time.monotonic() + 20
        while line not in (found := server.ctl("list_queues", "name", "messages")):
            assert time.monotonic() < end, found

    async def main() -> None:
        handled: list[int] = []

        def handle(event: Any) -> None:
            if event.payload == 3:
                raise ValueError("no stock")  # permanent
            handled.append(event.payload)

        async with EventBus(url=f"amqp://clerk:pass@{where}", prefix="kept") as bus:
            bus.subscribe("order.*", handle, group="orders", retry={"max_attempts": 1})
            await bus.ready()
            # From now on it may write to all but where dead letters are kept.
            most = r"^(?!kept\.dead|amq\.default).*"
            await asyncio.to_thread(server.ctl, "set_permissions", "clerk", ".*", most, ".*")
            for number in range(10):
                await bus.publish("order.placed", number)
            await until(lambda: len(handled) == 9)
            assert handled == [n for n in range(10) if n != 3]
            # The figures of a quorum queue come with a delay.
            await asyncio.to_thread(comes_to, "kept.group.orders\t1")
            await asyncio.to_thread(server.ctl, "set_permissions", "clerk", ".*", ".*", ".*")

            async def kept() -> list[Any]:
                return list(await bus.dead_letters.everywhere.list())

            end = time.monotonic() + 20
            while not (letters := await kept()):
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
            (letter,) = letters
            assert letter.event.payload == 3
            assert bus.trouble is None
        await asyncio.to_thread(comes_to, "kept.group.orders\t0")

    run(main())


def test_leaving_a_broker_that_takes_nothing_hangs_no_longer_than_its_grace(
    server: RabbitMqServer, run: Any
) -> None:
    async def main() -> None:
        bus = EventBus(url=server.url, prefix="blocked", outbox={"timeout": 60})
        bus.subscribe("order.*", lambda event: None, group="orders")
        await bus.ready()
        await bus.publish("order.placed", 0)
        await asyncio.to_thread(server.ctl, "set_vm_memory_high_watermark", "0.00001")
        try:
            waiting = [bus.publish("order.placed", 1)]
            while bus.trouble is None:  # the alarm comes a moment later
                waiting.append(bus.publish("order.placed", 1))
                await asyncio.sleep(0.05)
            begun = time.monotonic()
            await bus.close(0.5)
            # Beside the grace, what a parting may take; and far less than an event may wait.
            assert time.monotonic() - begun < 5
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            refused = [error for error in outcomes if error is not None]
            assert refused
            assert all(
                isinstance(error, BrokerBlocked | OutcomeUnknown | DependencyError)
                or type(error).__name__ == "ClosedError"
                for error in refused
            ), refused
        finally:
            await asyncio.to_thread(server.ctl, "set_vm_memory_high_watermark", "0.4")

    run(main())


def test_what_was_under_way_when_the_broker_became_full_is_unknown(
    server: RabbitMqServer, run: Any
) -> None:
    """It may have it: only what was not sent is refused."""

    async def main() -> None:
        async with EventBus(url=server.url, prefix="full", outbox={"timeout": 1}) as bus:
            bus.subscribe("order.*", lambda event: None, group="orders")
            await bus.ready()
            await asyncio.to_thread(server.ctl, "set_vm_memory_high_watermark", "0.00001")
            try:
                errors: list[Exception] = []
                while not any(isinstance(error, BrokerBlocked) for error in errors):
                    (outcome,) = await asyncio.gather(
                        bus.publish("order.placed", 1), return_exceptions=True
                    )
                    if isinstance(outcome, Exception):
                        errors.append(outcome)
                for error in errors:
                    known = "refused" if isinstance(error, BrokerBlocked) else "unknown"
                    assert error.context["outcome"] == known, error  # type: ignore[attr-defined]
                    assert isinstance(error, BrokerBlocked | OutcomeUnknown)
            finally:
                await asyncio.to_thread(server.ctl, "set_vm_memory_high_watermark", "0.4")

    run(main())
