"""Figures on Redis: ``python -m processes`` from ``benches/python``.

Publisher and consumer are two processes, the server is a third, all on this machine. Contenders
take turns; each figure is the median of the rounds, with the least and the most. An event counts
when its handler has run; each contender acknowledges in its own way. Ratios are of one run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]

THROUGHPUT: dict[str, tuple[str, int]] = {
    "bare_redis": ("the limit: batches of 100 over plain sockets", 200_000),
    "tiebeam_redis": ("tiebeam", 100_000),
    "tiebeam_redis_tasks": ("tiebeam, await in 64 tasks", 64_000),
    "redis_py": ("redis-py by hand, batches of 100", 50_000),
    "redis_py_single": ("redis-py by hand, one by one", 5_000),
    "faststream_redis": ("FastStream", 5_000),
}
LATENCY: dict[str, str] = {
    "tiebeam_redis": "tiebeam",
    "redis_py_single": "redis-py by hand, one by one",
    "faststream_redis": "FastStream",
}


class Server:
    """A server of our own, which syncs to its file every second."""

    def __enter__(self) -> Server:
        self.folder = tempfile.TemporaryDirectory()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [
                *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
                *("--appendonly", "yes", "--appendfsync", "everysec", "--dir", self.folder.name),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "Ready to accept" in line:
                break
        return self

    def __exit__(self, *_args: object) -> None:
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def flush(self) -> None:
        """Empty it."""
        with socket.create_connection(("127.0.0.1", self.port)) as link:
            link.sendall(b"FLUSHALL\r\n")
            link.recv(10)


def race(server: Server, name: str, count: int, rate: float = 0.0) -> tuple[float, list[float]]:
    """One contender once: events per second, and the latencies in seconds."""
    server.flush()

    def start(what: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "processes.worker", name, what, server.url]
        return subprocess.Popen(
            [*words, str(count), str(rate)], cwd=HERE, stdout=subprocess.PIPE, text=True
        )

    consumer = start("consume")
    assert consumer.stdout is not None
    if consumer.stdout.readline() != "ready\n":
        raise SystemExit(f"{name}: the consumer ended before it was ready")
    publisher = start("publish")
    sent = json.loads(publisher.communicate()[0].splitlines()[-1])
    got: dict[str, Any] = json.loads(consumer.communicate(timeout=120)[0].splitlines()[-1])
    if got["seen"] < count:
        raise SystemExit(f"{name}: {got['seen']} of {count} events came")
    return count / (got["ended"] - sent["begun"]), got["latencies"]


def main() -> int:
    """Run all, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", default=[], help="contenders by name")
    parser.add_argument("--events", type=int, help="for each contender, instead of its own number")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        print("redis-server is not installed", file=sys.stderr)
        return 1
    rates: dict[str, list[float]] = {}
    waits: dict[str, list[float]] = {}
    with Server() as server:
        for _ in range(options.rounds):
            for name, (_title, usual) in THROUGHPUT.items():
                if not options.only or name in options.only:
                    count = options.events or usual
                    rates.setdefault(name, []).append(race(server, name, count)[0])
            for name in LATENCY:
                if not options.only or name in options.only:
                    count = options.events or 3_000
                    waits.setdefault(name, []).extend(race(server, name, count, 1_000.0)[1])
    best = statistics.median(rates.get("bare_redis", [0.0]))
    heading = "events per second, published, handled, acknowledged"
    print(f"{heading:50} median   least    most   of the limit")
    for name, figures in rates.items():
        middle = statistics.median(figures)
        share = f"{middle / best:.2f}" if best else ""
        title = THROUGHPUT[name][0]
        print(f"{title:50} {middle:7,.0f} {min(figures):7,.0f} {max(figures):7,.0f}   {share}")
    print(f"\n{'latency at 1,000 events per second, in µs':50}    p50     p99")
    for name, figures in waits.items():
        cuts = statistics.quantiles(figures, n=100)
        print(f"{LATENCY[name]:50} {cuts[49] * 1e6:7,.0f} {cuts[98] * 1e6:7,.0f}")
    if options.json:
        options.json.write_text(json.dumps({"rates": rates, "latencies": waits}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
