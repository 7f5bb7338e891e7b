"""Every plan in its quick size: nothing that was acknowledged is lost, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from brokers import rabbitmq_server, redis_server

from faults.report import Result
from faults.runs import PLANS, Plan

pytestmark = [pytest.mark.broker, pytest.mark.slow, redis_server.NEEDED, rabbitmq_server.NEEDED]


@pytest.mark.parametrize("plan", PLANS.values(), ids=lambda plan: f"{plan.name}: {plan.title}")
def test_it_ends_well(
    plan: Plan, tmp_path: Path, seed: int, report: Callable[[Result], None]
) -> None:
    result = plan.round(tmp_path, seed, plan.quick)
    report(result)
    assert not result.problems, str(result)
