"""A broker whose memory is full: what is published fails in time, what is there is handled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import redis_server
from brokers.redis_server import RedisServer
from brokers.waiting import until
from tiebeam import Event, EventBus
from tiebeam.exceptions import DependencyError, TiebeamError

pytestmark = [pytest.mark.broker, redis_server.NEEDED]

DEAD = "{tiebeam}:dead"
STREAM = "{tiebeam:orders:0}"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_publishing_fails_in_time_while_consuming_goes_on_and_works_again(
    server: RedisServer, run: Any
) -> None:
    async def main() -> None:
        gate, seen = asyncio.Event(), []

        async def handle(event: Event) -> None:
            await gate.wait()
            seen.append(event.payload["n"])

        async with EventBus("p", url=server.url, outbox={"timeout": 1.0}) as bus:
            bus.subscribe("orders.placed", handle, group="g")
            await bus.ready()
            for n in range(300):
                await bus.publish("orders.placed", {"n": n})
            server.client().config_set("maxmemory", 1)
            with pytest.raises(TiebeamError, match="OOM") as caught:
                await bus.publish("orders.placed", {"n": 300})
            assert caught.value.category in ("transient", "dependency")
            assert isinstance(caught.value, DependencyError)
            assert bus.trouble is not None
            gate.set()
            await until(lambda: len(seen) == 300)
            assert sorted(seen) == list(range(300))
            server.client().config_set("maxmemory", 0)
            await bus.publish("orders.placed", {"n": 301})
            await until(lambda: 301 in seen)
            await until(lambda: bus.trouble is None)

    run(main())
    assert server.client().xpending(STREAM, "g")["pending"] == 0


def test_a_server_that_cannot_write_its_file_takes_nothing_until_it_can(
    run: Any, tmp_path: Path
) -> None:
    async def main(server: RedisServer, folder: Path) -> None:
        seen: list[int] = []
        async with EventBus("p", url=server.url, outbox={"timeout": 1.0}) as bus:
            bus.subscribe("orders.placed", lambda event: seen.append(event.payload), group="g")
            await bus.ready()
            await bus.publish("orders.placed", 0)
            client = server.client()
            in_its_way = folder / "dump.rdb"
            in_its_way.mkdir()
            client.config_set("save", "1 1")
            client.bgsave()
            await until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
            with pytest.raises(DependencyError, match="MISCONF"):
                await bus.publish("orders.placed", 1)
            assert "MISCONF" in str(bus.trouble)
            in_its_way.rmdir()
            client.bgsave()
            await until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok")
            await bus.publish("orders.placed", 2)
            await until(lambda: 2 in seen)
            assert seen == [0, 2]
            await until(lambda: bus.trouble is None)

    with RedisServer("--appendonly", "no", "--dir", str(tmp_path)) as server:
        run(main(server, tmp_path))


def test_what_is_at_work_stays_with_whoever_is_at_work_on_it(server: RedisServer, run: Any) -> None:
    """Handlers slower than claim_idle, beside one event that becomes a dead letter, for which
    there is no memory either: nothing is taken over, and nothing handled twice."""

    async def main() -> None:
        begun: list[int] = []
        done: list[int] = []
        full = asyncio.Event()

        async def handle(event: Event) -> None:
            n = event.payload["n"]
            begun.append(n)
            if n == 0:
                await full.wait()
                raise RuntimeError("it is of no use")
            await asyncio.sleep(1.5)  # the work, five times claim_idle
            done.append(n)

        options: dict[str, Any] = {"url": server.url, "claim_idle": 0.3}
        buses = [EventBus(name, **options) for name in ("a", "b")]
        for bus in buses:
            bus.subscribe("orders.placed", handle, group="g", concurrency=8, retry=False)
        async with buses[0], buses[1], EventBus("p", url=server.url) as publisher:
            for n in range(1, 12):
                await publisher.publish("orders.placed", {"n": n}, key=str(n))
            await publisher.publish("orders.placed", {"n": 0}, key="0")
            await until(lambda: len(begun) == 12)
            client = server.client()
            client.config_set("maxmemory", 1)
            full.set()
            assert client.xlen(DEAD) == 0
            await until(lambda: len(done) == 11)
            await until(lambda: client.xpending(STREAM, "g")["pending"] == 1)
            # Nobody got any of it a second time, though it was a long while to them.
            assert sorted(begun) == list(range(12))
            client.config_set("maxmemory", 0)
            await until(lambda: client.xpending(STREAM, "g")["pending"] == 0)
            assert client.xlen(DEAD) == 1
            assert sorted(begun) == list(range(12))

    run(main())
