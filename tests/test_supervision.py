"""Supervision: a component that is unwell is restarted, and given up in the end."""

from __future__ import annotations

import json
from collections.abc import Callable

from tiebeam import Component
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]


class Sick(Component):
    """Its health check fails for as long as it is told to."""

    def __init__(self) -> None:
        self.sick = False
        self.heals_on_restart = True
        self.diary: list[str] = []

    async def start(self) -> None:
        self.diary.append("start")
        if self.heals_on_restart:
            self.sick = False

    async def stop(self) -> None:
        self.diary.append("stop")

    async def health_check(self) -> None:
        if self.sick:
            raise ConnectionError("no heartbeat")


class Leans(Component):
    depends_on = ["sick"]


class Good(Component):
    """Has nothing to do with the others."""


async def test_three_failed_checks_restart_a_component_and_its_dependents_follow(
    tiebeam_framework: Make,
) -> None:
    sick = Sick()
    async with tiebeam_framework(components=[sick, Leans]) as framework:
        await framework.advance(10)
        sick.sick = True
        await framework.advance(20)
        assert sick.diary == ["start"]  # two failures are not three
        assert framework.status("sick")["state"] == "running"
        await framework.advance(15)
        assert sick.diary == ["start", "stop", "start"]
        assert framework.status("sick")["restarts"] == 1
        assert framework.status("sick")["state"] == "running"
        assert framework.status("leans")["state"] == "running"
        (restarting,) = framework.published("system.supervisor.restarting")
        assert restarting.payload["component"] == "sick"
        assert "no heartbeat" in restarting.payload["error"]
        assert framework.published("system.alert") == []


async def test_when_recovery_attempts_are_used_up_it_has_failed_for_good(
    tiebeam_framework: Make,
) -> None:
    sick = Sick()
    sick.heals_on_restart = False
    async with tiebeam_framework(components=[sick, Leans, Good]) as framework:
        sick.sick = True
        await framework.advance(600)
        status = framework.status("sick")
        assert (status["state"], status["given_up"]) == ("failed", True)
        assert "no heartbeat" in status["cause"]
        assert sick.diary.count("start") == sick.diary.count("stop") == 1 + 3
        leans = framework.status("leans")
        assert leans["state"] in ("configured", "stopped")
        assert leans["blocked_by"] == "sick"
        assert framework.status("good")["state"] == "running"
        (alert,) = framework.published("system.alert")
        assert alert.payload["reason"] == "supervisor_gave_up"
        assert alert.payload["component"] == "sick"
        health = framework.health()
        assert health["status"] == "fail"
        assert framework.health("sick")["health"] == "fail"
        assert json.dumps(health)
        # Somebody mends it and starts it by hand.
        sick.sick = False
        await framework.start_component("sick")
        assert framework.status("sick")["given_up"] is False
        assert framework.status("leans")["state"] == "running"


async def test_a_temporary_component_is_not_restarted(tiebeam_framework: Make) -> None:
    class Temporary(Sick):
        restart = "temporary"

    sick = Temporary()
    async with tiebeam_framework(components=[sick]) as framework:
        sick.sick = True
        await framework.advance(200)
        assert sick.diary == ["start"]
        assert framework.status("temporary")["state"] == "failed"
