"""What trouble with the broker means for the health of a system: it is degraded, and says why."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from brokers import rabbitmq_server, redis_server
from brokers.waiting import until
from tiebeam import Component, DependencyError, Event, EventBus, Framework, subscribe

pytestmark = pytest.mark.broker


@pytest.fixture(
    params=[
        pytest.param("redis", marks=redis_server.NEEDED),
        pytest.param("rabbitmq", marks=rabbitmq_server.NEEDED),
    ]
)
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    make: Any = redis_server.RedisServer
    if request.param == "rabbitmq":
        make = rabbitmq_server.RabbitMqServer
    with make() as server:
        yield server


class Desk(Component):
    async def initialize(self) -> None:
        self.seen: list[int] = []

    @subscribe("orders.placed")
    async def on_order(self, event: Event) -> None:
        self.seen.append(event.payload["n"])


def system(server: Any, **bus: Any) -> Framework:
    kind = "redis" if server.url.startswith("redis") else "rabbitmq"
    settings: dict[str, Any] = {
        "event_bus": {"implementation": kind, "connection_string": server.url, **bus},
        "service_registry": {"auto_discovery": False},
        "logging": {"console": False},
    }
    return Framework(settings, components=[Desk])


def end(server: Any) -> None:
    """In order: a quorum queue that is seconds old may not survive a kill, on older brokers."""
    if isinstance(server, redis_server.RedisServer):
        server.kill()
    else:
        server.ctl("stop_app")


def begin(server: Any) -> None:
    if isinstance(server, redis_server.RedisServer):
        server.launch()
    else:
        server.ctl("start_app")


def troubled(framework: Framework) -> bool:
    report = framework.health("desk")
    return report["status"] == "degraded" and "trouble with the broker" in str(report["details"])


def well(framework: Framework) -> bool:
    return framework.health()["status"] == "pass" and framework.status("desk")["state"] == "running"


def test_without_a_broker_that_is_not_required_the_start_is_degraded_until_it_is_there(
    server: Any, run: Any
) -> None:
    server.kill()

    async def main() -> None:
        async with system(server, required=False, connect_timeout=0.5) as framework:
            changes: list[str] = []
            framework.bus.subscribe(
                "system.health.changed", lambda event: changes.append(event.payload["to"])
            )
            await until(lambda: troubled(framework))
            report = framework.health("desk")
            assert (report["health"], report["live"], report["ready"]) == ("warn", True, True)
            assert framework.health()["status"] == "warn"
            waiting = framework.bus.publish("orders.placed", {"n": 1})
            await asyncio.to_thread(server.launch)
            await waiting
            await until(lambda: well(framework))
            assert framework.status("desk")["restarts"] == 0
            await framework.bus.publish("orders.placed", {"n": 2})
            await until(lambda: 2 in framework.get(Desk).seen)
            await until(lambda: changes[-1:] == ["pass"])  # told on a thread of its own

    run(main())


def test_a_broker_that_is_lost_degrades_who_runs(server: Any, run: Any) -> None:
    async def main() -> None:
        async with system(server) as framework:
            assert well(framework)
            await asyncio.to_thread(end, server)
            await until(lambda: troubled(framework))
            await asyncio.to_thread(begin, server)
            await until(lambda: well(framework))

    run(main())


def test_a_broker_that_is_full_degrades_who_publishes(server: Any, run: Any) -> None:
    def full(yes: bool) -> None:
        if isinstance(server, redis_server.RedisServer):
            with server.client() as client:
                client.config_set("maxmemory", 1 if yes else 0)
        else:
            server.ctl("set_vm_memory_high_watermark", "0.00001" if yes else "0.4")

    async def main() -> None:
        async with system(server, outbox={"timeout": 60}) as framework:
            await asyncio.to_thread(full, True)
            waiting = [framework.bus.publish("orders.placed", {"n": 1})]
            if not isinstance(server, redis_server.RedisServer):
                # The alarm comes a moment after it is set, and what is said before it is taken.
                async def publish() -> None:
                    while not troubled(framework):
                        waiting.append(framework.bus.publish("orders.placed", {"n": 1}))
                        await asyncio.sleep(0.05)

                await asyncio.wait_for(publish(), 20)
            await until(lambda: troubled(framework))
            await asyncio.to_thread(full, False)
            for receipt in waiting:
                await receipt
            await until(lambda: well(framework))

    run(main())


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_a_start_that_fails_for_want_of_a_broker_says_so_at_once(kind: str, run: Any) -> None:
    """And not once more after the time that a stop may take."""
    scheme = {"redis": "redis", "rabbitmq": "amqp"}[kind]
    url = f"{scheme}://127.0.0.1:{redis_server.free_port()}"
    bus = {"implementation": kind, "connection_string": url, "connect_timeout": 0.5}

    async def main() -> None:
        framework = Framework({"event_bus": bus, "logging": {"console": False}}, components=[Desk])
        begun = asyncio.get_running_loop().time()
        with pytest.raises(DependencyError):
            async with framework:
                pass
        assert asyncio.get_running_loop().time() - begun < 4, "30 s are what a stop may take"

    run(main())


def test_nobody_waits_in_the_end_for_what_the_core_tells_of_itself(server: Any, run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bus = EventBus("idle", url=server.url)
        bus.subscribe("orders.*", lambda event: None, group="g")
        await bus.ready()
        await bus.publish("orders.placed", 1)
        await bus.drain()
        server.kill()
        await until(lambda: bus.trouble)
        begun = loop.time()
        await bus.close(20)
        assert loop.time() - begun < 10, "as long as what users publish is waited for"

    run(main())
