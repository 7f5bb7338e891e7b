"""Redis with sentinels: found through any of them, and followed when the master changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import certificates
from brokers.certificates import Certificates
from brokers.redis_server import NEEDED, RedisServer
from brokers.sentinels import NAME, Sentinels
from brokers.waiting import until
from tiebeam import ConfigurationError, DependencyError, EventBus, OutcomeUnknown

pytestmark = [pytest.mark.broker, NEEDED]

STREAM = "{tiebeam:market_data:0}"


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    with Sentinels() as sentinels:
        yield sentinels


class Traffic:
    """A publisher that never stops, and what became of its events."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        self.number = 0
        self.accepted: list[int] = []
        self.unknown: list[int] = []
        self.handled: list[int] = []
        self._stopping = False

    def handle(self, event: Any) -> None:
        self.handled.append(event.payload)

    async def flow(self) -> None:
        """Publish, one round trip at a time."""
        while not self._stopping:
            self.number += 1
            number = self.number
            try:
                await self.bus.publish("market_data.price", number)
                self.accepted.append(number)
            except OutcomeUnknown:
                self.unknown.append(number)

    async def goes_on(self) -> None:
        """Wait until another hundred events were accepted and handled."""
        accepted, handled = len(self.accepted) + 100, len(self.handled) + 100
        await until(lambda: len(self.accepted) >= accepted and len(self.handled) >= handled, 25)

    def stop(self) -> None:
        self._stopping = True


def stored(sentinels: Sentinels, which: int) -> set[int]:
    with sentinels.client(which) as client:
        return {json.loads(fields["data"])["payload"] for _, fields in client.xrange(STREAM)}


@pytest.mark.slow
def test_a_failover_is_followed(sentinels: Sentinels) -> None:
    async def main() -> None:
        url = sentinels.url
        async with EventBus("here", url=url) as here, EventBus("there", url=url) as there:
            traffic = Traffic(here)
            there.subscribe("market_data.*", traffic.handle, group="readers")
            await there.ready()
            flowing = asyncio.create_task(traffic.flow())

            await traffic.goes_on()
            assert sentinels.master() == 0
            safe = len(traffic.accepted)
            await asyncio.to_thread(sentinels.replicated, 0)
            sentinels.servers[0].kill()
            await traffic.goes_on()
            assert sentinels.master() == 1

            # The old one comes back as a replica, and is made the master again while both live:
            # whoever writes to the other one hears READONLY.
            await asyncio.to_thread(sentinels.come_back, 0)
            await until(sentinels.all_fit, 25)
            await traffic.goes_on()
            await asyncio.to_thread(sentinels.replicated, 1)
            sentinels.fail_over()
            await until(lambda: sentinels.master() == 0, 25)
            await traffic.goes_on()

            traffic.stop()
            await flowing
            there_now = stored(sentinels, 0)
            await until(lambda: there_now <= set(traffic.handled), 25)
            # What the replica had is handled, and what it had not is all that was lost.
            lost = set(traffic.accepted) - set(traffic.handled)
            assert not lost & there_now
            assert not lost & set(traffic.accepted[:safe])
            assert len(lost) <= 10, f"replication is never that far behind: {sorted(lost)}"
            assert len(traffic.handled) == len(set(traffic.handled))
            assert traffic.handled == sorted(traffic.handled)
            assert here.trouble is None

    asyncio.run(asyncio.wait_for(main(), 120))


@certificates.NEEDED
def test_all_of_them_by_tls(tmp_path: Path, run: Any) -> None:
    ca = Certificates(tmp_path)
    with Sentinels((ca.ca, *ca.sign("server"))) as sentinels:

        async def main() -> None:
            tls: Any = {"ca_file": ca.ca}
            async with EventBus(url=sentinels.url, tls=tls) as bus:
                traffic = Traffic(bus)
                bus.subscribe("market_data.*", traffic.handle, group="readers")
                await bus.ready()
                flowing = asyncio.create_task(traffic.flow())
                await traffic.goes_on()
                sentinels.servers[0].kill()
                await traffic.goes_on()
                traffic.stop()
                await flowing
                assert sentinels.master() == 1
            stranger = EventBus(url=sentinels.url)
            with pytest.raises(ConfigurationError, match="CA that is not trusted"):
                await stranger.ready(8)
            await stranger.close(0)

        run(main())


def test_what_sentinels_refuse_is_said(sentinels: Sentinels, run: Any) -> None:
    async def refusal(url: str) -> str:
        bus = EventBus(url=url)
        with pytest.raises(ConfigurationError) as caught:
            await asyncio.wait_for(bus.ready(), 8)
        await bus.close(0)
        assert "pass@" not in str(caught.value)
        return str(caught.value)

    assert NAME == "the master"
    said = run(refusal(sentinels.url.replace("the%20master", "nobody")))
    assert "no master of the name" in said
    assert "`nobody`" in said
    said = run(refusal(sentinels.url.replace("sentinel%2Fpass", "wrong")))
    assert "sentinel_password" in said
    said = run(refusal(sentinels.url.replace("server%40pass", "wrong")))
    assert "user and password of the URL" in said


def test_no_sentinel_is_no_server(run: Any) -> None:
    async def main() -> None:
        bus = EventBus(url="redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster")
        with pytest.raises(DependencyError, match="reachable"):
            await bus.ready(0.5)
        await bus.close(0)

    run(main())


def test_a_master_without_replicas_is_waited_for(run: Any) -> None:
    async def main() -> None:
        with RedisServer("--min-replicas-to-write", "1") as server, server.client() as client:
            async with EventBus(url=server.url) as bus:
                receipt = bus.publish("market_data.price", 1)
                await until(lambda: bus.trouble)
                assert "NOREPLICAS" in str(bus.trouble)
                client.config_set("min-replicas-to-write", 0)
                await receipt
                assert client.xlen(STREAM) == 1

    run(main())
