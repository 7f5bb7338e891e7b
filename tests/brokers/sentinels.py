"""A real master, its replica, and three real sentinels, with passwords."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import redis

from brokers.redis_server import RedisServer, free_port

NAME = "the master"
PASSWORD = "server@pass"
SENTINEL_PASSWORD = "sentinel/pass"

_SERVER = (
    *("--requirepass", PASSWORD, "--masterauth", PASSWORD),
    *("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
)


def _until(what: Any, within: float = 20.0) -> None:
    end = time.monotonic() + within
    while not what():
        assert time.monotonic() < end, f"not within {within} s: {what}"
        time.sleep(0.02)


class Sentinels(contextlib.AbstractContextManager["Sentinels"]):
    """Two servers, watched by three sentinels that are quick to judge."""

    def __init__(self, tls: tuple[Path, Path, Path] | None = None) -> None:
        """Start them all, and wait until they know each other.

        Args:
            tls: The files of the CA, of a certificate, and of its key; nobody then speaks
                anything but TLS.
        """
        self._tls = tls
        options, ours = [*_SERVER], None
        if tls is not None:
            ca, *ours = tls
            options += ["--tls-ca-cert-file", str(ca), "--tls-auth-clients", "no"]
            options += ["--tls-replication", "yes"]
            self._client = {"ssl": True, "ssl_ca_certs": str(ca)}
        else:
            self._client = {}
        self._options = options
        how: Any = {"tls": ours and tuple(ours)}
        self._folder = tempfile.TemporaryDirectory()
        self._processes: list[subprocess.Popen[str]] = []
        self.servers = [RedisServer(*options, **how)]
        master = str(self.servers[0].port)
        self.servers.append(RedisServer(*options, "--replicaof", f"127.0.0.1 {master}", **how))
        self.ports = [free_port() for _ in range(3)]
        try:
            for port in self.ports:
                self._launch(port, master)
            for port in self.ports:
                _until(lambda port=port: self._is_complete(port))
        except BaseException:
            self.__exit__()
            raise

    def _launch(self, port: int, master: str) -> None:
        file = Path(self._folder.name) / f"{port}.conf"
        listens = f"port {port}\n"
        if self._tls is not None:
            ca, certificate, key = self._tls
            listens = (
                f"port 0\ntls-port {port}\ntls-replication yes\ntls-auth-clients no\n"
                f"tls-ca-cert-file {ca}\ntls-cert-file {certificate}\ntls-key-file {key}\n"
            )
        file.write_text(
            f"{listens}bind 127.0.0.1\ndir {self._folder.name}\n"
            f'requirepass "{SENTINEL_PASSWORD}"\n'
            f'sentinel sentinel-pass "{SENTINEL_PASSWORD}"\n'
            f'sentinel monitor "{NAME}" 127.0.0.1 {master} 2\n'
            f'sentinel auth-pass "{NAME}" "{PASSWORD}"\n'
            f'sentinel down-after-milliseconds "{NAME}" 500\n'
            f'sentinel failover-timeout "{NAME}" 2000\n'
        )
        file.chmod(0o600)
        process = subprocess.Popen(
            ["redis-server", str(file), "--sentinel"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._processes.append(process)

    def sentinel(self, port: int) -> redis.Redis:
        """A connection to one of them."""
        options: Any = {"password": SENTINEL_PASSWORD, **self._client}
        return redis.Redis(port=port, decode_responses=True, **options)

    def _is_complete(self, port: int) -> bool:
        with contextlib.suppress(redis.ConnectionError), self.sentinel(port) as sentinel:
            state: Any = sentinel.execute_command("SENTINEL", "MASTER", NAME)
            if isinstance(state, list):
                state = dict(zip(state[::2], state[1::2], strict=True))
            known = (int(state["num-other-sentinels"]), int(state["num-slaves"]))
            return known == (2, 1) and self._replica_is_fit(sentinel)
        return False

    def _replica_is_fit(self, sentinel: redis.Redis) -> bool:
        (replica,) = sentinel.execute_command("SENTINEL", "REPLICAS", NAME)
        if isinstance(replica, list):
            replica = dict(zip(replica[::2], replica[1::2], strict=True))
        return str(replica["master-link-status"]) == "ok" and replica["flags"] in (
            "slave",
            {"slave"},
        )

    @property
    def url(self) -> str:
        """Where they are; the first one is not there."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in (free_port(), *self.ports))
        scheme = "redis+sentinel" if self._tls is None else "rediss+sentinel"
        return f"{scheme}://:server%40pass@{hosts}/the%20master/0?sentinel_password=sentinel%2Fpass"

    def master(self) -> int:
        """Which of the servers is the master, as all sentinels know; -1 if they disagree."""
        ports = set()
        for port in self.ports:
            with self.sentinel(port) as sentinel:
                ports.add(
                    int(sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])
                )
        known = [server.port for server in self.servers]
        return known.index(ports.pop()) if len(ports) == 1 else -1

    def client(self, which: int) -> redis.Redis:
        """A connection to a server."""
        return self.servers[which].client(password=PASSWORD, **self._client)

    def replicated(self, which: int) -> None:
        """Wait until the replica has what server ``which`` has."""
        with self.client(which) as client:
            assert client.wait(1, 10_000) == 1

    def come_back(self, which: int) -> None:
        """Start the server that was killed; at once as what the sentinels would make of it."""
        server, master = self.servers[which], self.servers[1 - which]
        server.options = (*self._options, "--replicaof", f"127.0.0.1 {master.port}")
        server.launch()

    def fail_over(self) -> None:
        """Have the replica become the master while the old one lives."""
        with self.sentinel(self.ports[0]) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", NAME)

    def all_fit(self) -> bool:
        """Whether a failover would succeed."""
        return all(self._is_complete(port) for port in self.ports)

    def __exit__(self, *_error: object) -> None:
        for process in self._processes:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        for server in self.servers:
            server.kill()
            server.__exit__()
        self._folder.cleanup()
