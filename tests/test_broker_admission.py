"""Whom a broker lets in, and when: as many as it has room for, with the password it has now."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from brokers.rabbitmq_server import INSTALLED, RabbitMqServer
from brokers.redis_server import RedisServer, free_port
from brokers.waiting import until
from tiebeam import ConfigurationError, DependencyError, EventBus, Framework

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMqServer]:
    if not INSTALLED:
        pytest.skip("rabbitmq-server is not installed")
    with RabbitMqServer() as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")


# -- room ---------------------------------------------------------------------------------


def test_a_server_with_too_many_clients_is_waited_for(run: Any) -> None:
    with RedisServer("--maxclients", "40") as server:
        mine = server.client()
        mine.ping()
        taken = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]

        async def main() -> None:
            bus = EventBus(url=server.url)
            with pytest.raises(DependencyError, match=r"max number of clients|`maxclients`"):
                await bus.ready(0.5)
            for connection in taken:
                connection.close()
            await bus.ready()
            await bus.publish("market_data.price", 1)
            await bus.close(0)

        run(main())


def test_a_virtual_host_with_too_many_connections_is_waited_for(
    rabbitmq: RabbitMqServer, run: Any
) -> None:
    rabbitmq.ctl("set_vhost_limits", "-p", "/", '{"max-connections": 0}')

    async def main() -> None:
        bus = EventBus(url=rabbitmq.url, prefix="crowd")
        with pytest.raises(DependencyError, match=r"connection limit.*raise the limit"):
            await bus.ready(0.5)
        await asyncio.to_thread(rabbitmq.ctl, "clear_vhost_limits", "-p", "/")
        await bus.ready()
        await bus.publish("market_data.price", 1)
        await bus.close(0)

    run(main())


# -- names --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_name_that_nobody_knows_is_an_error_that_says_so(scheme: str, run: Any) -> None:
    async def main() -> None:
        bus = EventBus(url=f"{scheme}://user:canary@broker.invalid")
        with pytest.raises(DependencyError) as refused:
            await bus.ready(0.5)
        said = str(refused.value)
        assert "lookup" in said or "resolve" in said or "Name or service" in said, said
        assert "canary" not in said
        await bus.close(0)

    run(main())


# -- single events ------------------------------------------------------------------------


def test_an_event_that_the_broker_will_not_have_fails_alone(
    rabbitmq: RabbitMqServer, run: Any
) -> None:
    """Also among others that are under way with it."""
    rabbitmq.ctl("add_user", "clerk", "pass")
    rabbitmq.ctl("set_permissions", "clerk", ".*", ".*", ".*")
    rabbitmq.ctl("set_topic_permissions", "clerk", "counter", "^public", ".*")
    where = rabbitmq.url.rpartition("@")[2].rpartition("//")[2]

    async def main() -> None:
        async with EventBus(url=f"amqp://clerk:pass@{where}", prefix="counter") as bus:
            seen: list[int] = []
            bus.subscribe("public.*", lambda event: seen.append(event.payload), group="g")
            await bus.ready()
            topics = ["secret.price" if n in (7, 150) else "public.price" for n in range(200)]
            receipts = [bus.publish(topic, n) for n, topic in enumerate(topics)]
            results = await asyncio.gather(*receipts, return_exceptions=True)
            failed = {n: error for n, error in enumerate(results) if isinstance(error, Exception)}
            assert sorted(failed) == [7, 150]
            for error in failed.values():
                assert isinstance(error, ConfigurationError)
                assert "pass" not in str(error).replace("password", "")
            await until(lambda: len(seen) == 198)
            assert seen == sorted(seen)

    run(main())


def test_a_message_that_is_no_event_and_says_so_at_length_is_set_aside(
    rabbitmq: RabbitMqServer, run: Any
) -> None:
    event = {"event_id": "x", "event_type": "long.words", "timestamp": "x" * 500_000, "payload": {}}

    async def main() -> None:
        async with EventBus(url=rabbitmq.url, prefix="long") as bus:
            told: list[Any] = []
            seen: list[int] = []
            bus.subscribe("system.event_quarantined", told.append)
            bus.subscribe("long.*", lambda event: seen.append(event.payload), group="g")
            await bus.ready()
            with pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as connection:
                connection.channel().basic_publish("long", "long.words", json.dumps(event))
            await bus.publish("long.words", 1)
            await until(lambda: seen == [1] and told)
            assert len(told[0].payload["reason"]) < 2_000
            assert bus.trouble is None

    run(main())


# -- passwords ----------------------------------------------------------------------------


class Guarded:
    """A broker whose password can be changed, and which throws everybody out when it is."""

    def __init__(self, server: RedisServer | RabbitMqServer) -> None:
        self.server = server
        self.name = "redis" if isinstance(server, RedisServer) else "rabbitmq"
        self.change("first")

    def url(self, password: str) -> str:
        where = self.server.url.rpartition("@")[2].rpartition("//")[2]
        scheme = "redis" if self.name == "redis" else "amqp"
        return f"{scheme}://trader:{password}@{where}"

    def change(self, password: str) -> None:
        if isinstance(self.server, RedisServer):
            client = self.server.client()
            client.execute_command(
                "ACL", "SETUSER", "trader", "reset", "on", f">{password}", "~*", "&*", "+@all"
            )
            client.execute_command("CLIENT", "KILL", "USER", "trader")
            return
        if '"trader"' not in self.server.ctl("list_users", "--formatter", "json"):
            self.server.ctl("add_user", "trader", password)
            self.server.ctl("set_permissions", "trader", ".*", ".*", ".*")
        self.server.ctl("change_password", "trader", password)
        self.server.ctl("close_all_user_connections", "trader", "rotated")


@pytest.fixture(params=["redis", "rabbitmq"])
def guarded(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    if request.param == "redis":
        with RedisServer() as server:
            yield Guarded(server)
    else:
        yield Guarded(request.getfixturevalue("rabbitmq"))


def test_a_password_that_changes_takes_no_restart(
    guarded: Guarded, tmp_path: Path, run: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "system.yaml"

    def write(url: str) -> None:
        file.write_text(
            f"event_bus:\n  implementation: {guarded.name}\n  connection_string: {url}\n"
            "  channel_prefix: rotated\n"
        )

    write(guarded.url("first"))

    async def main() -> None:
        async with Framework.from_config(file) as framework:
            bus = framework.bus
            seen: list[int] = []
            bus.subscribe("market_data.*", lambda event: seen.append(event.payload), group="g")
            await bus.ready()
            await bus.publish("market_data.price", 1)
            await until(lambda: seen == [1])

            await asyncio.to_thread(guarded.change, "second")
            await until(lambda: bus.trouble)
            with pytest.raises(ConfigurationError, match="password") as refused:
                await bus.publish("market_data.price", 2)
            assert "first" not in str(refused.value)

            write(guarded.url("second"))
            assert await framework.reload() == ["event_bus.connection_string"]
            await until(lambda: bus.trouble is None)
            await bus.publish("market_data.price", 3)
            await until(lambda: 3 in seen)

            # Another place is for the next start.
            write("redis://127.0.0.1:1/0" if guarded.name == "redis" else "amqp://127.0.0.1:1")
            await framework.reload()
            await bus.publish("market_data.price", 4)
            await until(lambda: 4 in seen)

    run(main())
    printed = "".join(capfd.readouterr())
    assert "leads to another broker than the one in use" in printed
    assert "first" not in printed
    assert "second" not in printed.replace("seconds", "")


def test_a_wrong_password_is_not_tried_again_and_again(run: Any) -> None:
    """An account would be locked for it; with another password it is tried at once."""
    with RedisServer("--requirepass", "right") as server:
        client = server.client(password="right")

        def tries() -> int:
            commands: Any = client.info("commandstats")
            return sum(
                commands.get(f"cmdstat_{name}", {}).get("failed_calls", 0)
                for name in ("auth", "hello")
            )

        async def main() -> None:
            bus = EventBus(url=server.url.replace("//", "//:wrong@"))
            for category in ("orders", "news", "prices"):
                bus.subscribe(f"{category}.*", lambda event: None, group="g")
                bus.subscribe(f"{category}.*", lambda event: None)
            with pytest.raises(ConfigurationError):
                await bus.ready(5)
            refused = 0
            loop = asyncio.get_running_loop()
            end = loop.time() + 3  # time for all readers to try more than once
            while loop.time() < end:
                with pytest.raises(ConfigurationError, match="password"):
                    await bus.publish("orders.placed", 1)
                refused += 1
            assert refused > 5, "whoever asks hears it each time"
            await bus.close(0)

        run(main())
        # Those who tried at the same time, before the first answer.
        assert 1 <= tries() <= 15


def test_a_replica_whose_master_is_gone_is_waited_for(run: Any) -> None:
    """It answers nothing but that; once it is a master itself, all is well."""
    lonely = ("--replicaof", "127.0.0.1", str(free_port()))
    with RedisServer(*lonely, "--replica-serve-stale-data", "no") as server:

        async def main() -> None:
            bus = EventBus(url=server.url, connect_timeout=0.5)
            with pytest.raises(DependencyError, match="Link with MASTER is down"):
                await bus.ready()
            server.client().execute_command("REPLICAOF", "NO", "ONE")
            await bus.ready(10)
            await bus.publish("market_data.price", 1)
            await bus.close(1)

        run(main())
