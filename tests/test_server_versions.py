"""What a server of Redis says of itself is asked, and one that is too old is refused by name."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from brokers.redis_server import NEEDED, RedisServer
from brokers.waiting import until
from tiebeam import ConfigurationError, EventBus

pytestmark = pytest.mark.broker


def bulk(text: str) -> bytes:
    return f"${len(text)}\r\n{text}\r\n".encode()


def hello(version: str) -> Callable[[list[bytes]], bytes]:
    """A server that knows `HELLO`, as since 6.0."""
    pairs = ["server", "redis", "version", version, "mode", "standalone"]

    def answer(words: list[bytes]) -> bytes:
        if words[0] == b"HELLO":
            return f"*{len(pairs)}\r\n".encode() + b"".join(map(bulk, pairs))
        return b"-ERR unknown subcommand\r\n"

    return answer


def info(text: str) -> Callable[[list[bytes]], bytes]:
    """A server that knows only `INFO`."""

    def answer(words: list[bytes]) -> bytes:
        return bulk(text) if words[0] == b"INFO" else b"-ERR unknown command\r\n"

    return answer


@contextmanager
def old_server(answer: Callable[[list[bytes]], bytes]) -> Iterator[str]:
    """The URL of one that is not to be had any more: it answers what is asked, and does nothing."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                words = []
                for _ in range(int(line[1:])):
                    length = int(self.rfile.readline()[1:])
                    words.append(self.rfile.read(length + 2)[:-2])
                self.wfile.write(answer([words[0].upper(), *words[1:]]))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (hello("6.0.16"), "Redis 6.0.16"),
        (info("# Server\r\nredis_version:5.0.3\r\nredis_mode:standalone\r\n"), "Redis 5.0.3"),
    ],
    ids=["by_hello", "by_info"],
)
@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_one_that_is_too_old_is_refused_with_its_version(
    answer: Callable[[list[bytes]], bytes], named: str, scheme: str, run: Any
) -> None:
    async def main(url: str) -> None:
        bus = EventBus(url=url.replace("redis:", f"{scheme}:"))
        with pytest.raises(ConfigurationError, match=f"is {named}, and 6.2 or newer"):
            await bus.ready(8)
        # Whoever publishes without waiting for that hears it, too.
        with pytest.raises(ConfigurationError, match=r"6\.2 or newer"):
            await bus.publish("market_data.price", 1)
        await bus.close(0)

    with old_server(answer) as url:
        run(main(url))


@NEEDED
def test_one_that_says_nothing_of_itself_is_used(run: Any) -> None:
    async def main(url: str) -> None:
        async with EventBus(url=url) as bus:
            seen: list[int] = []
            bus.subscribe("market_data.*", lambda event: seen.append(event.payload), group="g")
            await bus.ready()
            await bus.publish("market_data.price", 1)
            await until(lambda: seen)
            assert bus.trouble is None

    # Nobody may be kept from `HELLO` by an ACL: its administrator has it named otherwise.
    options = ["--user", "default", "on", "nopass", "~*", "&*", "+@all", "-info"]
    with RedisServer(*options, "--rename-command", "HELLO", "") as server:
        with server.client() as client:
            for question in ("HELLO", "INFO"):
                with pytest.raises(redis.ResponseError):
                    client.execute_command(question)
        run(main(server.url))


@NEEDED
@pytest.mark.parametrize("policy", ["allkeys-lru", "noeviction"])
def test_one_that_takes_out_what_is_in_use_is_warned_of(policy: str, run: Any) -> None:
    async def main(url: str) -> list[str]:
        told: list[str] = []
        bus = EventBus(url=url)
        bus.subscribe(
            "system.transport.evicts", lambda e: told.append(e.payload["reason"]), run_in="inline"
        )
        async with bus:
            await bus.publish("market_data.price", 1)
            await bus.ready()  # which is no reason to say it again
        return told

    with RedisServer("--maxmemory", "100mb", "--maxmemory-policy", policy) as server:
        told = run(main(server.url))
    if policy == "noeviction":
        assert told == []
    else:
        (reason,) = told
        assert "maxmemory-policy allkeys-lru" in reason
        assert "noeviction" in reason


@NEEDED
def test_one_without_the_commands_is_refused_whatever_its_version(run: Any) -> None:
    async def main(url: str) -> None:
        bus = EventBus(url=url)
        with pytest.raises(ConfigurationError, match=r"and 6\.2 or newer is needed"):
            await bus.ready(8)
        await bus.close(0)

    with RedisServer("--rename-command", "XAUTOCLAIM", "") as server:
        run(main(server.url))
