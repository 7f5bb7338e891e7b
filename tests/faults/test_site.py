"""A site knows what its broker waits for: else a run that leaves something behind would pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from brokers import rabbitmq_server, redis_server

from faults.rabbit_site import RabbitSite
from faults.report import Result
from faults.site import Site

pytestmark = [pytest.mark.broker, redis_server.NEEDED, rabbitmq_server.NEEDED]

COUNT = 5


@pytest.mark.parametrize("kind", [Site, RabbitSite])
def test_what_was_given_out_and_is_not_acknowledged_is_a_problem(
    kind: type[Site], tmp_path: Path, seed: int
) -> None:
    with kind(tmp_path, seed) as site:
        site.consumer(work=1_000.0, how={"group": "g", "concurrency": COUNT})
        site.producer(count=COUNT)
        site.await_count("begin", COUNT)
        site.settle(within=0.1)
        result = Result.of("T", seed, site.findings())
        assert f"{COUNT} pending" in result.problems, str(result)


@pytest.mark.parametrize("kind", [Site, RabbitSite])
def test_what_nobody_was_given_is_pending_too_and_nothing_is_once_all_is_handled(
    kind: type[Site], tmp_path: Path, seed: int
) -> None:
    with kind(tmp_path, seed) as site:
        site.consumer("first").end()  # the group is there from now on
        site.producer(count=COUNT).await_word("finished")
        assert site.pending() == COUNT
        site.consumer("second")
        site.settle()
        result = Result.of("T", seed, site.findings())
        assert not result.problems, str(result)
