"""The trading system as four processes on a broker: the same trades as in one process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic")

from brokers import rabbitmq_server, redis_server

from examples.trading.domain.simulator import Market, simulate
from examples.trading.processes import FILES, PARTS, ROOT, command, environment

pytestmark = pytest.mark.broker

GUARD = 120
"""Seconds; no test depends on its length."""


@pytest.fixture(scope="module")
def trades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven and a half hours of a thin market, in which there is a `flatten` and a `resume`."""
    path = tmp_path_factory.mktemp("recorded") / "trades.csv"
    market = Market(duration_ms=27_600_000, trades_per_second=0.04)
    lines = [
        f"{t.event_time},{t.trade_id},{t.side},{t.price},{t.amount}\n" for t in simulate(7, market)
    ]
    path.write_text("timestamp,trade_id,side,price,amount\n" + "".join(lines))
    return path


def settings(trades: Path, ledger: Path) -> list[str]:
    return [
        f"components.data_collection.replay={json.dumps(str(trades))}",
        "components.session.summary=json",
        "components.dashboard.live=false",
        f"components.virtual_trading.ledger={json.dumps(str(ledger))}",
        "logging.console=false",
    ]


class Run:
    """What a run came to: its trades, byte for byte, and its summary."""

    def __init__(self, ledger: Path, summary: str) -> None:
        self.trades = ledger.read_bytes()
        self.summary = json.loads(summary)
        # The books are those of one bus: of other processes it knows nothing.
        self.books = self.summary.pop("books")


@pytest.fixture(scope="module")
def one(trades: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All of it in one process, in memory."""
    folder = tmp_path_factory.mktemp("one")
    sets = [f"logging.file={folder}/x.log", *settings(trades, folder / "ledger")]
    arguments = [argument for value in sets for argument in ("--set", value)]
    ended = subprocess.run(
        [sys.executable, "-m", "tiebeam", "run", *FILES, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=True,
    )
    return Run(folder / "ledger", ended.stdout)


@contextlib.contextmanager
def four(
    url: str, trades: Path, folder: Path, more: Sequence[str] = ()
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The four processes, as `examples/trading/processes.py` starts them."""
    env = environment(url, f"trading_{os.getpid()}_{folder.name}")
    processes = {}
    for part in PARTS:
        sets = [*settings(trades, folder / "ledger"), f"logging.file={folder}/{part}.log", *more]
        processes[part] = subprocess.Popen(
            command(part, sets),
            cwd=ROOT,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    try:
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def outputs(processes: dict[str, subprocess.Popen[str]]) -> dict[str, tuple[int, str, str]]:
    """Waits for their end: exit code, standard output and standard error of each."""
    ended = {name: process.communicate(timeout=GUARD) for name, process in processes.items()}
    return {name: (processes[name].returncode, *ended[name]) for name in processes}


@pytest.fixture(scope="module")
def redis() -> Iterator[redis_server.RedisServer]:
    with redis_server.RedisServer("--appendfsync", "no") as server:
        yield server


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[rabbitmq_server.RabbitMqServer]:
    with rabbitmq_server.RabbitMqServer() as server:
        yield server


@pytest.fixture(
    params=[
        pytest.param("redis", marks=redis_server.NEEDED),
        pytest.param("rabbitmq", marks=rabbitmq_server.NEEDED),
    ]
)
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_four_processes_make_the_same_trades_as_one(
    server: Any, trades: Path, one: Run, tmp_path: Path
) -> None:
    with four(server.url, trades, tmp_path) as processes:
        ended = outputs(processes)
    assert {name: code for name, (code, _, _) in ended.items()} == dict.fromkeys(PARTS, 0), ended
    many = Run(tmp_path / "ledger", ended["trading"][1])
    assert len(one.trades.splitlines()) > 3
    assert many.trades == one.trades
    assert many.summary == one.summary
    assert many.summary["complete"]
    assert many.books["balanced"]
    assert [name for name in PARTS if ended[name][1]] == ["trading"], "the session sums up"


def test_where_one_part_is_killed_the_others_end_in_order_and_say_why(
    server: Any, trades: Path, tmp_path: Path
) -> None:
    more = [
        "components.data_collection.speed=600",
        "service_registry.presence.lease=1.5",
        "service_registry.presence.interval=0.5",
    ]
    with four(server.url, trades, tmp_path, more) as processes:
        log = tmp_path / "trading.log"
        while not (log.exists() and log.read_text().count("a service is there") >= 6):
            assert all(process.poll() is None for process in processes.values())
            time.sleep(0.01)
        processes["analysis"].send_signal(signal.SIGKILL)
        ended = outputs(processes)
    codes = {name: code for name, (code, _, _) in ended.items()}
    assert codes == {"collection": 1, "analysis": -9, "decision": 1, "trading": 1}, ended
    # Of the part itself, or of who depends on it, whichever was noticed first.
    said = ended["trading"][2]
    assert re.search(r"^incomplete: \w+: .*(fell silent|no process announces)", said), said


@redis_server.NEEDED
def test_the_script_starts_all_four_and_sums_up(
    redis: redis_server.RedisServer, trades: Path, one: Run, tmp_path: Path
) -> None:
    sets = [f"logging.file={tmp_path}/x.log", *settings(trades, tmp_path / "ledger")]
    arguments = [argument for value in sets for argument in ("--set", value)]
    ended = subprocess.run(
        [sys.executable, "-m", "examples.trading.processes", "--url", redis.url, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert Run(tmp_path / "ledger", ended.stdout).trades == one.trades


def test_the_guide_names_the_same_parts() -> None:
    page = (ROOT / "docs" / "trading.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in page.splitlines() if line.startswith(f"tiebeam run {FILES[0]}")]
    shown = [re.findall(r"--only (\w+)", line) for line in lines if "--only" in line]
    assert shown == list(PARTS.values())
