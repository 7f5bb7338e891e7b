"""A broker that is not there, is none, or will not: an error that says so, in time."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from brokers import redis_server
from brokers.redis_server import RedisServer, free_port
from brokers.waiting import until
from tiebeam import EventBus
from tiebeam.exceptions import (
    ConfigurationError,
    DependencyError,
    PermanentError,
    TiebeamError,
)

from faults.proxy import HTTP

pytestmark = [pytest.mark.broker, redis_server.NEEDED]

CANARY = "canary-d41d8cd98f"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@contextlib.asynccontextmanager
async def a_port_that_says(what: bytes | None) -> AsyncIterator[int]:
    """Somebody who says this to whoever says anything, without end or, as ``None``, nothing."""

    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError):
            while await reader.read(4096):
                if what is not None:
                    writer.write(what)
                    await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    own, before = asyncio.current_task(), asyncio.all_tasks()
    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for writer in writers:
            writer.transport.abort()
        await until(lambda: not any(t is not own for t in asyncio.all_tasks() - before))


async def refusal(url: str, limit: float) -> tuple[TiebeamError, float]:
    """What whoever waits for a bus there is told, and after how long."""
    bus = EventBus("b", url=url, outbox={"timeout": limit})
    bus.subscribe("orders.placed", lambda event: None, group="g")
    began = time.monotonic()
    try:
        with pytest.raises(TiebeamError) as caught:
            await bus.ready(limit)
        return caught.value, time.monotonic() - began
    finally:
        await bus.close(0.0)


def test_a_wrong_password_fails_at_once_and_is_shown_nowhere(run: Any, capfd: Any) -> None:
    with RedisServer("--requirepass", "right") as server:
        url = f"redis://:{CANARY}@127.0.0.1:{server.port}/0"

        async def main() -> list[str]:
            bus = EventBus("b", url=url)
            bus.subscribe("orders.placed", lambda event: None, group="g")
            began = time.monotonic()
            with pytest.raises(ConfigurationError) as caught:
                async with bus:
                    pass
            assert time.monotonic() - began < 1.0
            error = caught.value
            shown = [str(error), repr(error), repr(error.context), repr(bus), str(bus.books())]
            return [*shown, *traceback.format_exception(error)]

        shown = run(main())
        assert any("user and password" in text for text in shown)
        printed = capfd.readouterr()
        for text in (*shown, printed.out, printed.err):
            assert CANARY not in text


def test_without_a_broker_entering_the_bus_fails_within_its_limit(run: Any, capfd: Any) -> None:
    url = f"redis://:{CANARY}@127.0.0.1:{free_port()}/0"

    async def entering() -> tuple[TiebeamError, float]:
        began = time.monotonic()
        with pytest.raises(DependencyError) as caught:
            async with EventBus("b", url=url):
                pass
        return caught.value, time.monotonic() - began

    async def main() -> None:
        (slow, within), (fast, sooner) = await asyncio.gather(entering(), refusal(url, 0.5))
        assert within < 12.0
        assert isinstance(fast, DependencyError)
        assert sooner < 1.5
        for error in (slow, fast):
            assert "running and reachable" in str(error)
            assert CANARY not in "".join(traceback.format_exception(error))
        printed = capfd.readouterr()
        assert CANARY not in printed.out + printed.err

    run(main())


TO_ALL = {"http": HTTP, "bytes": b"\x00\xff\x13\x37" * 64, "silence": None}
TO_REDIS = {
    "a length without end": b"$999999999999\r\n",
    "an array without end": b"*2147483647\r\n",
    "arrays in arrays": b"*1\r\n" * 4000,
}
TO_RABBIT = {
    "another version": b"AMQP\x00\x01\x00\x00",
    "a frame without end": b"\x01\x00\x00\xff\xff\xff\xff" + b"\x00" * 64,
}


@pytest.mark.parametrize(
    ("scheme", "said"),
    [
        pytest.param(scheme, said, id=f"{scheme}: {name}")
        for scheme, own in (("redis", TO_REDIS), ("amqp", TO_RABBIT))
        for name, said in {**TO_ALL, **own}.items()
    ],
)
def test_what_is_no_broker_is_an_error_and_no_crash(
    scheme: str, said: bytes | None, run: Any
) -> None:
    async def main() -> None:
        async with a_port_that_says(said) as port:
            url = f"{scheme}://127.0.0.1:{port}/0"
            error, after = await refusal(url, 1.0)
            assert error.category in ("dependency", "permanent"), repr(error)
            assert after < 2.0
            bus = EventBus("b", url=url, outbox={"timeout": 0.5})
            began = time.monotonic()
            with pytest.raises((DependencyError, PermanentError)):
                await bus.publish("orders.placed", {"n": 1})
            assert time.monotonic() - began < 1.5
            await bus.close(0.0)

    run(main())


def test_a_key_that_somebody_else_uses_is_a_clear_and_permanent_error(
    server: RedisServer, run: Any
) -> None:
    server.client().set("{tiebeam:orders:0}", "theirs")

    async def main() -> None:
        async with EventBus("b", url=server.url) as bus:
            began = time.monotonic()
            with pytest.raises(PermanentError, match="WRONGTYPE"):
                await bus.publish("orders.placed", {"n": 1})
            bus.subscribe("orders.placed", lambda event: None, group="g")
            with pytest.raises(PermanentError, match="WRONGTYPE"):
                await bus.ready()
            assert time.monotonic() - began < 2.0
            await bus.publish("others.placed", {"n": 1})  # what is ours works as before

    run(main())
    assert server.client().get("{tiebeam:orders:0}") == "theirs"
