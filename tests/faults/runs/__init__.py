"""The plans: what is done to whom, and what must come of it."""

from __future__ import annotations

from faults.runs.broker_kill import BROKER_KILL
from faults.runs.broker_pause import BROKER_PAUSE
from faults.runs.consumer_kill import CONSUMER_KILL
from faults.runs.flush import FLUSH
from faults.runs.network import NETWORK, RABBIT_NETWORK
from faults.runs.overload import OVERLOAD
from faults.runs.plan import Plan, Scale
from faults.runs.rabbit_kill import RABBIT_KILL
from faults.runs.rabbit_trouble import RABBIT_TROUBLE
from faults.runs.slow_handler import SLOW_HANDLER

__all__ = ["PLANS", "Plan", "Scale"]

PLANS: dict[str, Plan] = {
    plan.name: plan
    for plan in (
        BROKER_KILL,
        BROKER_PAUSE,
        CONSUMER_KILL,
        SLOW_HANDLER,
        RABBIT_KILL,
        RABBIT_TROUBLE,
        NETWORK,
        RABBIT_NETWORK,
        FLUSH,
        OVERLOAD,
    )
}
"""By name."""
