"""Requests to other processes, when those end, are late, or have nobody to answer any more."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from brokers import redis_server
from brokers.waiting import GUARD, until
from tiebeam import ClosedError, Event, EventBus, RequestTimeout

pytestmark = pytest.mark.broker

LIMIT = 1.5
"""How long a request waits whose reply never comes."""

EXPIRES = 600
"""Seconds after which Redis forgets replies that nobody has fetched."""


@pytest.fixture
def site(server: Any) -> dict[str, Any]:
    """Where a bus of this test is."""
    return {"url": server.url, "prefix": f"remote-{uuid.uuid4().hex[:8]}"}


def reply_places(server: Any, site: dict[str, Any]) -> list[str]:
    """Where replies to processes of this test would come, or wait."""
    prefix = site["prefix"]
    if isinstance(server, redis_server.RedisServer):
        with server.client() as client:
            return [key for key in client.scan_iter(f"*{prefix}*") if f"{prefix}:reply:" in key]
    queues = server.ctl("list_queues", "name", "--no-table-headers").split()
    return [queue for queue in queues if queue.startswith(f"{prefix}.reply")]


# -- processes ----------------------------------------------------------------------------

RESPONDER = """
import asyncio, sys
from tiebeam import EventBus

async def main(url, prefix, mode):
    async with EventBus("answers", url=url, prefix=prefix, claim_idle=0.5) as bus:
        @bus.respond("price.get")
        async def price(event):
            print("asked", flush=True)
            if mode == "hangs":
                await asyncio.Event().wait()
            return {"n": event.payload["n"] * 2}

        await bus.ready()
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""

REQUESTER = """
import asyncio, sys
from tiebeam import EventBus

async def main(url, prefix):
    async with EventBus("asks", url=url, prefix=prefix) as bus:
        await bus.request("price.get", {"n": 1}, timeout=30)
        print("answered", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


class Process:
    """Another one, which says what it is at; it ends with the ``with`` block."""

    def __init__(self, script: str, site: dict[str, Any], *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, site["url"], site["prefix"], *words],
            stdout=subprocess.PIPE,
            text=True,
        )

    async def says(self, what: str) -> None:
        """Wait for the next line, which has to be this one."""
        assert self.process.stdout is not None
        reading = asyncio.to_thread(self.process.stdout.readline)
        assert await asyncio.wait_for(reading, GUARD) == f"{what}\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    async def __aenter__(self) -> Process:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


# -- responders that end ------------------------------------------------------------------


def test_a_responder_that_is_killed_costs_its_request_no_more_than_its_time(
    site: dict[str, Any], run: Any
) -> None:
    async def main() -> None:
        async with EventBus("asks", url=site["url"], prefix=site["prefix"]) as bus:
            async with Process(RESPONDER, site, "hangs") as first:
                await first.says("ready")
                begun = time.monotonic()
                asked = bus.request("price.get", {"n": 1}, timeout=LIMIT)
                await first.says("asked")
                first.kill()
                with pytest.raises(RequestTimeout, match=r"no reply to `price\.get`") as late:
                    await asked
                assert LIMIT - 0.05 < time.monotonic() - begun < LIMIT + 1.0
                assert (late.value.category, late.value.replies) == ("transient", 0)
                assert bus.books().pending_requests == 0
            # Who comes after it answers what is asked then, and nothing of before.
            async with Process(RESPONDER, site, "answers") as second:
                await second.says("ready")
                assert await bus.request("price.get", {"n": 2}, timeout=GUARD) == {"n": 4}
            assert bus.books().late_replies == 0
            assert bus.trouble is None

    run(main())


def test_another_responder_answers_what_a_killed_one_was_asked(
    site: dict[str, Any], run: Any
) -> None:
    """Where there is one, and time for it: `claim_idle` on Redis, at once on RabbitMQ."""

    async def main() -> None:
        async with (
            EventBus("asks", url=site["url"], prefix=site["prefix"]) as bus,
            Process(RESPONDER, site, "hangs") as first,
        ):
            await first.says("ready")
            asked = bus.request("price.get", {"n": 1}, timeout=20)
            await first.says("asked")
            async with Process(RESPONDER, site, "answers") as second:
                await second.says("ready")
                first.kill()
                assert await asked == {"n": 2}
            assert bus.books().late_replies == 0

    run(main())


# -- replies that are late ----------------------------------------------------------------


def test_a_late_reply_is_counted_and_given_to_nobody(site: dict[str, Any], run: Any) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        heard: list[str] = []

        async def answer(event: Event) -> dict[str, int]:
            if event.payload["n"] < 3:
                await gate.wait()
            return {"n": event.payload["n"]}

        async with EventBus("serves", **site) as serves, EventBus("asks", **site) as asks:
            serves.respond("price.get", answer, concurrency=10)
            asks.subscribe("#", lambda event: heard.append(event.event_type), broadcast=True)
            await serves.ready()
            await asks.ready()
            late = [asks.request("price.get", {"n": n}, timeout=0.5) for n in range(3)]
            for request in late:
                with pytest.raises(RequestTimeout):
                    await request
            assert asks.books().late_replies == 0
            gate.set()
            # While they come, others get what is theirs.
            replies = [asks.request("price.get", {"n": n}, timeout=GUARD) for n in range(3, 20)]
            assert [(await reply)["n"] for reply in replies] == list(range(3, 20))
            await until(lambda: asks.books().late_replies == 3)
            assert asks.books().pending_requests == 0
            for request in late:
                with pytest.raises(RuntimeError, match="awaited"):
                    await request
            assert not [topic for topic in heard if topic.startswith("price")]
            assert asks.books().balanced

    run(main())


# -- what is left on the broker -----------------------------------------------------------


@pytest.fixture
def answers(server: Any, site: dict[str, Any]) -> Iterator[EventBus]:
    """Somebody who answers."""
    with EventBus("serves", **site) as bus:
        bus.respond("price.get", lambda event: {"n": event.payload["n"]})
        bus.ready_sync()
        yield bus


def test_nothing_is_left_of_the_replies_to_one_that_closes(
    server: Any, site: dict[str, Any], answers: EventBus, run: Any
) -> None:
    async def main() -> None:
        async with EventBus("asks", **site) as asks:
            assert await asks.request("price.get", {"n": 1}, timeout=GUARD) == {"n": 1}
            assert len(await asyncio.to_thread(reply_places, server, site)) == 1
        assert await asyncio.to_thread(reply_places, server, site) == []

    run(main())


def test_a_reply_to_one_that_is_gone_stays_for_a_while_at_most(
    server: Any, site: dict[str, Any], run: Any
) -> None:
    """RabbitMQ knows that nobody is there for it."""

    async def main() -> None:
        gate, held = asyncio.Event(), asyncio.Event()

        async def hold(event: Event) -> dict[str, int]:
            held.set()
            await gate.wait()
            return {"n": 1}

        async with EventBus("serves", **site) as serves:
            serves.respond("price.hold", hold)
            await serves.ready()
            async with EventBus("asks", **site) as asks:
                asked = asks.request("price.hold", {}, timeout=GUARD)
                await held.wait()
                await asks.close(0.0)
                with pytest.raises(ClosedError, match=r"closed before `price\.hold` was"):
                    await asked
            gate.set()
            await serves.drain()
            await until(lambda: serves.unsent == 0)
            await bounded(server, site)
            assert serves.trouble is None

    run(main())


def test_of_a_requester_that_is_killed_nothing_stays_for_good(
    server: Any, site: dict[str, Any], answers: EventBus, run: Any
) -> None:
    async def main() -> None:
        async with Process(REQUESTER, site) as asks:
            await asks.says("answered")
            assert len(await asyncio.to_thread(reply_places, server, site)) == 1
            asks.kill()
            await bounded(server, site)

    run(main())


async def bounded(server: Any, site: dict[str, Any]) -> None:
    """Whether there is an end to what waits for somebody who is gone: after a time."""
    if isinstance(server, redis_server.RedisServer):
        with server.client() as client:
            for place in reply_places(server, site):
                assert 0 < client.ttl(place) <= EXPIRES
        return
    columns = ["list_queues", "name", "arguments", "--no-table-headers"]
    queues = await asyncio.to_thread(server.ctl, *columns)
    for place in reply_places(server, site):
        (line,) = [line for line in queues.splitlines() if line.startswith(place)]
        assert '"x-expires",60000' in line.replace(" ", ""), line
