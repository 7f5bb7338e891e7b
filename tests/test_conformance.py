"""Every transport does what the conformance suite says, on real brokers."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import certificates
from brokers.certificates import Certificates
from brokers.cluster import Cluster
from brokers.rabbitmq_server import INSTALLED, RabbitMqServer
from brokers.redis_server import RedisServer, free_port
from tiebeam import conformance
from tiebeam.cli import main
from tiebeam.conformance import CASES, Case, Site, check, check_case
from tiebeam.conformance._case import case
from tiebeam.conformance._expect import expect
from tiebeam.conformance._report import place

LACKS = {
    None: {"durable", "durable_dedup", "replay", "shared"},
    "amqp": {"durable_dedup", "exact_delays", "one_handler", "replay", "shared_dedup"},
}
"""What a transport cannot do, by the scheme of its URLs."""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMqServer]:
    if not INSTALLED:
        pytest.skip("rabbitmq-server is not installed")
    with RabbitMqServer() as server:
        yield server


@pytest.fixture(
    params=[
        pytest.param("in_memory", id="in_memory"),
        pytest.param("redis", id="redis", marks=pytest.mark.broker),
        pytest.param("cluster", id="cluster", marks=pytest.mark.broker),
        pytest.param("rabbitmq", id="rabbitmq", marks=pytest.mark.broker),
    ]
)
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "in_memory" else request.getfixturevalue(request.param).url


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_transport_does_what_the_suite_says(case: Case, url: str | None, run: Any) -> None:
    result = run(check_case(case, url))
    if result.outcome == "left out":
        assert set(case.needs) & LACKS[url and url.split(":")[0]]
    else:
        assert result.outcome == "passed", result.reason


def test_each_case_shows_something_of_its_own() -> None:
    assert len({case.title for case in CASES}) == len(CASES) >= 35


def there(redis: RedisServer, rabbitmq: RabbitMqServer) -> list[list[str]]:
    """All that is on the servers, whoever it belongs to."""
    asked = (["list_queues", "name"], ["list_exchanges", "name"])
    with redis.client() as client:
        keys = sorted(client.keys("*"))
    return [keys, *(sorted(rabbitmq.ctl(*words).splitlines()) for words in asked)]


@pytest.mark.broker
def test_the_command_prints_the_matrix_and_cleans_up(
    redis: RedisServer, rabbitmq: RabbitMqServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with redis.client() as client:
        client.set("{tiebeam}:partitions", 4)  # a system of theirs, which is none of our business
    before = there(redis, rabbitmq)
    assert main(["conformance", redis.url, rabbitmq.url]) == 0
    assert there(redis, rabbitmq) == before
    said = capsys.readouterr()
    head, where, _, durable, *rest = [line.split() for line in said.out.splitlines()]
    assert head == ["redis", "rabbitmq"]
    assert where == [f"127.0.0.1:{redis.port}/0", f"127.0.0.1:{rabbitmq.port}"]
    assert durable == ["durable", "yes", "yes"]
    less = [case.title for case in CASES if set(case.needs) & LACKS["amqp"]]
    assert ["passed", str(len(CASES)), str(len(CASES) - len(less))] in rest
    assert ["left", "out", "0", str(len(less))] in rest
    assert all(f"  - {title}: needs " in said.out for title in less)
    # Each case was told as it ended.
    told = said.err.splitlines()
    assert told[0] == where[0]
    assert told[len(CASES) + 1] == where[1]
    assert [line.split()[0] for line in told[1 : len(CASES) + 1]] == ["ok"] * len(CASES)
    assert "guest" not in said.out + said.err


@pytest.mark.broker
def test_a_case_that_fails_leaves_nothing(
    redis: RedisServer, rabbitmq: RabbitMqServer, run: Any
) -> None:
    @case()
    async def fails(site: Site) -> None:
        """It ends in the middle of things."""
        here, there = site.two()
        here.subscribe("some.event", lambda _event: None, group="open", key="payload.n")
        there.subscribe("some.event", lambda _event: None, group="closed")
        there.handle("some.command", lambda _event: None)
        await site.ready()
        await there.close()
        await here.publish("some.event", {"n": 1}, delay=30)
        raise RuntimeError("in the middle")

    before = there(redis, rabbitmq)
    for url in (redis.url, rabbitmq.url):
        result = run(check_case(fails, url))
        assert (result.outcome, "in the middle" in result.reason) == ("failed", True)
    assert there(redis, rabbitmq) == before


@pytest.fixture
def first_cases(monkeypatch: pytest.MonkeyPatch) -> tuple[Case, ...]:
    """What the command runs, so that it takes no time."""
    few = CASES[:2]
    monkeypatch.setattr(conformance, "check", functools.partial(check, cases=few))
    return few


@pytest.mark.broker
def test_the_command_says_it_as_json(
    redis: RedisServer, first_cases: tuple[Case, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with redis.client() as client:
        client.config_set("requirepass", "canary")
        try:
            url = f"redis://:canary@127.0.0.1:{redis.port}"
            assert main(["conformance", url, "--prefix", "ours", "--json"]) == 0
        finally:
            client.config_set("requirepass", "")
    said = capsys.readouterr()
    (report,) = json.loads(said.out)
    assert (report["transport"], report["where"]) == ("redis", f"127.0.0.1:{redis.port}")
    assert report["capabilities"]["replay"] is True
    assert [result["case"] for result in report["results"]] == [c.title for c in first_cases]
    assert (report["passed"], report["failed"], report["left_out"]) == (2, 0, 0)
    assert "canary" not in said.out + said.err


@pytest.mark.broker
def test_a_prefix_begins_every_name(rabbitmq: RabbitMqServer, run: Any) -> None:
    @case()
    async def looks(site: Site) -> None:
        """What is there while a case runs."""
        bus = site.bus()
        bus.subscribe("some.event", lambda _event: None, group="g")
        await site.ready()
        queues = await asyncio.to_thread(rabbitmq.ctl, "list_queues", "name")
        own = [name for name in queues.split() if name.endswith(".group.g")]
        expect(len(own) == 1 and own[0].startswith("ours-"), own)

    result = run(check_case(looks, rabbitmq.url, prefix="ours"))
    assert result.outcome == "passed", result.reason


@pytest.mark.broker
@certificates.NEEDED
def test_files_for_tls(
    first_cases: tuple[Case, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    ca = Certificates(tmp_path / "ours")
    (cert, key), own = ca.sign("client"), ca.sign("server")
    clients = ("--tls-ca-cert-file", str(ca.ca), "--tls-auth-clients", "yes")
    with RedisServer(*clients, tls=own) as server:
        files = ["--cert-file", str(cert), "--key-file", str(key)]
        assert main(["conformance", server.url, *files]) == 2
        assert f"localhost:{server.port}/0: " in capsys.readouterr().err
        assert main(["conformance", server.url, *files, "--ca-file", str(ca.ca)]) == 0
        assert "passed" in capsys.readouterr().out


def test_a_url_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = f"127.0.0.1:{free_port()}/0"
    assert main(["conformance", f"redis://me:canary@{nowhere}"]) == 1
    said = capsys.readouterr().err
    assert f"{nowhere}: " in said
    assert "running and reachable" in said
    assert main(["conformance", "http://user:canary@localhost"]) == 2
    said += capsys.readouterr().err
    assert main(["conformance", "canary"]) == 2
    said += capsys.readouterr().err
    assert "URL 1: the URL of a broker begins with" in said
    assert "canary" not in said


def test_a_bus_in_memory_takes_nothing_of_a_broker(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "--prefix", "ours"]) == 2
    assert "give a URL" in capsys.readouterr().err


@pytest.mark.broker
def test_all_brokers_are_there_before_the_first_case_runs(
    redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["conformance", redis.url, "http://localhost"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("tiebeam: the configuration is wrong:\nlocalhost: ")


def test_a_case_that_fails_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @case()
    async def fails(site: Site) -> None:
        """Nobody can do this."""
        expect(site.url, "there is no URL")

    monkeypatch.setattr(conformance, "check", functools.partial(check, cases=[fails]))
    assert main(["conformance"]) == 1
    said = capsys.readouterr()
    assert "  FAILED nobody can do this: AssertionError: there is no URL" in said.out
    assert said.err.splitlines()[0] == "in memory"


def test_a_place_shows_no_password() -> None:
    shown = {
        None: "",
        "hunter2": "",
        "redis://localhost": "localhost",
        "redis://me:hunter2@localhost:6379/0": "localhost:6379/0",
        "redis://:hun/te?r@2@localhost": "localhost",
        "amqp://me:hunter2@[::1]:5672/%2F?heartbeat=5": "[::1]:5672/%2F",
        "redis+sentinel://a:1,b:2/main/0?sentinel_password=hunter2": "a:1,b:2/main/0",
        "unix:///run/redis.sock?db=0&password=hunter2": "/run/redis.sock",
    }
    assert {url: place(url) for url in shown} == shown
    assert "hunter2" not in place("redis://h?sentinel_username=a@x&sentinel_password=hunter2")
