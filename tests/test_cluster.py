"""Redis Cluster: each stream at the node that has it, wherever that goes."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import certificates, keyed
from brokers.certificates import Certificates
from brokers.cluster import MASTERS, Cluster
from brokers.redis_server import NEEDED, RedisServer
from brokers.waiting import until
from tiebeam import ConfigurationError, DependencyError, EventBus, NoResponder, OutcomeUnknown

pytestmark = [pytest.mark.broker, NEEDED]

CATEGORIES = ["market_data", "analysis", "trading", "orders", "risk", "news"]


def stream(category: str) -> str:
    return f"{{tiebeam:{category}:0}}"


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    """An empty one, for tests that leave every node as it was."""
    for which in range(MASTERS):
        with shared.client(which) as client:
            client.flushall()
    return shared


class Traffic:
    """Publishers that never stop, one for each category, and what became of their events."""

    def __init__(self, bus: EventBus, *categories: str) -> None:
        self.bus = bus
        self.accepted: dict[str, list[int]] = {category: [] for category in categories}
        self.unknown: dict[str, list[int]] = {category: [] for category in categories}
        self.handled: dict[str, list[int]] = {category: [] for category in categories}
        self._stopping = False

    def handle(self, event: Any) -> None:
        self.handled[event.category].append(event.payload)

    def flow(self) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._flow(category)) for category in self.accepted]

    async def _flow(self, category: str) -> None:
        """Publish, one round trip at a time."""
        number = 0
        while not self._stopping:
            number += 1
            try:
                await self.bus.publish(f"{category}.price", number)
                self.accepted[category].append(number)
            except OutcomeUnknown:
                self.unknown[category].append(number)

    async def goes_on(self, *categories: str, count: int = 50) -> None:
        """Wait until so many further events of each were accepted and handled."""
        for category in categories or self.accepted:
            accepted = len(self.accepted[category]) + count
            await until(
                lambda a=accepted, c=category: (
                    len(self.accepted[c]) >= a and len(self.handled[c]) >= a - count // 2
                ),
                25,
            )

    async def stop(self, flowing: list[asyncio.Task[None]]) -> None:
        self._stopping = True
        await asyncio.gather(*flowing)


def stored(cluster: Cluster, which: int, category: str) -> set[int]:
    with cluster.client(which) as client:
        entries: Any = client.xrange(stream(category))
        return {json.loads(fields["data"])["payload"] for _, fields in entries}


def test_each_category_is_at_the_node_that_has_it(cluster: Cluster, run: Any) -> None:
    async def main() -> None:
        url = cluster.url
        async with EventBus("here", url=url) as here, EventBus("there", url=url) as there:
            seen: list[tuple[str, int]] = []
            there.subscribe("#", lambda e: seen.append((e.category, e.payload)), group="all")
            await there.ready()
            receipts = [here.publish(f"{c}.price", n) for n in range(50) for c in CATEGORIES]
            for receipt in receipts:
                await receipt

            def ours() -> list[tuple[str, int]]:
                return [one for one in seen if one[0] in CATEGORIES]

            await until(lambda: len(ours()) >= len(receipts))
            for category in CATEGORIES:
                assert [n for c, n in ours() if c == category] == list(range(50))
                with cluster.client(cluster.owner(stream(category))) as client:
                    assert client.xlen(stream(category)) == 50
            assert len({cluster.owner(stream(category)) for category in CATEGORIES}) == MASTERS
            assert here.trouble is None
            assert here.unsent == 0

    run(main())


def test_what_goes_both_ways(cluster: Cluster, run: Any) -> None:
    async def main() -> None:
        url = cluster.url
        async with EventBus("asks", url=url) as asks, EventBus("serves", url=url) as serves:
            with pytest.raises(NoResponder):
                await asks.request("risk.count", {})
            done: list[int] = []
            copies: list[int] = []
            for number in range(6):  # their streams are at different nodes
                serves.respond(f"risk.count_{number}", lambda event, n=number: event.payload + n)
                serves.handle(f"trading.order_{number}", lambda event: done.append(event.payload))
            serves.subscribe("news.*", lambda event: copies.append(event.payload), broadcast=True)
            await serves.ready()
            for number in range(6):
                assert await asks.request(f"risk.count_{number}", 10) == 10 + number
                await asks.send(f"trading.order_{number}", number)
            await asks.publish("news.later", 2, delay=0.3)
            await asks.publish("news.now", 1)
            await until(lambda: len(done) == 6 and len(copies) == 2)
            assert (sorted(done), copies) == (list(range(6)), [1, 2])

    run(main())


def test_dead_letters_are_kept_at_their_own_node(cluster: Cluster, run: Any) -> None:
    async def main() -> None:
        async with EventBus(url=cluster.url) as bus:
            fails, seen = True, []

            def handler(event: Any) -> None:
                if fails:
                    raise ValueError("not today")
                seen.append((event.category, event.payload))

            for category in CATEGORIES:
                bus.subscribe(f"{category}.*", handler, group="g", retry={"max_attempts": 1})
            await bus.ready()
            for category in CATEGORIES:
                await bus.publish(f"{category}.price", 1)
            with cluster.whole() as client:
                await until(lambda: client.xlen("{tiebeam}:dead") == len(CATEGORIES))
                for category in CATEGORIES:
                    key = stream(category)
                    await until(lambda k=key: client.xpending(k, "g")["pending"] == 0)

    run(main())


def test_what_was_handled_is_known_after_a_restart(cluster: Cluster, run: Any) -> None:
    async def main() -> None:
        seen: list[str] = []

        async def once() -> int:
            async with EventBus(url=cluster.url) as bus:
                bus.subscribe("orders.*", lambda e: seen.append(e.event_id), group="g")
                await bus.ready()
                await bus.publish("orders.placed", 1, event_id="evt_one")
                await bus.publish("orders.placed", 2, event_id=f"evt_last_{len(seen)}")
                await until(lambda: seen and seen[-1].startswith("evt_last"))
                return int(bus.books().duplicates)

        assert await once() == 0
        last = len(seen)
        assert last == 2
        async with EventBus(url=cluster.url) as bus:
            bus.subscribe("orders.*", lambda e: seen.append(e.event_id), group="g")
            await bus.ready()
            await bus.publish("orders.placed", 1, event_id="evt_one")
            await bus.publish("orders.placed", 3, event_id="evt_three")
            await until(lambda: len(seen) > last)
            assert seen[last:] == ["evt_three"]
            assert bus.books().duplicates == 1

    run(main())


@pytest.mark.slow
def test_a_slot_may_move_while_events_flow(cluster: Cluster, run: Any) -> None:
    async def main() -> None:
        url, key = cluster.url, stream("market_data")
        origin = cluster.owner(key)
        # One beside it at the same node, and one elsewhere.
        beside = next(c for c in CATEGORIES[1:] if cluster.owner(stream(c)) == origin)
        elsewhere = next(c for c in CATEGORIES[1:] if cluster.owner(stream(c)) != origin)
        async with EventBus("here", url=url) as here, EventBus("there", url=url) as there:
            traffic = Traffic(here, "market_data", beside, elsewhere)
            told: list[str] = []
            there.subscribe("system.stream_reset", lambda e: told.append(str(e.payload)))
            for category in traffic.accepted:
                there.subscribe(f"{category}.*", traffic.handle, group="readers")
            await there.ready()
            flowing = traffic.flow()
            await traffic.goes_on()
            loop = asyncio.get_running_loop()

            def others_go_on() -> None:
                # The keys have gone, the slot has not: nobody can write to this stream now.
                going = traffic.goes_on(beside, elsewhere)
                asyncio.run_coroutine_threadsafe(going, loop).result(25)

            try:
                for to in range(MASTERS):
                    if to != origin:
                        move = cluster.migrate
                        await asyncio.to_thread(move, key, to, between=others_go_on)
                        await until(lambda t=to: cluster.owner(key) == t)
                        await traffic.goes_on()
            finally:
                await asyncio.to_thread(cluster.migrate, key, origin)
            await traffic.goes_on()
            await traffic.stop(flowing)
            for category, accepted in traffic.accepted.items():
                handled = traffic.handled[category]
                await until(lambda a=accepted, h=handled: len(h) >= len(a))
                assert traffic.unknown[category] == []
                assert handled == accepted, "all of them, once, in order"
            assert told == []
            await until(lambda: here.trouble is None and there.trouble is None)

    run(main())


def test_the_order_stays_where_a_node_takes_nothing_for_a_moment(
    cluster: Cluster, run: Any
) -> None:
    """Between two round trips, and in the middle of one."""

    async def main() -> None:
        async with EventBus(url=cluster.url) as bus:
            seen: list[int] = []
            bus.subscribe("market_data.*", lambda event: seen.append(event.payload), group="all")
            await bus.ready()
            await bus.publish("market_data.price", 0)
            key = stream("market_data")
            over = False

            def flap() -> int:
                """Give another slot away and take it back: without it, the node takes nothing."""
                times = 0
                with cluster.client(cluster.owner(key)) as client:
                    slot = int(client.execute_command("CLUSTER KEYSLOT", key))
                    while not over:
                        client.execute_command("CLUSTER DELSLOTS", slot + 1)
                        client.execute_command("CLUSTER ADDSLOTS", slot + 1)
                        times += 1
                        for _ in range(100):  # most of the time it does
                            client.ping()
                return times

            flapping = asyncio.create_task(asyncio.to_thread(flap))
            numbers = iter(range(1, 1_000_000))
            accepted = [0]
            try:
                for _ in range(60):
                    sent = [
                        (number, bus.publish("market_data.price", number))
                        for number in itertools.islice(numbers, 500)
                    ]
                    for number, receipt in sent:
                        await receipt
                        accepted.append(number)
            finally:
                over = True
                assert await flapping > 20
            await until(lambda: len(seen) >= len(accepted))
            assert seen == accepted
            await until(lambda: bus.trouble is None)

    run(main())


@pytest.mark.slow
def test_the_failover_of_a_master_is_followed() -> None:
    async def main(cluster: Cluster) -> None:
        url, key = cluster.url, stream("market_data")
        victim = cluster.owner(key)
        elsewhere = next(c for c in CATEGORIES[1:] if cluster.owner(stream(c)) != victim)
        async with EventBus("here", url=url) as here, EventBus("there", url=url) as there:
            traffic = Traffic(here, "market_data", elsewhere)
            for category in traffic.accepted:
                there.subscribe(f"{category}.*", traffic.handle, group="readers")
            await there.ready()
            flowing = traffic.flow()
            await traffic.goes_on()
            safe = len(traffic.accepted["market_data"])
            await asyncio.to_thread(cluster.replicated, victim)
            cluster.servers[victim].kill()
            await traffic.goes_on()
            heir = cluster.owner(key)
            assert heir == victim + MASTERS
            # It comes back as a replica, and is made the master again while both live.
            cluster.servers[victim].launch()
            await until(cluster.is_well, 25)
            await traffic.goes_on()
            await asyncio.to_thread(cluster.promote, victim)
            await until(lambda: cluster.owner(key) == victim, 25)
            await traffic.goes_on()
            await traffic.stop(flowing)

            for category in traffic.accepted:
                there_now = stored(cluster, cluster.owner(stream(category)), category)
                handled = traffic.handled[category]
                await until(lambda n=there_now, h=handled: n <= set(h), 25)
                lost = set(traffic.accepted[category]) - set(handled)
                # What the replica had is handled, and what it had not is all that was lost.
                assert not lost & there_now
                assert not lost & set(traffic.accepted[category][:safe])
                assert len(lost) <= 10, f"replication is never that far behind: {sorted(lost)}"
                assert len(handled) == len(set(handled))
                assert handled == sorted(handled)
            assert traffic.accepted[elsewhere] == traffic.handled[elsewhere]
            await until(lambda: here.trouble is None and there.trouble is None)

    with Cluster() as cluster:
        asyncio.run(asyncio.wait_for(main(cluster), 120))


@certificates.NEEDED
def test_all_of_it_by_tls(tmp_path: Path, run: Any) -> None:
    ca = Certificates(tmp_path)
    with Cluster((ca.ca, *ca.sign("server"))) as cluster:

        async def main() -> None:
            tls: Any = {"ca_file": ca.ca}
            async with EventBus(url=cluster.url, tls=tls) as bus:
                traffic = Traffic(bus, *CATEGORIES)
                for category in CATEGORIES:
                    bus.subscribe(f"{category}.*", traffic.handle, group="readers")
                await bus.ready()
                flowing = traffic.flow()
                await traffic.goes_on(count=10)
                await traffic.stop(flowing)
            stranger = EventBus(url=cluster.url)
            with pytest.raises(ConfigurationError, match="CA that is not trusted"):
                await stranger.ready(8)
            await stranger.close(0)

        run(main())


def test_what_a_cluster_refuses_is_said(cluster: Cluster, run: Any) -> None:
    async def refusal(url: str) -> str:
        bus = EventBus(url=url)
        with pytest.raises(ConfigurationError) as caught:
            await asyncio.wait_for(bus.ready(), 8)
        await bus.close(0)
        assert "pass@" not in str(caught.value)
        return str(caught.value)

    assert "user and password" in run(refusal(cluster.url.replace("cluster%40pass", "wrong")))
    one = f"redis://:cluster%40pass@127.0.0.1:{cluster.ports[0]}"
    assert "begins with `redis+cluster://`" in run(refusal(one))
    with RedisServer() as alone:
        url = alone.url.replace("redis://", "redis+cluster://")
        assert "none of a cluster: its URL begins with `redis://`" in run(refusal(url))


def test_no_node_is_no_cluster(run: Any) -> None:
    async def main() -> None:
        bus = EventBus(url="redis+cluster://127.0.0.1:1,127.0.0.1:2")
        with pytest.raises(DependencyError, match="reachable"):
            await bus.ready(0.5)
        await bus.close(0)

    run(main())


def test_partitions_are_with_many_nodes_and_shared_by_a_keyed_group(
    cluster: Cluster, run: Any
) -> None:
    """What was agreed on, and the leases of other partitions, are with other nodes."""
    keys = [f"SYM{n}" for n in range(12)]
    seen: list[tuple[str, str, int]] = []

    def member(name: str) -> EventBus:
        return keyed.member(name, cluster.url, seen, prefix="keyed", partitions=6)

    async def main() -> None:
        async with EventBus("feed", url=cluster.url, prefix="keyed", partitions=6) as feed:
            async with member("a") as first:
                await first.ready()
                n = 0
                async with member("b"):
                    while len({name for name, _, _ in seen}) < 2:
                        for key in keys:
                            await feed.publish("price.update", {"n": n}, key=key)
                        n += 1
                        await asyncio.sleep(0.02)
                for key in keys:
                    await feed.publish("price.update", {"n": n}, key=key)
                await until(lambda: len(seen) == (n + 1) * len(keys))
            with pytest.raises(ConfigurationError, match="has 6 partition"):
                async with EventBus(url=cluster.url, prefix="keyed", partitions=2):
                    pass
        for key in keys:
            assert [m for _, of, m in seen if of == key] == list(range(n + 1))

    run(main())


def test_a_node_that_hangs_takes_no_turns_from_whoever_reads_elsewhere(run: Any) -> None:
    """The leases of partitions at other nodes are kept, and what is there is handled meanwhile."""
    # Nobody is to take its place.
    with Cluster(node_timeout_ms=60_000) as cluster:
        run(hang_one(cluster))


async def hang_one(cluster: Cluster) -> None:
    keys = [f"SYM{n}" for n in range(24)]
    seen: list[tuple[str, str, int]] = []
    options: dict[str, Any] = {"prefix": "hung", "partitions": 6}

    def node_of(key: str) -> int:
        """Which node has the partition of a key: by where its first event stands."""
        for partition in range(6):
            stream = f"{{hung:price:{partition}}}"
            with cluster.client(cluster.owner(stream)) as client:
                entries: Any = client.xrange(stream)
            if any(json.loads(f["data"])["metadata"]["key"] == key for _, f in entries):
                return cluster.owner(stream)
        raise AssertionError(f"{key} is nowhere")

    async with (
        EventBus("feed", url=cluster.url, **options) as feed,
        keyed.member("a", cluster.url, seen, **options) as first,
        keyed.member("b", cluster.url, seen, **options) as second,
    ):
        await asyncio.gather(first.ready(), second.ready())

        async def round_of(n: int, of: list[str]) -> None:
            for key in of:
                await feed.publish("price.update", {"n": n}, key=key)
            await until(lambda: sum(m == n for _, key, m in seen if key in of) == len(of), 20)

        loop = asyncio.get_running_loop()
        n, shares, since = 0, dict[str, str](), loop.time()
        # They share them out; and then it stays so for a while.
        while len(set(shares.values())) < 2 or loop.time() - since < 3:
            await round_of(n, keys)
            now = {key: name for name, key, m in seen if m == n}
            if now != shares:
                shares, since = now, loop.time()
            n += 1
        nodes = await asyncio.to_thread(lambda: {key: node_of(key) for key in keys})
        hung = nodes[keys[0]]
        others = [key for key in keys if nodes[key] != hung]
        assert others
        begun = loop.time()
        cluster.servers[hung].freeze()
        try:
            rounds = n
            while loop.time() - begun < 7:  # longer than a lease lasts
                await round_of(rounds, others)
                rounds += 1
        finally:
            cluster.servers[hung].thaw()
        for name, key, m in seen:
            if m >= n:
                assert name == shares[key], f"{key} changed hands for a node it is not at"
        assert rounds > n + 3
        await round_of(rounds, keys)
    for key in others:
        assert [m for _, of, m in seen if of == key] == list(range(rounds + 1))
