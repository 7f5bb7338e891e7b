"""Two processes of one contender, and what they measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parents[1]
BARE = HERE.parent / "bare" / "main.rs"


@dataclass(frozen=True)
class Outcome:
    """What one race gave."""

    rate: float
    """Events per second, from the first ``publish`` to the end of the last handler."""
    latencies: list[float]
    """From ``publish`` to the handler, in seconds; of events that say when they were sent."""


def build_bare(folder: Path) -> Path:
    """The bare client, made of the standard library alone."""
    program = folder / "bare"
    subprocess.run(["rustc", "--edition", "2024", "-O", "-o", str(program), str(BARE)], check=True)
    return program


def race_alone(url: str, name: str, count: int) -> Outcome:
    """One contender once, in one process, as fast as it goes."""
    words = [sys.executable, "-m", "processes.worker", name, "both", url, str(count), "0"]
    said = subprocess.run(words, cwd=HERE, stdout=subprocess.PIPE, text=True, check=True).stdout
    figures = json.loads(said.splitlines()[-1])
    return _outcome(name, count, figures, figures)


def race(url: str, name: str, count: int, rate: float, bare: Path | None) -> Outcome:
    """One contender once, in two processes; ``rate`` is in events per second, or 0 for as fast as
    it goes."""

    def start(what: str) -> subprocess.Popen[str]:
        if name.startswith("bare_"):
            where = urlsplit(url)
            address = f"{where.hostname}:{where.port}"
            words = [str(bare), name.removeprefix("bare_"), what, address]
        else:
            words = [sys.executable, "-m", "processes.worker", name, what, url]
        words += [str(count), str(rate)]
        return subprocess.Popen(words, cwd=HERE, stdout=subprocess.PIPE, text=True)

    consumer = start("consume")
    assert consumer.stdout is not None
    if consumer.stdout.readline() != "ready\n":
        raise SystemExit(f"{name}: the consumer ended before it was ready")
    publisher = start("publish")
    sent = json.loads(publisher.communicate()[0].splitlines()[-1])
    got: dict[str, Any] = json.loads(consumer.communicate(timeout=120)[0].splitlines()[-1])
    return _outcome(name, count, sent, got)


def _outcome(name: str, count: int, sent: dict[str, Any], got: dict[str, Any]) -> Outcome:
    if got["seen"] < count:
        raise SystemExit(f"{name}: {got['seen']} of {count} events came")
    return Outcome(count / (got["ended"] - sent["begun"]), got["latencies"])
