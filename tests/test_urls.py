"""What a URL of a broker may say, on real brokers, and what is refused."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from brokers import rabbitmq_server, redis_server
from brokers.rabbitmq_server import RabbitMqServer
from brokers.redis_server import RedisServer, free_port
from brokers.waiting import until
from tiebeam import ConfigurationError, EventBus, Framework

ODD = "p@ss/w:o?r#d%41 ü"
"""A password with all that means something in a URL."""
ENCODED = "p%40ss%2Fw%3Ao%3Fr%23d%2541%20%C3%BC"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def works(url: str) -> None:
    """Publish and consume."""
    async with EventBus(url=url) as bus:
        seen = asyncio.Event()

        @bus.subscribe("market_data.*", group="readers")
        async def read(_event: Any) -> None:
            seen.set()

        await bus.ready()
        await bus.publish("market_data.price", 1)
        await seen.wait()


async def refusal(url: str) -> str:
    """Why a broker is of no use, said at once."""
    bus = EventBus(url=url)
    with pytest.raises(ConfigurationError) as caught:
        await asyncio.wait_for(bus.ready(), 8)
    await bus.close(0)
    return str(caught.value)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("s")
    os.chmod(folder, 0o700)
    options = ["--unixsocket", str(folder / "a b.sock"), "--requirepass", ODD]
    options += ["--user", "trader", "on", f">{ODD}", "~*", "&*", "+@all"]
    if has_ipv6():
        options += ["--bind", "127.0.0.1", "::1"]
    with RedisServer(*options) as server:
        yield server


@pytest.fixture
def path(redis: RedisServer) -> str:
    return redis.options[1].replace(" ", "%20")


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMqServer]:
    # Its configuration has no `#` in a value, and no Unicode; the rest is the same.
    settings = [f"default_pass = {ODD.replace('#', '').replace(' ü', '')}"]
    settings += ["default_user = trader/1", "default_vhost = a/b"]
    with RabbitMqServer(*settings) as server:
        yield server


@pytest.fixture
def login() -> str:
    return "trader%2F1:" + ENCODED.replace("%23", "").replace("%20%C3%BC", "")


@pytest.mark.broker
@redis_server.NEEDED
class TestRedis:
    def test_a_password_alone(self, redis: RedisServer, run: Any) -> None:
        run(works(f"redis://:{ENCODED}@127.0.0.1:{redis.port}/0"))

    def test_a_user_of_its_own(self, redis: RedisServer, run: Any) -> None:
        run(works(f"redis://trader:{ENCODED}@localhost:{redis.port}?db=1"))

    def test_a_socket(self, redis: RedisServer, path: str, run: Any) -> None:
        run(works(f"unix://{path}?db=1&password={ENCODED}"))
        run(works(f"redis+unix://trader:{ENCODED}@{path}"))

    @pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
    def test_an_address_of_version_6(self, redis: RedisServer, run: Any) -> None:
        run(works(f"redis://:{ENCODED}@[::1]:{redis.port}/0"))

    def test_a_wrong_password_is_no_secret_either(self, redis: RedisServer, run: Any) -> None:
        said = run(refusal(f"redis://:canary%40@127.0.0.1:{redis.port}/0"))
        assert "password" in said
        assert "canary" not in said

    def test_one_of_a_cluster_is_told_from_others(self, run: Any) -> None:
        ours, bus = ("--cluster-enabled", "yes", "--cluster-port"), free_port()
        with (
            RedisServer(*ours, str(free_port())) as here,
            RedisServer(*ours, str(bus)) as there,
            here.client() as one,
            there.client() as other,
        ):
            one.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 1)
            other.execute_command("CLUSTER", "ADDSLOTSRANGE", 2, 16383)
            one.execute_command("CLUSTER", "MEET", "127.0.0.1", there.port, bus)

            async def refused() -> str:
                await until(lambda: one.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
                bus = EventBus(url=here.url)
                with pytest.raises(ConfigurationError) as caught:
                    await bus.ready()
                await bus.close(0)
                return str(caught.value)

            assert "its URL begins with `redis+cluster://`" in run(refused())


@pytest.mark.broker
@rabbitmq_server.NEEDED
class TestRabbitMq:
    def test_all_that_means_something(self, rabbitmq: RabbitMqServer, login: str, run: Any) -> None:
        run(works(f"amqp://{login}@localhost:{rabbitmq.port}/a%2Fb"))

    def test_what_it_refuses(self, rabbitmq: RabbitMqServer, login: str, run: Any) -> None:
        said = run(refusal(f"amqp://{login}canary@localhost:{rabbitmq.port}/a%2Fb"))
        assert "check user, password and vhost" in said
        assert "canary" not in said


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("redis://u:canary/1@h", "%2F"),
        ("amqp://u:canary/1@h", "%2F"),
        ("amqp://u:canary@h/a/b", "`/` in its vhost"),
        ("amqps://u:canary@h?cafile=x", "ca_file"),
        ("amqp://u:canary@h?heartbeet=3", "did you mean `heartbeat`"),
        ("redis+cluster://u:canary@a,b/1", "a cluster has no other than 0"),
        ("redis-cluster://u:canary@h", "did you mean `redis\\+cluster://`"),
        ("redis-sentinel://u:canary@h/m", "did you mean `redis\\+sentinel://`"),
        ("u:canary@h", "begins with `redis://`"),
    ],
)
def test_what_no_url_may_say(url: str, what: str) -> None:
    with pytest.raises(ConfigurationError, match=what) as caught:
        EventBus(url=url)
    assert "canary" not in str(caught.value)


def test_a_heartbeat_is_for_rabbitmq() -> None:
    EventBus(url="amqp://localhost", heartbeat=3).close_sync(0)
    for heartbeat in (0, 0.5, 1.5, 70_000):
        with pytest.raises(ConfigurationError, match="whole seconds"):
            EventBus(url="amqp://localhost", heartbeat=heartbeat)
    with pytest.raises(ValueError, match="heartbeat= goes with RabbitMQ"):
        EventBus(url="redis://localhost", heartbeat=3)
    with pytest.raises(ValueError, match="give url= too"):
        EventBus(heartbeat=3)


def test_a_configuration_refuses_them_with_their_place() -> None:
    section = {"implementation": "redis", "connection_string": "redis+ring://u:canary@h"}
    with pytest.raises(ConfigurationError, match="`redis\\+cluster://`") as caught:
        Framework({"event_bus": section})
    assert "event_bus.connection_string" in str(caught.value)
    assert "canary" not in str(caught.value)
