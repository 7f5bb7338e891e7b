"""A bus on Redis, as other clients of the server see it, and as its users do when it fails."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers.redis_server import NEEDED, RedisServer
from brokers.waiting import GUARD, until
from tiebeam import (
    ConfigurationError,
    DependencyError,
    Event,
    EventBus,
    MailboxFull,
    OutcomeUnknown,
    TiebeamError,
)

pytestmark = [pytest.mark.broker, NEEDED]

STREAM = "{tiebeam:market_data:0}"


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    """An empty server."""
    shared.client().flushall()
    return shared


def entry(n: int, **more: Any) -> str:
    """An event as any client may write it."""
    return json.dumps(
        {
            "event_id": f"evt_{n}",
            "event_type": "market_data.price_update",
            "timestamp": 1645541585432,
            "producer": "somebody",
            "version": 1,
            "payload": {"n": n},
            "metadata": {"priority": "normal", "correlation_id": f"corr_{n}", "retry_count": 0},
            **more,
        }
    )


# -- other clients ------------------------------------------------------------------------


def test_another_client_reads_what_we_publish(server: RedisServer, run: Any) -> None:
    async def main() -> None:
        async with EventBus("trader", url=server.url) as bus:
            receipt = bus.publish("market_data.price_update", {"price": 38245.5}, key="BTC")
            assert "on its way" in repr(receipt)
            await receipt
            assert receipt.accepted
            assert "accepted" in repr(receipt)
            ((_id, fields),) = server.client().xrange(STREAM)
            event = json.loads(fields["data"])
            assert event["event_id"] == receipt.event_id
            assert event["event_type"] == "market_data.price_update"
            assert event["producer"] == "trader"
            assert event["payload"] == {"price": 38245.5}
            assert event["metadata"]["key"] == "BTC"
            assert set(event) == {
                *("event_id", "event_type", "timestamp", "producer", "version", "payload"),
                "metadata",
            }
            assert Event.from_json(fields["data"]).payload == {"price": 38245.5}

    run(main())


def test_we_read_what_another_client_publishes(server: RedisServer, run: Any) -> None:
    async def main() -> None:
        async with EventBus(url=server.url) as bus:
            seen: list[Event] = []
            bus.subscribe("market_data.*", seen.append, group="g")
            await bus.ready()
            server.client().xadd(STREAM, {"data": entry(1)})
            (event,) = await until(lambda: seen)
            assert (event.event_id, event.producer) == ("evt_1", "somebody")
            assert (event.payload, event.correlation_id) == ({"n": 1}, "corr_1")
            await until(lambda: server.client().xpending(STREAM, "g")["pending"] == 0)

    run(main())


def test_redis_cli_is_client_enough(server: RedisServer, run: Any) -> None:
    def cli(*words: str) -> str:
        done = subprocess.run(
            ["redis-cli", "-p", str(server.port), *words],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    async def main() -> None:
        async with EventBus(url=server.url) as bus:
            seen: list[Event] = []
            bus.subscribe("market_data.#", seen.append)
            await bus.ready()
            await asyncio.to_thread(cli, "XADD", STREAM, "*", "data", entry(7))
            await until(lambda: seen)
            assert seen[0].payload == {"n": 7}
            await bus.publish("market_data.trade", {"n": 8})
            assert '{"n":8}' in (
                await asyncio.to_thread(cli, "XREVRANGE", STREAM, "+", "-")
            ).replace("\\", "")

    run(main())


def test_what_is_no_event_is_set_aside_and_never_comes_again(server: RedisServer, run: Any) -> None:
    foreign = [
        {"other": "field"},
        {"data": "{"},
        {"data": "[]"},
        {"data": entry(1, event_type="no topic!")},
        {"data": entry(2, payload="x" * 2_000)},
        {"data": b"\xff\xfe"},
    ]

    async def main() -> None:
        async with EventBus(url=server.url, max_payload=1_000) as bus:
            told: list[Event] = []
            seen: list[int] = []
            bus.subscribe("system.event_quarantined", told.append)
            bus.subscribe("market_data.*", lambda event: seen.append(event.payload["n"]), group="g")
            await bus.ready()
            client = server.client()
            for fields in foreign:
                client.xadd(STREAM, fields)
            client.xadd(STREAM, {"data": entry(3)})
            await until(lambda: seen and len(told) >= len(foreign) - 1)
            await until(lambda: client.xpending(STREAM, "g")["pending"] == 0)
            aside = server.client().xlen(f"{STREAM}:quarantine")
            # A payload above the limit of a publisher is none for a reader: others may have more.
            assert aside == len(told) == len(foreign) - 1
            assert all(event.payload["reason"] for event in told)

    run(main())


# -- across processes ---------------------------------------------------------------------

WORKER = """
import asyncio, os, sys
from tiebeam import EventBus

async def main(url, mode):
    async with EventBus("worker", url=url, claim_idle=0.5) as bus:
        @bus.subscribe("job.*", group="workers")
        async def work(event):
            if mode == "dies" and event.payload["n"] == 3:
                os._exit(9)
            if mode == "hangs":
                print("at work", flush=True)
                await asyncio.Event().wait()
            print(event.payload["n"], flush=True)

        @bus.respond("job.count")
        async def count(event):
            return {"pid": os.getpid()}

        await bus.ready()
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


class Worker:
    """Another process with the same code."""

    def __init__(self, url: str, mode: str = "works") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, url, mode], stdout=subprocess.PIPE, text=True
        )
        self._early: list[int] = []
        self._mode = mode
        self.line("ready")

    def line(self, wanted: str) -> None:
        """Wait for a line; what is there already may be handled before it."""
        assert self.process.stdout is not None
        while (said := self.process.stdout.readline().strip()).isdigit():
            self._early.append(int(said))
        # An event that ends it may do so before it is ready.
        assert said == wanted or (self._mode == "dies" and not said), said

    def kill(self) -> list[int]:
        """Kill it; what it had handled."""
        self.process.kill()
        assert self.process.stdout is not None
        late = [int(line) for line in self.process.stdout if line.strip().isdigit()]
        self.process.wait()
        self.process.stdout.close()
        return self._early + late


def test_a_request_goes_to_another_process(server: RedisServer, run: Any) -> None:
    worker = Worker(server.url)

    async def main() -> None:
        async with EventBus(url=server.url) as bus:
            reply = await bus.request("job.count", {}, timeout=GUARD)
            assert reply == {"pid": worker.process.pid}

    run(main())
    worker.kill()


def test_what_a_killed_process_had_goes_to_another(server: RedisServer, run: Any) -> None:
    worker = Worker(server.url, "hangs")

    async def main() -> None:
        async with EventBus(url=server.url, claim_idle=0.5) as bus:
            for n in range(20):
                await bus.publish("job.do", {"n": n})
            await asyncio.to_thread(worker.line, "at work")
            await asyncio.to_thread(worker.kill)
            seen: list[int] = []
            begun = time.monotonic()
            bus.subscribe("job.*", lambda event: seen.append(event.payload["n"]), group="workers")
            await until(lambda: len(seen) >= 20)
            # What it held is taken over when it was silent for so long, and a second at most.
            assert time.monotonic() - begun < 0.5 + 1.0 + 1.0
            assert sorted(seen) == list(range(20))
            client = server.client()
            await until(lambda: client.xpending("{tiebeam:job:0}", "workers")["pending"] == 0)

    run(main())


def test_an_event_that_ends_its_process_becomes_a_dead_letter(
    server: RedisServer, run: Any
) -> None:
    """Each time somebody is given it, that is the end of it; the others are handled."""

    async def main() -> None:
        async with EventBus(url=server.url, claim_idle=0.5) as bus:
            first = Worker(server.url, "dies")
            for n in range(10):
                await bus.publish("job.do", {"n": n})
            client = server.client()
            handled: list[int] = []
            worker = first
            for _ in range(8):
                await asyncio.to_thread(worker.process.wait)
                handled += worker.kill()
                if client.xlen("{tiebeam}:dead"):
                    break
                worker = await asyncio.to_thread(Worker, server.url, "dies")

                def over(process: subprocess.Popen[str] = worker.process) -> bool:
                    return process.poll() is not None or client.xlen("{tiebeam}:dead") > 0

                await until(over)
                if client.xlen("{tiebeam}:dead"):
                    await until(
                        lambda: client.xpending("{tiebeam:job:0}", "workers")["pending"] == 0
                    )
                    handled += worker.kill()
                    break
            ((_id, fields),) = client.xrange("{tiebeam}:dead")
            letter = json.loads(fields["data"])
            assert letter["event"]["payload"] == {"n": 3}
            assert letter["reason"] == "deliveries"
            assert letter["attempts"] == 5, "four deliveries ended a process; the fifth is none"
            assert sorted(set(handled)) == [n for n in range(10) if n != 3]

    run(main())


def test_a_member_that_is_slow_leaves_the_rest_to_others(server: RedisServer, run: Any) -> None:
    batch, count = 10, 300

    async def main() -> None:
        gate = asyncio.Event()
        begun: list[int] = []
        done: list[int] = []

        async def slow(event: Event) -> None:
            begun.append(event.payload)
            await gate.wait()

        async with (
            EventBus("slow", url=server.url, batch_size=batch) as one,
            EventBus("quick", url=server.url, batch_size=batch) as another,
        ):
            one.subscribe("orders.placed", slow, group="g", concurrency=1_000)
            await one.ready()
            for n in range(count):
                await one.publish("orders.placed", n)
            await until(lambda: len(begun) > batch)
            another.subscribe("orders.placed", lambda e: done.append(e.payload), group="g")
            await until(lambda: len(begun) + len(done) == count)
            assert len(begun) <= 2 * batch
            gate.set()
        assert sorted(begun + done) == list(range(count))

    run(main())


def test_whoever_wants_the_latest_alone_is_not_held_back(server: RedisServer, run: Any) -> None:
    async def main() -> None:
        gate, begun, seen = asyncio.Event(), asyncio.Event(), []

        async def handle(event: Event) -> None:
            begun.set()
            await gate.wait()
            seen.append((event.key, event.payload))

        async with EventBus(url=server.url, batch_size=1) as bus:
            subscription = bus.subscribe(
                "orders.price", handle, group="g", overflow="latest", capacity=100, concurrency=1
            )
            await bus.ready()
            await bus.publish("orders.price", 0, key="first")
            await begun.wait()
            for n in range(300):  # of thirty keys, while the handler is at work
                await bus.publish("orders.price", n, key=f"key {n % 30}")
            await until(lambda: subscription.books().conflated == 270)
            gate.set()
            await until(lambda: len(seen) == 31)
        assert sorted(n for key, n in seen if key != "first") == list(range(270, 300))

    run(main())


def test_commands_that_wait_for_a_look_are_not_overtaken(server: RedisServer, run: Any) -> None:
    async def main() -> None:
        seen: list[int] = []
        async with EventBus("serves", url=server.url) as serves:
            serves.handle("orders.place", lambda event: seen.append(event.payload))
            await serves.ready()
            for first in range(0, 20_000, 4_000):
                # Nothing is known of the handler any more, or yet.
                async with EventBus("asks", url=server.url) as asks:
                    numbers = range(first, first + 4_000)
                    receipts = [asks.send("orders.place", n) for n in numbers]
                    for receipt in receipts:
                        await receipt
            await until(lambda: len(seen) == 20_000)
        assert seen == list(range(20_000))

    run(main())


def test_what_waits_when_a_process_ends_is_sent(server: RedisServer) -> None:
    script = (
        "import sys; from tiebeam import EventBus\n"
        "bus = EventBus(url=sys.argv[1])\n"
        "kept = [bus.publish('market_data.x', {'n': n}) for n in range(300)]"
    )
    subprocess.run([sys.executable, "-c", script, server.url], check=True, timeout=GUARD)
    numbers = [
        json.loads(fields["data"])["payload"]["n"] for _id, fields in server.client().xrange(STREAM)
    ]
    assert numbers == list(range(300))


# -- failing ------------------------------------------------------------------------------


def test_a_wrong_password_fails_at_once_and_is_told_to_nobody(
    run: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with RedisServer("--requirepass", "right") as server:
        url = server.url.replace("redis://", "redis://:canary@")

        async def main() -> None:
            begun = time.monotonic()
            with pytest.raises(ConfigurationError, match="password") as refused:
                async with EventBus(url=url):
                    pass
            assert time.monotonic() - begun < 1.0
            assert "canary" not in repr(refused.value) + str(refused.value.context)

        run(main())
    assert "canary" not in "".join(capfd.readouterr())


def test_a_broker_that_is_not_there_is_waited_for_and_then_an_error(run: Any) -> None:
    async def main() -> None:
        bus = EventBus(url="redis://127.0.0.1:1/0")
        begun = time.monotonic()
        with pytest.raises(DependencyError, match="running and reachable"):
            await bus.ready(0.3)
        assert 0.2 < time.monotonic() - begun < 2.0
        await bus.close(0.0)

    run(main())


def test_a_broker_that_stands_still_hangs_nobody(server: RedisServer, run: Any) -> None:
    """Its publisher hears in time that nobody knows; the loop goes on all the while."""

    async def main() -> None:
        outbox: Any = {"timeout": 0.5}
        async with EventBus(url=server.url, outbox=outbox) as bus:
            seen: list[int] = []
            bus.subscribe("market_data.*", lambda event: seen.append(event.payload["n"]), group="g")
            await bus.ready()
            await bus.publish("market_data.x", {"n": 0})
            server.freeze()
            try:
                beats, longest, last = 0, 0.0, time.monotonic()

                async def beat() -> None:
                    nonlocal beats, longest, last
                    while True:
                        await asyncio.sleep(0.01)
                        now = time.monotonic()
                        beats, longest, last = beats + 1, max(longest, now - last), now

                beating = asyncio.ensure_future(beat())
                begun = time.monotonic()
                receipt = bus.publish("market_data.x", {"n": 1})
                with pytest.raises(OutcomeUnknown) as unknown:
                    await receipt
                took = time.monotonic() - begun
                beating.cancel()
                assert 0.4 < took < 1.5, took
                assert beats > 20
                assert longest < 0.3
                assert unknown.value.event_id == receipt.event_id
            finally:
                server.thaw()
            # Published again under its id, it is handled once.
            await until(lambda: bus.trouble is None)
            await bus.publish("market_data.x", {"n": 1}, event_id=receipt.event_id)
            await bus.publish("market_data.x", {"n": 2})
            await until(lambda: 2 in seen)
            assert seen == [0, 1, 2]

    run(main())


@pytest.mark.parametrize("overflow", ["block", "fail", "drop_oldest"])
def test_what_waits_for_a_broker_is_bounded(overflow: str, run: Any) -> None:
    async def main() -> None:
        outbox: Any = {"capacity": 3, "overflow": overflow, "timeout": 1.0}
        bus = EventBus(url="redis://127.0.0.1:1/0", outbox=outbox)
        waiting = [bus.publish("a.b", {"n": n}) for n in range(3)]
        assert bus.unsent == 3
        if overflow == "fail":
            with pytest.raises(MailboxFull, match="wait to be sent"):
                waiting.append(bus.publish("a.b", {"n": 3}))
        elif overflow == "block":
            with pytest.raises(MailboxFull):
                bus.publish("a.b", {"n": 3})  # nobody can wait for it
            waiting.append(bus.publish("a.b", {"n": 4}))
            assert bus.unsent == 4
        else:
            waiting.append(bus.publish("a.b", {"n": 3}))
            with pytest.raises(MailboxFull):
                await waiting.pop(0)
        for receipt in waiting:
            with pytest.raises(TiebeamError) as refused:
                await receipt
            assert refused.value.context["outcome"] == "refused"
            assert not receipt.accepted
            assert "not accepted" in repr(receipt)
        assert bus.unsent == 0
        await bus.close(0.0)

    run(main())


def test_a_stream_that_is_flushed_is_begun_anew_and_told_of(server: RedisServer, run: Any) -> None:
    async def main() -> None:
        async with EventBus(url=server.url) as bus:
            told: list[Event] = []
            seen: list[int] = []
            bus.subscribe("system.stream_reset", told.append)
            bus.subscribe("market_data.*", lambda event: seen.append(event.payload["n"]), group="g")
            await bus.ready()
            await bus.publish("market_data.x", {"n": 1})
            await until(lambda: seen)
            server.client().flushall()
            await bus.publish("market_data.x", {"n": 2})
            await until(lambda: 2 in seen and told)
            assert told[0].payload["group"] == "g"

    run(main())


def test_a_key_of_another_kind_is_an_error_that_says_so(server: RedisServer, run: Any) -> None:
    async def main() -> None:
        server.client().set(STREAM, "not a stream")
        async with EventBus(url=server.url) as bus:
            with pytest.raises(TiebeamError, match="WRONGTYPE") as refused:
                await bus.publish("market_data.x", {})
            assert refused.value.category == "permanent"
            bus.subscribe("market_data.x", lambda _event: None, group="g")
            with pytest.raises(TiebeamError, match="WRONGTYPE"):
                await bus.ready()

    run(main())


def test_a_full_server_refuses_for_a_while(server: RedisServer, run: Any) -> None:
    async def main() -> None:
        client = server.client()
        async with EventBus(url=server.url, outbox={"timeout": 1.0}) as bus:
            client.config_set("maxmemory", "1")
            try:
                with pytest.raises(TiebeamError, match="OOM") as refused:
                    await bus.publish("market_data.x", {})
                assert refused.value.category in ("transient", "dependency")
                assert bus.trouble is not None
            finally:
                client.config_set("maxmemory", "0")
            await bus.publish("market_data.x", {})
            assert bus.trouble is None

    run(main())


def test_what_every_group_has_handled_is_trimmed_and_nothing_else(
    server: RedisServer, run: Any
) -> None:
    async def main() -> None:
        async with EventBus(url=server.url) as bus:
            bus.subscribe("market_data.*", lambda _event: None, group="quick")
            await bus.ready()
            server.client().xgroup_create(STREAM, "slow", "0")
            for n in range(500):
                await bus.publish("market_data.x", {"n": n})
            await until(lambda: server.client().xpending(STREAM, "quick")["pending"] == 0)
            assert server.client().xlen(STREAM) == 500, "another group needs all of it"

    run(main())


def test_a_mistake_in_the_options_is_told(tmp_path: Path) -> None:
    assert tmp_path
    for options, says in [
        ({"prefix": "x"}, "goes with a broker"),
        ({"url": "http://h", "prefix": "x"}, "begins with `redis://`"),
        ({"url": "redis://h", "prefix": "a{b}"}, "braces"),
        ({"url": "redis://h", "outbox": {"size": 1}}, "capacity"),
        ({"url": "redis://h", "outbox": {"overflow": "blok"}}, "block"),
    ]:
        with pytest.raises((ValueError, ConfigurationError), match=says):
            EventBus(**options)


def test_a_responder_whom_nobody_asks_is_known_to_be_there(server: RedisServer, run: Any) -> None:
    # Before Redis 7.2 a read that brings nothing leaves no trace with the server.
    async def main() -> None:
        async with EventBus("quiet", url=server.url) as bus:
            bus.respond("feed.last", lambda event: {"price": 9.5})
            await bus.ready()
            client = server.client()
            seen: list[int] = []

            def counts_as_there_again() -> bool:
                (consumer,) = client.xinfo_consumers("{tiebeam:request:feed.last}", "responders")
                seen.append(consumer["idle"])
                return max(seen) > 500 > seen[-1]  # a sign of life comes each second

            await until(counts_as_there_again)

    run(main())
