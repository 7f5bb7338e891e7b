"""``tiebeam services``: it finds the bus as the processes of the system do."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import redis_server
from tiebeam import Component, Framework
from tiebeam.cli import main as command_line

pytestmark = [pytest.mark.broker, redis_server.NEEDED]

PARTITIONS = 4


class Feed(Component):
    """Somebody to find."""


@pytest.fixture(scope="module")
def server() -> Iterator[redis_server.RedisServer]:
    with redis_server.RedisServer() as server:
        yield server


@pytest.fixture
def site(server: redis_server.RedisServer, tmp_path: Path) -> dict[str, Any]:
    """A system whose keys have several partitions."""
    return {
        "event_bus": {
            "implementation": "redis",
            "connection_string": server.url,
            "channel_prefix": tmp_path.name,
            "partitions": PARTITIONS,
        },
        "logging": {"console": False},
    }


def listing(
    run: Any, capsys: pytest.CaptureFixture[str], site: dict[str, Any], *words: str
) -> tuple[int, str, str]:
    """What the command says while the system runs."""

    async def main() -> int:
        async with Framework(site, components=[Feed]):
            return await asyncio.to_thread(command_line, ["services", "--wait", "3", *words])

    code = run(main())
    said = capsys.readouterr()
    return code, said.out, said.err


def written(site: dict[str, Any], folder: Path) -> str:
    file = folder / "system.json"
    file.write_text(json.dumps(site))
    return str(file)


def test_a_file_says_all_of_the_bus(
    site: dict[str, Any], run: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = listing(run, capsys, site, written(site, tmp_path), "--json")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)
    assert (found["name"], found["pid"]) == ("feed", os.getpid())


def test_beside_a_url_the_number_of_partitions_is_given(
    site: dict[str, Any], run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bus = site["event_bus"]
    where = ["--url", bus["connection_string"], "--prefix", bus["channel_prefix"]]
    code, out, err = listing(run, capsys, site, *where)
    assert (code, out) == (2, "")
    assert f"has {PARTITIONS} partition(s) on the server" in err
    assert "this command takes the number that is on the server as --partitions N" in err

    code, out, err = listing(run, capsys, site, *where, "--partitions", str(PARTITIONS))
    assert (code, err) == (0, "")
    assert out.splitlines()[1].startswith("feed ")


def test_the_command_line_overrules_the_environment(
    site: dict[str, Any],
    run: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = f"redis://127.0.0.1:{redis_server.free_port()}/0"
    bus = site["event_bus"]
    asked: list[str] = ["--url", bus["connection_string"], "--prefix", bus["channel_prefix"]]

    async def main() -> int:
        async with Framework(site, components=[Feed]):
            monkeypatch.setenv("TIEBEAM_EVENT_BUS__CONNECTION_STRING", elsewhere)
            # What it does not say, the environment does, like for every process.
            monkeypatch.setenv("TIEBEAM_EVENT_BUS__PARTITIONS", str(PARTITIONS))
            return await asyncio.to_thread(command_line, ["services", "--wait", "3", *asked])

    assert run(main()) == 0
    assert "feed " in capsys.readouterr().out


def test_a_listing_needs_its_broker_also_where_the_system_does_not(
    site: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    port = redis_server.free_port()
    site["event_bus"] |= {
        "connection_string": f"redis://127.0.0.1:{port}/0",
        "connect_timeout": 1,
        "required": False,
    }
    assert command_line(["services", written(site, tmp_path)]) == 1
    said = capsys.readouterr()
    assert (said.out, "running and reachable" in said.err) == ("", True)
