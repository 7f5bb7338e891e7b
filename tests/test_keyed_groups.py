"""Events of one key keep their order across the processes of a group, whatever happens to those."""

from __future__ import annotations

import asyncio
import binascii
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import keyed
from brokers.redis_server import NEEDED, RedisServer
from brokers.waiting import until
from tiebeam import ConfigurationError, EventBus

pytestmark = [pytest.mark.broker, NEEDED]

KEYS = [f"SYM{n}" for n in range(12)]
EACH = 60

MEMBER = """
import asyncio, json, os, sys
from tiebeam import EventBus

url, ledger = sys.argv[1:]
out = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(what, event):
    line = [what, os.getpid(), event.metadata["key"], event.payload["n"]]
    os.write(out, (json.dumps(line) + "\\n").encode())

async def main():
    async with EventBus("member", url=url, partitions=4, claim_idle=1.0) as bus:
        @bus.subscribe("price.*", group="g", key="metadata.key", concurrency=8)
        async def handle(event):
            note("begin", event)
            await asyncio.sleep(0.003)
            note("end", event)

        await bus.ready()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def url(server: RedisServer) -> str:
    server.client().flushall()
    return server.url


class Member:
    """Another process of the group."""

    def __init__(self, url: str, ledger: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", MEMBER, url, str(ledger)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "ready"

    def kill(self) -> None:
        self.process.kill()
        self._over()

    def leave(self) -> None:
        """Have it end in order."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._over()

    def _over(self) -> None:
        self.process.wait(30)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


def read(ledger: Path) -> list[tuple[str, int, str, int]]:
    whole = ledger.read_text().splitlines() if ledger.exists() else []
    return [tuple(json.loads(line)) for line in whole]


def check_order(lines: list[tuple[str, int, str, int]]) -> None:
    """No event of a key begins before each earlier one has come to an end."""
    ended: dict[str, int] = defaultdict(lambda: -1)
    for what, _pid, key, n in lines:
        if what == "begin":
            assert n <= ended[key] + 1, f"{key}: {n} began, and {ended[key] + 1} was not handled"
        else:
            ended[key] = max(ended[key], n)


def test_a_key_keeps_its_order_though_members_come_go_and_are_killed(
    url: str, tmp_path: Path, run: Any
) -> None:
    ledger = tmp_path / "ledger"

    async def main() -> None:
        member = await asyncio.to_thread(Member, url, ledger)
        members = [member]
        async with EventBus("feed", url=url, partitions=4) as feed:

            async def publish() -> None:
                for n in range(EACH):
                    for key in KEYS:
                        await feed.publish("price.update", {"n": n}, key=key)
                    await asyncio.sleep(0.05)

            def pids() -> set[int]:
                return {pid for _, pid, _, _ in read(ledger)}

            publishing = asyncio.ensure_future(publish())
            members.append(await asyncio.to_thread(Member, url, ledger))
            await until(lambda: len(pids()) == 2)
            await asyncio.to_thread(members[0].kill)
            members.append(await asyncio.to_thread(Member, url, ledger))
            await until(lambda: len(pids()) == 3)
            await asyncio.to_thread(members[1].leave)
            await publishing

            def all_handled() -> bool:
                done = {(key, n) for what, _, key, n in read(ledger) if what == "end"}
                return len(done) == EACH * len(KEYS)

            await until(all_handled, 60)
        await asyncio.to_thread(members[2].leave)

    run(main())
    lines = read(ledger)
    check_order(lines)
    begun = [line[2:] for line in lines if line[0] == "begin"]
    assert len(begun) - len(set(begun)) <= 40, "only what the killed one was at work on came twice"


def test_partitions_are_shared_and_handed_over_in_order(url: str, run: Any) -> None:
    seen: list[tuple[str, str, int]] = []

    def bus_of(name: str) -> EventBus:
        return keyed.member(name, url, seen, partitions=2, claim_idle=30)

    async def main() -> None:
        async with EventBus("feed", url=url, partitions=2) as feed, bus_of("b") as b:
            first = bus_of("a")
            await first.ready()
            n = 0
            while {"a", "b"} - {name for name, _, _ in seen}:
                for key in KEYS:
                    await feed.publish("price.update", {"n": n}, key=key)
                n += 1
                await asyncio.sleep(0.02)
            await first.close()
            begun = time.monotonic()
            for key in KEYS:
                await feed.publish("price.update", {"n": n}, key=key)
            await until(lambda: len(seen) == (n + 1) * len(KEYS))
            assert time.monotonic() - begun < 5, "an orderly end needs no lease to run out"
            await b.drain()
        for key in KEYS:
            assert [m for _, of, m in seen if of == key] == list(range(n + 1))

    run(main())


def test_a_group_without_keys_competes_as_before(url: str, run: Any) -> None:
    names: set[str] = set()

    async def main() -> None:
        async with EventBus("a", url=url) as a, EventBus("b", url=url) as b:
            for name, bus in (("a", a), ("b", b)):

                async def note(_event: Any, name: str = name) -> None:
                    names.add(name)
                    await asyncio.sleep(0.001)

                bus.subscribe("job.todo", note, group="g", capacity=1)
            await a.ready()
            await b.ready()
            while len(names) < 2:
                await a.publish("job.todo", {})

    run(main())


def test_the_partition_of_a_key_is_one_that_any_client_can_tell(
    server: RedisServer, url: str, run: Any
) -> None:
    async def main() -> None:
        async with EventBus(url=url, partitions=16) as bus:
            for key in KEYS:
                await bus.publish("price.update", {}, key=key)
            await bus.publish("price.update", {})
            await bus.publish("price.later", {}, key="SYM1", delay=0.05)
        lengths: dict[int, int] = defaultdict(int)
        for key in KEYS:
            lengths[binascii.crc_hqx(key.encode(), 0) % 16] += 1
        lengths[0] += 1
        client = server.client()
        later = f"{{tiebeam:price:{binascii.crc_hqx(b'SYM1', 0) % 16}}}:delayed"
        assert client.zcard(later) == 1
        for number in range(16):
            assert client.xlen(f"{{tiebeam:price:{number}}}") == lengths[number], number

    run(main())


def test_a_copy_for_everybody_comes_from_all_partitions(url: str, run: Any) -> None:
    async def main() -> None:
        seen: list[str] = []
        async with EventBus(url=url, partitions=4) as bus:
            bus.subscribe("price.*", lambda event: seen.append(event.metadata["key"]))
            bus.subscribe("#", lambda event: seen.append(event.metadata["key"]), group="all")
            await bus.ready()
            for key in KEYS:
                await bus.publish("price.update", {}, key=key)
            await until(lambda: len(seen) == 2 * len(KEYS))
        assert sorted(seen) == sorted(KEYS * 2)

    run(main())


@pytest.mark.parametrize("keyed_first", [True, False])
def test_members_elsewhere_that_do_not_agree_on_keys_are_refused(
    url: str, keyed_first: bool, run: Any
) -> None:
    def key(keyed: bool) -> Any:
        return {"key": "payload.symbol"} if keyed else {}

    async def main() -> None:
        seen: list[int] = []
        async with EventBus("later", url=url) as later:
            async with EventBus("first", url=url) as first:
                done: list[int] = []
                first.subscribe(
                    "price.*",
                    lambda event: done.append(event.payload["n"]),
                    group="g",
                    **key(keyed_first),
                )
                await first.ready()
                later.subscribe(
                    "price.*",
                    lambda event: seen.append(event.payload["n"]),
                    group="g",
                    **key(not keyed_first),
                )
                with pytest.raises(ConfigurationError, match=r'"g".*key='):
                    await later.ready()
                await first.publish("price.update", {"symbol": "A", "n": 0})
                await until(lambda: done)
            # Whoever was there is gone.
            await later.publish("price.update", {"symbol": "A", "n": 1})
            await until(lambda: seen)
            assert seen == [1]

    run(main())


def test_another_number_of_partitions_is_refused(server: RedisServer, url: str, run: Any) -> None:
    async def main() -> None:
        async with EventBus(url=url, partitions=4):
            with pytest.raises(ConfigurationError, match=r"has 4 partition.*to have 2.*event_bus"):
                async with EventBus(url=url, partitions=2):
                    pass
            other = EventBus(url=url)
            with pytest.raises(ConfigurationError, match="another prefix"):
                await other.publish("price.update", {})
            await other.close(0.0)
            async with EventBus(url=url, prefix="other", partitions=2):
                pass
        # What is there already, without a number, is from before there were partitions.
        server.client().flushall()
        server.client().sadd("{tiebeam}:categories", "price")
        with pytest.raises(ConfigurationError, match="has 1 partition"):
            async with EventBus(url=url, partitions=4):
                pass
        async with EventBus(url=url):
            pass

    run(main())


def test_a_member_that_stood_still_reads_nothing_that_is_not_its_turn(
    server: RedisServer, url: str, run: Any
) -> None:
    """Its lease is taken away behind its back: what is new is read by whoever has it."""
    client = server.client()

    def tries() -> int:
        """How often somebody has tried to take a lease, or has set anything else."""
        statistics: Any = client.info("commandstats")
        return int(statistics["cmdstat_set"]["calls"])

    async def main() -> None:
        seen: list[int] = []
        async with EventBus(url=url) as bus:
            bus.subscribe(
                "price.*", lambda e: seen.append(e.payload["n"]), group="g", key="metadata.key"
            )
            await bus.ready()
            lease = "{tiebeam:price:0}:reader:g"
            await until(lambda: client.get(lease))
            client.set(lease, "another")
            before = tries()
            await bus.publish("price.update", {"n": 1}, key="a")
            await until(lambda: tries() >= before + 3)  # to have it again
            assert not seen
            client.delete(lease)
            await until(lambda: seen == [1])

    run(main())


@pytest.mark.parametrize("partitions", [0, 257])
def test_numbers_that_cannot_be_are_refused(partitions: int) -> None:
    with pytest.raises((ValueError, ConfigurationError), match="1 to 256"):
        EventBus(url="redis://localhost", partitions=partitions)


def test_partitions_go_with_redis() -> None:
    with pytest.raises(ValueError, match="goes with Redis"):
        EventBus(url="amqp://localhost", partitions=2)
    with pytest.raises(ValueError, match="goes with a broker"):
        EventBus(partitions=2)
