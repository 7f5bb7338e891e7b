"""A real Redis Cluster: three masters, a replica of each, and a password."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import redis

from brokers.redis_server import RedisServer, free_port

PASSWORD = "cluster@pass"
SLOTS = 16_384
MASTERS = 3


def _until(what: Callable[[], Any], within: float = 30.0) -> Any:
    end = time.monotonic() + within
    while not (found := what()):
        assert time.monotonic() < end, f"not within {within} s: {what}"
        time.sleep(0.02)
    return found


class Cluster(contextlib.AbstractContextManager["Cluster"]):
    """Six servers that are quick to judge; they end with the ``with`` block.

    ``servers`` has the masters first, and then, in the same order, their replicas.
    """

    def __init__(
        self, tls: tuple[Path, Path, Path] | None = None, *, node_timeout_ms: int = 1_000
    ) -> None:
        """Start them all, and wait until every one of them says that all is well.

        Args:
            tls: The files of the CA, of a certificate, and of its key; nobody then speaks
                anything but TLS.
        """
        options = ["--requirepass", PASSWORD, "--masterauth", PASSWORD]
        options += ["--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout_ms)]
        options += ["--cluster-replica-validity-factor", "0"]
        options += ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
        self._client: dict[str, Any] = {"password": PASSWORD}
        how: dict[str, Any] = {}
        if tls is not None:
            ca, certificate, key = tls
            how["tls"] = (certificate, key)
            options += ["--tls-ca-cert-file", str(ca), "--tls-auth-clients", "no"]
            options += ["--tls-replication", "yes", "--tls-cluster", "yes"]
            self._client |= {"ssl": True, "ssl_ca_certs": str(ca)}
        self._secure = tls is not None

        def start(tries: int = 3) -> tuple[RedisServer, int]:
            bus = free_port()
            try:
                return RedisServer(*options, "--cluster-port", str(bus), **how), bus
            except AssertionError:  # somebody else has taken one of its ports meanwhile
                if tries == 1:
                    raise
                return start(tries - 1)

        with ThreadPoolExecutor() as pool:
            starting = [pool.submit(start) for _ in range(2 * MASTERS)]
        started = [one.result() for one in starting if one.exception() is None]
        self.servers = [server for server, _ in started]
        self._buses = [bus for _, bus in started]
        try:
            for one in starting:
                one.result()
            self._join()
        except BaseException:
            self.__exit__()
            raise

    def _join(self) -> None:
        clients = [self.client(which) for which in range(len(self.servers))]
        size = SLOTS // MASTERS
        for which, client in enumerate(clients):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", which + 1)
            if which < MASTERS:
                last = SLOTS - 1 if which == MASTERS - 1 else (which + 1) * size - 1
                client.execute_command("CLUSTER ADDSLOTSRANGE", which * size, last)
        for port, bus in zip(self.ports[1:], self._buses[1:], strict=True):
            clients[0].execute_command("CLUSTER MEET", "127.0.0.1", port, bus)
        _until(lambda: all(self._knows(client, len(clients)) for client in clients))
        for master, replica in zip(clients[:MASTERS], clients[MASTERS:], strict=True):
            replica.execute_command("CLUSTER REPLICATE", self.name(master))
        _until(self.is_well)
        for client in clients:
            client.close()

    @staticmethod
    def _knows(client: redis.Redis, count: int) -> bool:
        info = client.execute_command("CLUSTER INFO")
        return int(info["cluster_known_nodes"]) == count and info["cluster_state"] == "ok"

    @staticmethod
    def name(client: redis.Redis) -> str:
        """What a node is called by the others."""
        return str(client.execute_command("CLUSTER MYID"))

    def is_well(self) -> bool:
        """Whether every node is there, every slot is served, and every replica is up to date."""
        masters = 0
        for which in range(len(self.servers)):
            with contextlib.suppress(redis.ConnectionError), self.client(which) as client:
                if not self._knows(client, len(self.servers)):
                    return False
                replication: Any = client.info("replication")
                if replication["role"] == "master":
                    masters += 1
                    if replication["connected_slaves"] != 1:
                        return False
                elif replication["master_link_status"] != "up":
                    return False
        return masters == MASTERS

    @property
    def ports(self) -> list[int]:
        """Where they are."""
        return [server.port for server in self.servers]

    @property
    def url(self) -> str:
        """Two of them, and one that is not there."""
        scheme = "rediss+cluster" if self._secure else "redis+cluster"
        seeds = ",".join(f"127.0.0.1:{port}" for port in (free_port(), *self.ports[1:3]))
        return f"{scheme}://:cluster%40pass@{seeds}"

    def client(self, which: int) -> redis.Redis:
        """A connection to one of the servers."""
        return self.servers[which].client(**self._client)

    def whole(self) -> redis.RedisCluster:
        """Another client of all of it."""
        return redis.RedisCluster(
            host="127.0.0.1", port=self.ports[2], decode_responses=True, **self._client
        )

    def owner(self, key: str) -> int:
        """Which of the servers is the master of a key, as all that live know; -1 if they differ."""
        found = set()
        for which in range(len(self.servers)):
            with contextlib.suppress(redis.ConnectionError), self.client(which) as client:
                client.set_response_callback("CLUSTER SLOTS", lambda answer, **_: answer)
                slot = int(client.execute_command("CLUSTER KEYSLOT", key))
                for first, last, master, *_ in client.execute_command("CLUSTER SLOTS"):
                    if first <= slot <= last:
                        found.add(int(master[1]))
        return self.ports.index(found.pop()) if len(found) == 1 else -1

    def replicated(self, which: int) -> None:
        """Wait until the replica has what server ``which`` has."""
        with self.client(which) as client:
            assert client.wait(1, 10_000) == 1

    def promote(self, which: int) -> None:
        """Make a replica the master while both live.

        The servers give up after five seconds where one of them is held up: they are asked again.
        """
        with self.client(which) as client:

            def role() -> str:
                replication: Any = client.info("replication")
                return str(replication["role"])

            for _ in range(4):
                if role() == "master":
                    return
                client.execute_command("CLUSTER FAILOVER")
                with contextlib.suppress(AssertionError):
                    _until(lambda: role() == "master", 6)
        raise AssertionError("no failover within four tries")

    def migrate(self, key: str, to: int, *, between: Callable[[], None] = lambda: None) -> None:
        """Give the slot of ``key`` to another master, with all keys in it, as an operator does.

        Args:
            key: One of its keys.
            to: Which master.
            between: Called when the keys are there already, and the slot is not.
        """
        origin = self.owner(key)
        with self.client(origin) as here, self.client(to) as there:
            slot = int(here.execute_command("CLUSTER KEYSLOT", key))
            there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", self.name(here))
            here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", self.name(there))
            while keys := here.execute_command("CLUSTER GETKEYSINSLOT", slot, 10):
                here.execute_command(
                    *("MIGRATE", "127.0.0.1", self.ports[to], "", 0, 5_000),
                    *("AUTH", PASSWORD, "KEYS", *keys),
                )
            between()
            for client in (there, here):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", self.name(there))

    def __exit__(self, *_error: object) -> None:
        for server in self.servers:
            server.__exit__()
