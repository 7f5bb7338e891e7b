"""What several answers about health add up to, and what that is in HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from tiebeam import Component, Health, check
from tiebeam.health import aggregate, http_status
from tiebeam.testing import TestFramework
from tiebeam.testing import run as in_virtual_time

from vectors.cases import Areas, Case
from vectors.parts import MANUAL, Part
from vectors.stance import compare, settle

__all__ = ["AREAS"]

WORDS = {
    "UP": "pass",
    "DOWN": "fail",
    "OUT_OF_SERVICE": "out_of_service",
    "UNKNOWN": "unknown",
}
"""What the verdicts of the cases are called here."""

QUIET = {"health": {"check_interval": 86_400}}
"""No check runs by itself."""


def run_aggregate(case: Case) -> None:
    statuses, order, expected = case["statuses"], case.get("order"), WORDS[case["expect"]]
    differences = compare("the sum", aggregate(statuses, order=order), expected)
    # A system has an order and verdicts of its own.
    if order is None and WORDS.keys() >= set(statuses):
        differences += compare("the whole", in_virtual_time(_whole(statuses)), expected)
    settle(case, differences)


async def _whole(statuses: list[str]) -> str:
    """The verdict over a system with one component of each status."""
    parts = [Part(f"part_{n}") for n in range(len(statuses))]
    framework = TestFramework(QUIET, components=parts)
    for part, status in zip(parts, statuses, strict=True):
        if status == "UNKNOWN":
            part.add_check("silent", ttl=86_400)  # which has not said anything yet
        if status == "DOWN":
            _have_it_say(part, Health.fail("broken"))
    async with framework:
        for part, status in zip(parts, statuses, strict=True):
            if status == "OUT_OF_SERVICE":
                await framework.stop_component(part.name)
        return str(framework.health()["status"])


def _have_it_say(part: Part, answer: Health) -> None:
    """Of a dependency: that is no reason to start it again."""
    part.add_check("dependency", lambda: answer, kind="dependency")


def run_http(case: Case) -> None:
    canonical = dict(case.get("canonical", ()))
    differences = []
    for status, expected in {**dict(case["table"]), **canonical}.items():
        actual = http_status(status, case.get("mapping"))
        differences += compare(f"HTTP of {status}", actual, expected)
    settle(case, differences, canonical=bool(canonical))


SERVED = {"health": {**QUIET["health"], "http": {"enabled": True, "port": 0}}}
"""As quiet, and asked by HTTP."""


def _get(framework: TestFramework, path: str) -> tuple[int, str, str]:
    """Status, media type and text of a page."""
    try:
        with urlopen(f"{framework.health_url}{path}", timeout=30) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except HTTPError as answer:
        with answer:
            return answer.code, answer.headers["Content-Type"], answer.read().decode()


def run_json(case: Case) -> None:
    differences = []
    for status, ok in case["table"]:
        said, http, media_type = in_virtual_time(_as_json(status))
        differences += compare(f"{status} is well in HTTP", http < 400, ok)
        differences += compare(f"{status} is well by its name", http_status(status) < 400, ok)
        differences += compare(f"the word for {status}", said, aggregate([status]))
        differences += compare("the media type", media_type, "application/health+json")
    settle(case, differences)


async def _as_json(status: str) -> tuple[str, int, str]:
    part = Part("part")
    framework = TestFramework(SERVED, components=[part])
    _have_it_say(part, Health(aggregate([status])))
    async with framework:
        http, media_type, text = _get(framework, "/health")
        return json.loads(text)["status"], http, media_type


PROBES = {
    "live": ("liveness", "/livez"),
    "ready": ("readiness", "/readyz"),
    "started": ("readiness", "/startupz"),
}
"""The kind of check that each goes by, and where it is asked."""


def run_conjunction(case: Case) -> None:
    differences = []
    for row in case["table"]:
        given = dict(zip(case["columns"], row, strict=True))
        answers, phase, kind = given["checks"], given["phase"], given["kind"]
        status, http = in_virtual_time(_probed(answers, phase, *PROBES[kind]))
        differences += compare(f"{kind} of {answers}, {phase}", status, given["status"])
        differences += compare(f"HTTP of {kind} of {answers}, {phase}", http, given["http"])
    settle(case, differences)


async def _probed(answers: list[str], phase: str, kind: str, path: str) -> tuple[str, int]:
    """What a probe says of a component with checks that answer so."""
    component = _with_checks(answers, kind)
    seen: list[int] = []
    framework = TestFramework(SERVED, components=[component])

    async def start() -> None:
        seen.append(_get(framework, path)[0])

    component.start = start  # type: ignore[method-assign]
    async with framework:
        if phase == "installed":
            await framework.check("checked")
            seen.append(_get(framework, path)[0])
        else:
            assert phase == "expected", f"unknown phase {phase!r}"
    return ("UP" if seen[-1] == 200 else "DOWN"), seen[-1]


def _with_checks(answers: list[str], kind: str) -> Component:
    def answering(answer: str) -> Any:
        async def checked(self: Component) -> Health:
            if answer == "RAISES":
                raise ConnectionError("no answer")
            return Health("pass" if answer == "UP" else "fail")

        return check(kind=kind)(checked)

    methods = {f"check_{n}": answering(answer) for n, answer in enumerate(answers)}
    made: type[Component] = type("Checked", (Component,), {"name": "checked", **methods})
    return made()


TTL_WORDS = {"pass": "passing", "warn": "warning", "fail": "critical"}
"""What the verdicts are called there."""


def run_ttl(case: Case) -> None:
    actual = in_virtual_time(_reported(case["ttl_s"], case["steps"]))
    settle(case, compare("what it says", actual, [status for _, _, status in case["steps"]]))


async def _reported(ttl: float, steps: list[list[Any]]) -> list[str]:
    part, said = Part("part", restart="temporary"), []
    async with TestFramework(QUIET, components=[part]) as framework:
        check = part.add_check("told", ttl=ttl)
        begin = asyncio.get_running_loop().time()
        for at, report, _ in steps:
            await framework.advance(begin + at - asyncio.get_running_loop().time())
            if report is not None:
                check.report(Health(report))
            (last,) = framework.health_history("part")["told"][-1:]
            said.append(TTL_WORDS[last["health"]])
    return said


def run_watchdog(case: Case) -> None:
    actual = in_virtual_time(_watched(case["watchdog_s"], case["events"]))
    settle(case, compare("the states", actual, case["expect"]))


async def _watched(seconds: float, events: list[list[Any]]) -> list[str]:
    (began, starting), (running, _) = events[:2]
    assert (began, starting) == (0, "starting")
    part, states = Part("part"), []
    part.takes = running
    values = {
        "health": {**MANUAL, "recovery_attempts": 0},  # it is not restarted
        "service_registry": {"service_timeout": 2 * running},
    }
    framework = TestFramework(values, components=[part])
    dog = part.add_check("dog", ttl=seconds, kind="liveness")
    begin = asyncio.get_running_loop().time()
    starts = asyncio.ensure_future(framework.start())
    try:
        for at, event in events:
            await framework.advance(begin + at - asyncio.get_running_loop().time())
            if event == "ping":
                dog.report()
            state = framework.status("part")
            failures = framework.published("system.supervisor.*")
            why = {event.payload.get("cause") for event in failures}
            states.append(
                "failed:watchdog"
                if (state["state"], why) == ("failed", {"watchdog"})
                else state["state"]
            )
    finally:
        await starts
        await framework.stop()
    return states


AREAS: Areas = {
    "health_aggregate": run_aggregate,
    "health_conjunction": run_conjunction,
    "health_http": run_http,
    "health_json": run_json,
    "ttl_check": run_ttl,
    "watchdog": run_watchdog,
}
