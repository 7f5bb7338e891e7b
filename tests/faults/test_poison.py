"""An event that ends the process of whoever handles it: it is given up, and the others flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from brokers import redis_server

from faults.processes import Spawned, until
from faults.site import Site

pytestmark = [pytest.mark.broker, redis_server.NEEDED]

COUNT = 200
POISON = 20
DELIVERIES = 4


def test_it_becomes_a_dead_letter_while_the_others_are_handled(tmp_path: Path, seed: int) -> None:
    with Site(tmp_path, seed) as site:
        plan: dict[str, Any] = {
            "poison": POISON,
            "how": {"group": "g", "concurrency": 4},
            "options": {"claim_idle": 0.5},
        }
        team = [site.consumer(f"c{number}", **plan) for number in range(2)]
        site.producer(count=COUNT, rate=100.0)
        names = iter(range(2, 100))

        def replace(member: Spawned) -> Spawned:
            if member.process.poll() is None:
                return member
            member.killed_at = 0.0  # by what it handled; nobody asks it for its books
            return site.consumer(f"c{next(names)}", **plan)

        def given_up() -> bool:
            team[:] = [replace(member) for member in team]
            return site.dead() == [f"p0-{POISON}"]

        until(given_up, 60.0, "the poison is a dead letter")
        site.settle()
        found = site.findings()
        assert found.lost == found.unexplained == []
        assert found.pending == 0
        assert found.handled == COUNT - 1
        assert found.dead == 1
        calls = [entry for ledger in site.calls().values() for entry in ledger]
        fatal = [entry for entry in calls if entry.word == "begin" and entry.seq == POISON]
        assert len(fatal) == DELIVERIES
        # Whoever had the others when he died had them, too: at most one innocent is suspected.
        assert all(member.process.poll() is None for member in team)
