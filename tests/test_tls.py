"""TLS to brokers: verified, with a CA or a certificate of one's own, and clear when it fails."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from brokers import certificates, rabbitmq_server, redis_server
from brokers.certificates import Certificates
from brokers.rabbitmq_server import RabbitMqServer
from brokers.redis_server import RedisServer, free_port
from brokers.waiting import until
from tiebeam import ConfigurationError, DependencyError, EventBus, Framework
from tiebeam.conformance import CASES, check_case

pytestmark = [pytest.mark.broker, certificates.NEEDED]


@dataclass
class Papers:
    """What both sides show and trust."""

    ca: Certificates
    server: tuple[Path, Path]
    client: tuple[Path, Path]

    @property
    def trusting(self) -> dict[str, Any]:
        """For a client that shows nothing."""
        return {"ca_file": self.ca.ca}

    @property
    def known(self) -> dict[str, Any]:
        """For one that shows who it is."""
        return {**self.trusting, "cert_file": self.client[0], "key_file": str(self.client[1])}

    def redis(self, server: tuple[Path, Path] | None = None, clients: str = "no") -> RedisServer:
        """A server that speaks TLS alone."""
        options = ("--tls-ca-cert-file", str(self.ca.ca), "--tls-auth-clients", clients)
        return RedisServer(*options, tls=server or self.server)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    ca = Certificates(tmp_path_factory.mktemp("tls") / "ours")
    return Papers(ca, ca.sign("server"), ca.sign("client"))


@pytest.fixture(scope="module")
def redis(papers: Papers) -> Iterator[RedisServer]:
    with papers.redis() as server:
        yield server


@pytest.fixture(scope="module")
def rabbitmq(papers: Papers) -> Iterator[tuple[RabbitMqServer, str]]:
    """A broker that asks for certificates, and the URL that goes with it."""
    port = free_port()
    settings = [
        f"listeners.ssl.1 = 127.0.0.1:{port}",
        f"ssl_options.cacertfile = {papers.ca.ca}",
        f"ssl_options.certfile = {papers.server[0]}",
        f"ssl_options.keyfile = {papers.server[1]}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
    ]
    with RabbitMqServer(*settings) as server:
        yield server, f"amqps://guest:guest@localhost:{port}"


async def goes_all_ways(url: str, tls: dict[str, Any]) -> None:
    """Publish, consume, request, send: each over the broker."""
    async with (
        EventBus("here", url=url, tls=tls) as here,
        EventBus("there", url=url, tls=tls) as there,
    ):
        seen: asyncio.Queue[int] = asyncio.Queue()

        @there.subscribe("market_data.*", group="readers")
        async def read(event: Any) -> None:
            await seen.put(event.payload)

        @there.respond("answers.double")
        async def double(event: Any) -> int:
            return int(event.payload) * 2

        await there.ready()
        for number in range(200):
            here.publish("market_data.price", number)
        assert [await seen.get() for _ in range(200)] == list(range(200))
        assert await here.request("answers.double", 21) == 42
    assert here.books().balanced
    assert there.books().balanced


async def refusal(url: str, tls: dict[str, Any] | None) -> str:
    """Why the broker cannot be used; said at once, and not after ten seconds of tries."""
    bus = EventBus(url=url, tls=tls)
    with pytest.raises(ConfigurationError) as caught:
        await asyncio.wait_for(bus.ready(), 8)
    await bus.close(0)
    return str(caught.value)


@redis_server.NEEDED
def test_redis_goes_all_ways(redis: RedisServer, papers: Papers, run: Any) -> None:
    run(goes_all_ways(redis.url, papers.trusting))


@redis_server.NEEDED
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_redis_does_what_every_transport_does(
    case: Any, redis: RedisServer, papers: Papers, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What this system trusts, where it is asked: as OpenSSL does it.
    monkeypatch.setenv("SSL_CERT_FILE", str(papers.ca.ca))
    monkeypatch.setenv("SSL_CERT_DIR", str(papers.ca.folder / "none"))
    result = run(check_case(case, redis.url))
    assert result.outcome == "passed", result.reason


@redis_server.NEEDED
def test_a_server_that_comes_back_is_reached_again(papers: Papers, run: Any) -> None:
    async def main() -> None:
        with papers.redis() as server:
            async with EventBus(url=server.url, tls=papers.trusting) as bus:
                seen: list[int] = []
                bus.subscribe("market_data.*", lambda e: seen.append(e.payload), group="readers")
                await bus.ready()
                await bus.publish("market_data.price", 0)
                server.kill()
                waiting = [bus.publish("market_data.price", number) for number in range(1, 50)]
                await until(lambda: bus.trouble)
                server.launch()
                await asyncio.gather(*waiting)
                await until(lambda: len(seen) >= 50)
                assert seen == list(range(50))

    run(main())


@redis_server.NEEDED
def test_a_server_may_want_a_certificate(papers: Papers, run: Any, tmp_path: Path) -> None:
    with papers.redis(clients="yes") as server:
        run(goes_all_ways(server.url, papers.known))
        together = tmp_path / "both.pem"
        together.write_bytes(papers.client[0].read_bytes() + papers.client[1].read_bytes())
        run(goes_all_ways(server.url, {**papers.trusting, "cert_file": together}))
        said = run(refusal(server.url, papers.trusting))
        assert "wants a certificate" in said
        assert "cert_file" in said
        stranger = Certificates(tmp_path / "stranger").sign("stranger")
        foreign = {"cert_file": stranger[0], "key_file": stranger[1]}
        said = run(refusal(server.url, {**papers.trusting, **foreign}))
        assert "does not trust our certificate" in said


@redis_server.NEEDED
def test_what_cannot_be_trusted_is_said(papers: Papers, redis: RedisServer, run: Any) -> None:
    said = run(refusal(redis.url, None))
    assert "CA that is not trusted" in said
    assert "ca_file" in said
    expired = papers.ca.sign("expired", expired=True)
    with papers.redis(expired) as server:
        assert "has expired" in run(refusal(server.url, papers.trusting))
    elsewhere = papers.ca.sign("elsewhere", hosts="DNS:elsewhere.example")
    with papers.redis(elsewhere) as server:
        said = run(refusal(server.url, papers.trusting))
        assert "for another host" in said
        assert "elsewhere.example" in said


@redis_server.NEEDED
def test_one_side_without_tls_is_told_so(papers: Papers, redis: RedisServer, run: Any) -> None:
    async def trouble(url: str, tls: dict[str, Any] | None) -> str:
        bus = EventBus(url=url, tls=tls)
        with pytest.raises((ConfigurationError, DependencyError)) as caught:
            await bus.ready(2)
        await bus.close(0)
        return str(caught.value)

    plain = redis.url.replace("rediss", "redis")
    assert "`rediss://`" in run(trouble(plain, None))
    with RedisServer() as server:
        # Redis waits for the end of a line that a handshake may never have.
        said = run(trouble(server.url.replace("redis://", "rediss://"), papers.trusting))
        assert "TLS" in said


@rabbitmq_server.NEEDED
def test_rabbitmq_goes_all_ways(
    rabbitmq: tuple[RabbitMqServer, str], papers: Papers, run: Any
) -> None:
    run(goes_all_ways(rabbitmq[1], papers.known))


@rabbitmq_server.NEEDED
def test_rabbitmq_says_what_is_wrong(
    rabbitmq: tuple[RabbitMqServer, str], papers: Papers, run: Any
) -> None:
    server, url = rabbitmq
    assert "wants a certificate" in run(refusal(url, papers.trusting))
    assert "CA that is not trusted" in run(refusal(url, None))
    plain = server.url.replace("amqp://", "amqps://")
    assert "does not speak TLS" in run(refusal(plain, papers.trusting))


def test_files_are_read_at_once(papers: Papers, tmp_path: Path) -> None:
    url = "rediss://u:canary@localhost:1"
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n")
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    certificate, key = papers.client
    for tls, what in [
        ({"ca_file": tmp_path / "none.pem"}, "cannot read"),
        ({"ca_file": tmp_path}, "cannot read"),
        ({"ca_file": empty}, "has no certificate"),
        ({"key_file": key}, "key_file goes with cert_file"),
        ({"cert_file": certificate}, "has no private key"),
        ({"cert_file": certificate, "key_file": papers.server[1]}, "is not that of"),
        ({"cert_file": certificate, "key_file": encrypted}, "is encrypted"),
    ]:
        for broker in (url, url.replace("rediss", "amqps")):
            with pytest.raises(ConfigurationError, match=what) as caught:
                EventBus(url=broker, tls=tls)
            assert "canary" not in str(caught.value)


def test_what_is_no_tls_is_refused(papers: Papers) -> None:
    with pytest.raises(ValueError, match='did you mean "ca_file"'):
        EventBus(url="rediss://localhost", tls={"cafile": "x"})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(TypeError, match="ca_file is the path of a file, got int"):
        EventBus(url="rediss://localhost", tls={"ca_file": 1})  # type: ignore[typeddict-item]
    with pytest.raises(TypeError, match="tls is a dict"):
        EventBus(url="rediss://localhost", tls=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give url= too"):
        EventBus(tls={"ca_file": papers.ca.ca})
    with pytest.raises(ConfigurationError, match="rediss://"):
        EventBus(url="redis://localhost", tls={"ca_file": papers.ca.ca})
    with pytest.raises(ConfigurationError, match="always verified"):
        EventBus(url="rediss://localhost/0#insecure")


@redis_server.NEEDED
def test_a_configuration_says_it_too(
    redis: RedisServer, papers: Papers, tmp_path: Path, run: Any
) -> None:
    section: dict[str, Any] = {
        "implementation": "redis",
        "connection_string": redis.url,
        "tls": {"ca_file": str(papers.ca.ca)},
    }

    async def main() -> None:
        async with Framework({"event_bus": section}) as framework:
            assert framework.bus.capabilities["name"] == "redis"
            await framework.bus.publish("market_data.price", 1)

    run(main())
    section["tls"] = {"ca_file": str(tmp_path / "none.pem")}
    with pytest.raises(ConfigurationError, match="cannot read"):
        Framework({"event_bus": section})


class Impostor:
    """Something that shows a certificate, and says nothing after that."""

    def __init__(self, certificate: tuple[Path, Path]) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate)

    async def __aenter__(self) -> str:
        async def shows(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        self._server = await asyncio.start_server(shows, "127.0.0.1", 0, ssl=self._context)
        return f"amqps://guest:guest@localhost:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()


def test_what_cannot_be_trusted_is_said_of_rabbitmq_too(papers: Papers, run: Any) -> None:
    async def said_of(certificate: tuple[Path, Path], tls: dict[str, Any] | None) -> str:
        async with Impostor(certificate) as url:
            return await refusal(url, tls)

    assert "has expired" in run(said_of(papers.ca.sign("expired", expired=True), papers.trusting))
    elsewhere = papers.ca.sign("elsewhere", hosts="DNS:elsewhere.example")
    said = run(said_of(elsewhere, papers.trusting))
    assert "for another host" in said
    assert "elsewhere.example" in said
    assert "CA that is not trusted" in run(said_of(papers.server, None))


@rabbitmq_server.NEEDED
def test_one_side_without_tls_is_told_so_by_rabbitmq_too(
    rabbitmq: tuple[RabbitMqServer, str], papers: Papers, run: Any
) -> None:
    async def trouble(url: str, tls: dict[str, Any] | None) -> str:
        bus = EventBus(url=url, tls=tls)
        with pytest.raises((ConfigurationError, DependencyError)) as caught:
            await bus.ready(2)
        await bus.close(0)
        return str(caught.value)

    server, secure = rabbitmq
    said = run(trouble(secure.replace("amqps://", "amqp://"), None))
    assert "RabbitMQ" in said
    assert "guest:guest" not in said
    said = run(trouble(server.url.replace("amqp://", "amqps://"), papers.trusting))
    assert "TLS" in said
