"""Who is restarted when a component fails, how often, and who goes down with it.

Components fail by a health check or by their own word here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tiebeam.testing import TestFramework
from tiebeam.testing import run as in_virtual_time

from vectors.cases import Areas, Case
from vectors.parts import MANUAL, Part, crash, end, fall, starts, stops
from vectors.stance import compare, settle

__all__ = ["AREAS"]

FAMILY = "family"
"""The group of those who have one supervisor."""

LONGEST_PAUSE = 60.0
"""A restart has come, or does not come, within so many seconds."""


def _values(intensity: int, period: float = 60.0) -> dict[str, Any]:
    return {
        "health": {**MANUAL, "recovery_attempts": intensity},
        "supervision": {"period": period},
    }


def _family(names: list[str], **supervision: Any) -> dict[str, Any]:
    """Components of one group, under a supervisor of their own; its end is everybody's."""
    return {
        **_values(0),
        "components": {FAMILY: {name: {"enabled": True} for name in names}},
        "supervision": {"cooldown": 0, "groups": {FAMILY: supervision}},
    }


def run_intensity(case: Case) -> None:
    values = _values(case["intensity"], case["period_s"])
    actual = in_virtual_time(_crashes(values, case["crashes_at_s"]))
    settle(case, compare("what followed", actual, case["expect"]))


async def _crashes(values: dict[str, Any], times: list[float]) -> list[str]:
    child = Part("child")
    followed: list[str] = []
    values["supervision"]["backoff"] = {"initial_delay": 0}
    async with TestFramework(values, components=[child]) as framework:
        begin = _now()
        for at in times:
            await framework.advance(max(0.0, begin + at - _now()))
            await _running(framework, child)
            await framework.check("child")  # it is well, until it fails
            restarts = len(framework.published("system.supervisor.restarting"))
            await crash(framework, child)
            again = len(framework.published("system.supervisor.restarting")) > restarts
            gave_up = framework.status("child")["given_up"]
            assert again is not gave_up
            followed.append("restart" if again else "give_up")
    return followed


def _now() -> float:
    """Seconds of virtual time."""
    return asyncio.get_running_loop().time()


async def _running(framework: TestFramework, part: Part) -> None:
    """Wait through the pause before a restart."""
    for _ in range(int(LONGEST_PAUSE)):
        if part.state == "running":
            return
        await framework.advance(1)
    raise AssertionError(f"{part!r} has not come back")


def run_escalation(case: Case) -> None:
    started, stopped, given_up = in_virtual_time(_never_starts_again(case))
    expect = case["expect"]
    differences = compare("attempts", started, expect["start_attempts"])
    differences += compare("given up", given_up, expect["supervisor"] == "shutdown")
    differences += compare("stopped", stopped, expect["stopped"])
    settle(case, differences)


async def _never_starts_again(case: Case) -> tuple[int, list[str], bool]:
    diary: list[Any] = []
    children = {name: Part(name, diary) for name in case["children"]}
    crashing = children[case["crash"]]
    values = _family(list(children), intensity=case["intensity"], period=case["period_s"])
    async with TestFramework(values, components=children.values()) as framework:
        diary.clear()
        crashing.fails.add("start")
        await fall(framework, crashing)
        await framework.advance(LONGEST_PAUSE)
        others = [name for name in stops(diary) if name != crashing.name]
        return len(starts(diary)), others, framework.status(crashing.name)["given_up"]


def run_strategy(case: Case) -> None:
    actual = in_virtual_time(_one_crash(case["strategy"], case["children"], case["crash"]))
    expect = case["expect"]
    settle(case, [d for key, value in expect.items() for d in compare(key, actual[key], value)])


async def _one_crash(strategy: str, names: list[str], crashing: str) -> dict[str, Any]:
    diary: list[Any] = []
    # Each starts after the one before: the order of the case is an order.
    parts = [Part(name, diary, after=names[:n]) for n, name in enumerate(names)]
    values = _family(names, strategy=strategy, intensity=3)
    async with TestFramework(values, components=parts) as framework:
        diary.clear()
        await fall(framework, parts[names.index(crashing)])
        await framework.advance(LONGEST_PAUSE)
        touched = {name for _, _, name in diary}
        return {
            "stopped": [name for name in stops(diary) if name != crashing],
            "started": starts(diary),
            "untouched": [name for name in names if name not in touched],
            "intensity_used": len(framework.published("system.supervisor.restarting")),
        }


def run_type(case: Case) -> None:
    differences = []
    for kind, exit_of, restarts in case["table"]:
        again = in_virtual_time(_restarts_after(kind, exit_of))
        differences += compare(f"restart of {kind} after {exit_of}", again, restarts)
    settle(case, differences)


async def _restarts_after(kind: str, exit_of: str) -> bool:
    child = Part("child", restart=kind)
    async with TestFramework(_values(3), components=[child]) as framework:
        if exit_of == "error":
            await crash(framework, child)
        elif exit_of == "normal":
            await end(framework, child)
        else:
            assert exit_of == "shutdown", f"unknown end {exit_of!r}"
            await framework.stop()
        await framework.advance(LONGEST_PAUSE)
        return len(starts(child.diary)) > 1


def run_nested(case: Case) -> None:
    top, below = case["levels"]
    restarts = in_virtual_time(_until_the_top_gives_up(top, below))
    expected = case["expect"]["approx_child_restarts"]
    # The lowest restart the top makes, and one more round before it counts, are not told apart.
    near = 0.8 * expected <= restarts <= 1.3 * expected
    settle(case, [] if near else [f"{restarts} restarts instead of about {expected}"])


async def _until_the_top_gives_up(top: int, below: int) -> int:
    child = Part("child")
    values = _family(["child"], intensity=below, period=3_600, backoff={"initial_delay": 0})
    values["health"]["recovery_attempts"] = top
    values["supervision"] |= {"period": 3_600, "backoff": {"initial_delay": 0}}
    async with TestFramework(values, components=[child]) as framework:
        child.diary.clear()
        child.fails.add("start")
        await fall(framework, child)
        await framework.advance(LONGEST_PAUSE)
        assert framework.status("child")["given_up"]
        return len(starts(child.diary))


AREAS: Areas = {
    "nested_supervision": run_nested,
    "restart_intensity": run_intensity,
    "restart_escalation": run_escalation,
    "restart_strategy": run_strategy,
    "restart_type": run_type,
}
