"""Who is restarted when a component fails, how often, and who goes down with it.

Components fail by a health check here: that is how a component at work can fail.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tiebeam.testing import TestFramework
from tiebeam.testing import run as in_virtual_time

from vectors.cases import Areas, Case
from vectors.parts import MANUAL, Part, crash, starts, stops
from vectors.stance import Lacking, compare, settle

__all__ = ["AREAS"]

PERIOD = 60.0
"""Within how many seconds restarts count; there is no choice."""

LONGEST_PAUSE = 60.0
"""A restart has come, or does not come, within so many seconds."""


def _values(intensity: int) -> dict[str, Any]:
    return {"health": {**MANUAL, "recovery_attempts": intensity}}


def run_intensity(case: Case) -> None:
    # The rule knows no unit: what the case says of its period is said of ours.
    scale = PERIOD / case["period_s"]
    times = [at * scale for at in case["crashes_at_s"]]
    actual = in_virtual_time(_crashes(case["intensity"], times))
    settle(case, compare("what followed", actual, case["expect"]))


async def _crashes(intensity: int, times: list[float]) -> list[str]:
    child = Part("child")
    followed: list[str] = []
    async with TestFramework(_values(intensity), components=[child]) as framework:
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
    settle(case, differences)
    if stopped != expect["stopped"]:
        raise Lacking("a supervisor over several components that depend on nothing of each other")


async def _never_starts_again(case: Case) -> tuple[int, list[str], bool]:
    diary: list[Any] = []
    children = {name: Part(name, diary) for name in case["children"]}
    crashing = children[case["crash"]]
    values = _values(case["intensity"])
    async with TestFramework(values, components=children.values()) as framework:
        diary.clear()
        crashing.fails.add("start")
        await crash(framework, crashing)
        await framework.advance(LONGEST_PAUSE)
        others = [name for name in stops(diary) if name != crashing.name]
        return len(starts(diary)), others, framework.status(crashing.name)["given_up"]


def run_strategy(case: Case) -> None:
    if case["strategy"] != "one_for_one":
        raise Lacking(f"a choice of the strategy {case['strategy']}")
    actual = in_virtual_time(_one_crash(case["children"], case["crash"]))
    expect = case["expect"]
    settle(case, [d for key, value in expect.items() for d in compare(key, actual[key], value)])


async def _one_crash(names: list[str], crashing: str) -> dict[str, Any]:
    diary: list[Any] = []
    # Each starts after the one before: the order of the case is an order.
    parts = [Part(name, diary, after=names[:n]) for n, name in enumerate(names)]
    async with TestFramework(_values(3), components=parts) as framework:
        diary.clear()
        await crash(framework, parts[names.index(crashing)])
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
    exits = set()
    for kind, exit_of, restarts in case["table"]:
        exits.add(exit_of)
        if exit_of != "normal":
            again = in_virtual_time(_restarts_after(kind, exit_of))
            differences += compare(f"restart of {kind} after {exit_of}", again, restarts)
    settle(case, differences)
    if "normal" in exits:
        raise Lacking("an end that a component comes to by itself, in good order")


async def _restarts_after(kind: str, exit_of: str) -> bool:
    child = Part("child", restart=kind)
    async with TestFramework(_values(3), components=[child]) as framework:
        if exit_of == "error":
            await crash(framework, child)
            await framework.advance(LONGEST_PAUSE)
        else:
            assert exit_of == "shutdown", f"unknown end {exit_of!r}"
            await framework.stop()
            await framework.advance(LONGEST_PAUSE)
        return len(starts(child.diary)) > 1


AREAS: Areas = {
    "restart_intensity": run_intensity,
    "restart_escalation": run_escalation,
    "restart_strategy": run_strategy,
    "restart_type": run_type,
}
