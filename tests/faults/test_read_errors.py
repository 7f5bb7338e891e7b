"""What a Redis server has given out, and what got lost on its way, is read again at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from brokers import redis_server
from brokers.redis_server import RedisServer
from brokers.waiting import until
from tiebeam import Event, EventBus

from faults.proxy import Proxy

pytestmark = [pytest.mark.broker, redis_server.NEEDED]

STREAM = "{tiebeam:orders:0}"
CLAIM_IDLE = 60.0
"""For so long nobody takes over what was given to somebody, and he himself does not do it either:
before that, what got lost comes only to whoever asks once more for what he was given."""
SOON = 10.0

READ = 100
"""So many entries come with one read, at most."""
FILLER = "x" * 20_000
BEYOND = 15_000
"""Longer than any answer in which there is no event."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class Seen:
    """The number of each event that was handled, and how often it had been given out before."""

    def __init__(self) -> None:
        self.times: list[tuple[int, int]] = []

    def note(self, event: Event) -> None:
        self.times.append((event.payload["n"], event.metadata["retry_count"]))

    @property
    def numbers(self) -> list[int]:
        return sorted(n for n, _ in self.times)

    @property
    def again(self) -> int:
        """How often the one that was given out most was given out before."""
        return max(before for _, before in self.times)


def member(url: str, seen: Seen) -> EventBus:
    bus = EventBus("c", url=url, claim_idle=CLAIM_IDLE)
    bus.subscribe("orders.placed", seen.note, group="g")
    return bus


async def all_is_done(seen: Seen, count: int, client: Any) -> None:
    """Wait until so many were handled, and the server knows it."""

    def done() -> bool:
        return len(seen.times) >= count and client.xpending(STREAM, "g")["pending"] == 0

    await until(done, SOON)


async def publish(bus: EventBus, numbers: range) -> None:
    await asyncio.gather(
        *(bus.publish("orders.placed", {"n": n, "filler": FILLER}) for n in numbers)
    )


@pytest.mark.parametrize(
    ("which", "again"),
    [
        pytest.param({0}, 1, id="once"),
        pytest.param({0, 1}, 1, id="and what it would know of it"),
        pytest.param({0, 2}, 2, id="and when it comes again"),
        pytest.param({0, 2, 3}, 2, id="and what comes then"),
    ],
)
def test_a_read_that_is_cut_is_made_up_for_at_once(
    which: set[int], again: int, server: RedisServer, run: Any
) -> None:
    """The connection ends in the middle of the answer to a read, and so do others after it."""
    client, seen = server.client(), Seen()

    async def main(proxy: Proxy) -> None:
        async with member(proxy.url, seen), EventBus("p", url=server.url) as publisher:
            await publisher.publish("orders.placed", {"n": 0})
            await until(lambda: seen.numbers == [0])
            await until(lambda: client.info("clients")["blocked_clients"] == 1)
            proxy.cut(BEYOND, which)
            await publish(publisher, range(1, 51))
            await all_is_done(seen, 51, client)
        assert not proxy.to_cut
        assert seen.again >= again, "what was given out did not get lost: this shows nothing"
        assert seen.numbers == list(range(51))

    with Proxy(server.url) as proxy:
        run(main(proxy))


@pytest.mark.parametrize("piece", [0, 5, 60])
def test_a_read_of_many_is_made_up_for_while_what_came_before_is_at_work(
    piece: int, server: RedisServer, run: Any
) -> None:
    """There is more than comes with one read, each of which has dozens of pieces: the connection
    ends with the first one, in the middle, or when the next read is under way."""
    client, seen = server.client(), Seen()
    client.xgroup_create(STREAM, "g", "0", mkstream=True)

    async def main(proxy: Proxy) -> None:
        async with EventBus("p", url=server.url) as publisher:
            await publish(publisher, range(300))
        proxy.cut(BEYOND, {piece})
        async with member(proxy.url, seen):
            await all_is_done(seen, 300, client)
        assert not proxy.to_cut
        lost = sorted(n for n, before in seen.times if before)
        assert lost in [list(range(at, at + READ)) for at in range(0, 300, READ)]
        assert seen.again == 1
        assert seen.numbers == list(range(300))

    with Proxy(server.url) as proxy:
        run(main(proxy))
