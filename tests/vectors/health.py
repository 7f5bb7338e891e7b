"""What several answers about health add up to, and what that is in HTTP."""

from __future__ import annotations

from typing import Any

from tiebeam import Component, Health, check
from tiebeam.health import aggregate, http_status
from tiebeam.testing import TestFramework
from tiebeam.testing import run as in_virtual_time

from vectors.cases import Areas, Case
from vectors.parts import Part
from vectors.stance import Lacking, compare, settle

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
    async with TestFramework(QUIET, components=parts) as framework:
        for part, status in zip(parts, statuses, strict=True):
            if status == "DOWN":
                part.answer = Health.fail("broken")
            if status == "OUT_OF_SERVICE":
                await framework.stop_component(part.name)
            elif status != "UNKNOWN":  # which is what has not been asked yet
                await framework.check(part.name)
        return str(framework.health()["status"])


def run_http(case: Case) -> None:
    canonical = dict(case.get("canonical", ()))
    differences = []
    for status, expected in {**dict(case["table"]), **canonical}.items():
        actual = http_status(status, case.get("mapping"))
        differences += compare(f"HTTP of {status}", actual, expected)
    settle(case, differences, canonical=bool(canonical))


def run_json(case: Case) -> None:
    differences = []
    for status, ok in case["table"]:
        differences += compare(f"{status} is well in HTTP", http_status(status) < 400, ok)
    settle(case, differences)
    raise Lacking("an answer in the form of health+json")


PROBES = {"live": "liveness", "ready": "readiness"}
"""The probes that there are, and the checks that they go by."""


def run_conjunction(case: Case) -> None:
    differences = []
    for row in case["table"]:
        given = dict(zip(case["columns"], row, strict=True))
        if given["kind"] in PROBES:
            answers, phase, kind = given["checks"], given["phase"], given["kind"]
            actual = in_virtual_time(_probed(answers, phase, kind))
            differences += compare(f"{kind} of {answers}, {phase}", actual, given["status"])
    settle(case, differences)
    raise Lacking("an HTTP answer of a probe, and a probe for the end of the start")


async def _probed(answers: list[str], phase: str, kind: str) -> str:
    """What a probe says of a component with checks that answer so."""
    component = _with_checks(answers, PROBES[kind])
    framework = TestFramework(QUIET, components=[component])
    if phase == "installed":
        async with framework:
            report = await framework.check("checked")
    else:
        assert phase == "expected", f"unknown phase {phase!r}"
        report = framework.health("checked")
        await framework.stop()
    return "UP" if report[kind] else "DOWN"


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


AREAS: Areas = {
    "health_aggregate": run_aggregate,
    "health_conjunction": run_conjunction,
    "health_http": run_http,
    "health_json": run_json,
}
