"""A real RabbitMQ broker."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from pathlib import Path

import pytest

from brokers.redis_server import free_port

PACKAGED = Path("/usr/lib/rabbitmq/bin")
"""Where Debian has the scripts themselves: those in the path drop the environment."""

INSTALLED = PACKAGED.exists() or shutil.which("rabbitmq-server") is not None
NEEDED = pytest.mark.skipif(not INSTALLED, reason="rabbitmq-server is not installed")


def _script(name: str) -> str:
    return str(PACKAGED / name) if PACKAGED.exists() else name


class RabbitMqServer(contextlib.AbstractContextManager["RabbitMqServer"]):
    """A broker with a daemon of names of its own; both end with the ``with`` block.

    ``lines`` are added to its configuration.
    """

    def __init__(self, *lines: str) -> None:
        self._lines = lines
        self.port, self._names, self._distribution = free_port(), free_port(), free_port()
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._daemon = subprocess.Popen(
            ["epmd", "-address", "127.0.0.1", "-port", str(self._names)], start_new_session=True
        )
        self._process: subprocess.Popen[str] | None = None
        self._prepare()
        self.launch()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}"

    def _prepare(self) -> None:
        folder = Path(self._folder.name)
        cookie = folder / ".erlang.cookie"
        cookie.write_text("tiebeam")
        cookie.chmod(0o400)
        (folder / "plugins").write_text("[].")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "log.file = false\nlog.console = true\nlog.console.level = warning\n"
            + "".join(f"{line}\n" for line in self._lines)
        )

    def launch(self) -> None:
        """Start it (again), and wait until it takes connections."""
        self._process = subprocess.Popen(
            [_script("rabbitmq-server")],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",  # it may be killed in the middle of a character
            start_new_session=True,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "completed with" in line:
                break
        else:
            raise AssertionError("rabbitmq-server ended before it was ready")
        # What it says from now on is read, too: who writes into a full pipe stands still.
        self._reading = threading.Thread(target=deque, args=(self._process.stdout, 0), daemon=True)
        self._reading.start()

    def _environment(self) -> dict[str, str]:
        folder = Path(self._folder.name)
        return {
            **os.environ,
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"tiebeam{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "ERL_EPMD_PORT": str(self._names),
            "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
        }

    def ctl(self, *words: str) -> str:
        """What ``rabbitmqctl`` says; it takes a second or two."""
        ended = subprocess.run(
            [_script("rabbitmqctl"), "--quiet", *words],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._reading.join()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def __exit__(self, *_error: object) -> None:
        self.kill()
        self._daemon.kill()
        self._daemon.wait()
        self._folder.cleanup()
