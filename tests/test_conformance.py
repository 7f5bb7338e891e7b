"""Every transport does what the conformance suite says, on real brokers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from brokers.cluster import Cluster
from brokers.rabbitmq_server import INSTALLED, RabbitMqServer
from brokers.redis_server import RedisServer
from tiebeam.cli import main
from tiebeam.conformance import CASES, Case, check_case


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with RedisServer() as server:
        yield server.url


@pytest.fixture(scope="module")
def cluster_url() -> Iterator[str]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with Cluster() as cluster:
        yield cluster.url


@pytest.fixture(scope="module")
def rabbitmq_url() -> Iterator[str]:
    if not INSTALLED:
        pytest.skip("rabbitmq-server is not installed")
    with RabbitMqServer() as server:
        yield server.url


@pytest.fixture(
    params=[
        pytest.param("in_memory", id="in_memory"),
        pytest.param("redis", id="redis", marks=pytest.mark.broker),
        pytest.param("cluster", id="cluster", marks=pytest.mark.broker),
        pytest.param("rabbitmq", id="rabbitmq", marks=pytest.mark.broker),
    ]
)
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "in_memory" else request.getfixturevalue(f"{request.param}_url")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_transport_does_what_the_suite_says(case: Case, url: str | None, run: Any) -> None:
    result = run(check_case(case, url))
    if result.outcome == "left out":
        lacks = {
            None: {"durable", "durable_dedup", "replay", "shared"},
            "amqp": {"durable_dedup", "exact_delays", "one_handler", "replay"},
        }
        assert set(case.needs) & lacks[url and url.split(":")[0]]
    else:
        assert result.outcome == "passed", result.reason


def test_each_case_shows_something_of_its_own() -> None:
    assert len({case.title for case in CASES}) == len(CASES) >= 35


@pytest.mark.broker
def test_the_command_prints_the_matrix(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", redis_url]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("redis\n")
    assert "yes  durable" in printed
    assert f"{len(CASES)} passed, 0 failed, 0 left out" in printed


def test_a_url_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "redis://127.0.0.1:1/0"]) == 1
    assert "running and reachable" in capsys.readouterr().err
    assert main(["conformance", "http://user:canary@localhost"]) == 2
    assert "canary" not in capsys.readouterr().err
