"""Publishers who want to know whether anybody reads what they publish."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from brokers import rabbitmq_server
from brokers.rabbitmq_server import RabbitMqServer
from tiebeam import ConfigurationError, EventBus, Framework, Unroutable

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMqServer]:
    with RabbitMqServer() as server:
        yield server


@rabbitmq_server.NEEDED
def test_an_event_that_no_queue_takes_is_an_error_where_it_must_not_be(
    rabbitmq: RabbitMqServer, run: Any
) -> None:
    async def main() -> None:
        async with (
            EventBus("strict", url=rabbitmq.url, mandatory=True) as strict,
            EventBus("easy", url=rabbitmq.url) as easy,
        ):
            with pytest.raises(Unroutable, match=r"orders\.placed") as refused:
                await strict.publish("orders.placed", 1)
            assert refused.value.context["outcome"] == "refused"
            await easy.publish("orders.placed", 2)
            seen: list[int] = []
            easy.subscribe("orders.*", lambda event: seen.append(event.payload), group="g")
            await easy.ready()
            await strict.publish("orders.placed", 3)
            await easy.drain()
            with pytest.raises(Unroutable):
                await strict.publish("news.flash", 4)
            assert strict.trouble is None

    run(main())


@rabbitmq_server.NEEDED
def test_the_configuration_asks_for_it(rabbitmq: RabbitMqServer, run: Any) -> None:
    async def main() -> None:
        bus = {"implementation": "rabbitmq", "connection_string": rabbitmq.url, "mandatory": True}
        async with Framework({"event_bus": bus, "logging": {"console": False}}) as framework:
            with pytest.raises(Unroutable):
                await framework.bus.publish("prices.changed", 1)

    run(main())


def test_where_nobody_could_know_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="mandatory goes with RabbitMQ"):
        EventBus(url="redis://localhost", mandatory=True)
    with pytest.raises(ValueError, match="mandatory= goes with a broker"):
        EventBus(mandatory=True)
    for implementation, url in [("in_memory", ""), ("redis", "redis://localhost")]:
        bus = {"implementation": implementation, "connection_string": url, "mandatory": True}
        with pytest.raises(ConfigurationError, match=r"event_bus\.mandatory.*rabbitmq"):
            Framework({"event_bus": bus})
