"""A real Redis server."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import redis

NEEDED = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)


def free_port() -> int:
    """A port that nobody listens on."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer(contextlib.AbstractContextManager["RedisServer"]):
    """A server that syncs each write to its file, as a trader would have it.

    It ends with the ``with`` block, whatever was done to it meanwhile.
    """

    def __init__(
        self, *options: str, tls: tuple[Path, Path] | None = None, port: int | None = None
    ) -> None:
        """Start it.

        Args:
            options: Further ones for its command line.
            tls: The files of its certificate and of the key of that; it then speaks nothing else.
            port: Where it listens; on a free one, unless given.
        """
        self.port = port or free_port()
        self.options = options
        self._listens = ["--port", str(self.port)]
        self._scheme, self._host = "redis", "127.0.0.1"
        if tls is not None:
            certificate, key = map(str, tls)
            self._listens = ["--port", "0", "--tls-port", str(self.port)]
            self._listens += ["--tls-cert-file", certificate, "--tls-key-file", key]
            self._scheme, self._host = "rediss", "localhost"
        self._folder = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen[str] | None = None
        try:
            self.launch()
        except BaseException:
            self.__exit__()
            raise

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self._scheme}://{self._host}:{self.port}/0"

    def launch(self) -> None:
        """Start it (again), and wait until it takes connections."""
        self._process = subprocess.Popen(
            [
                "redis-server",
                *(*self._listens, "--bind", "127.0.0.1", "--save", ""),
                *("--appendonly", "yes", "--appendfsync", "always"),
                *("--dir", self._folder.name, "--logfile", "", *self.options),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                break
        else:
            raise AssertionError("redis-server ended before it was ready")

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def freeze(self) -> None:
        """Have it stand still: connections stay, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, which)

    def client(self, **options: Any) -> redis.Redis:
        """Another client's connection, which knows nothing of tiebeam."""
        return redis.Redis(port=self.port, decode_responses=True, **options)

    def __exit__(self, *_error: object) -> None:
        self.kill()
        self._folder.cleanup()
