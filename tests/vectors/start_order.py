"""In which order components start and stop, and what becomes of those whose needs are not met."""

from __future__ import annotations

import itertools
from typing import Any

from tiebeam import ConfigurationError, DependencyCycle
from tiebeam.testing import TestFramework
from tiebeam.testing import run as in_virtual_time

from vectors.cases import Areas, Case
from vectors.parts import Part, starts, stops
from vectors.stance import compare, settle

__all__ = ["AREAS"]


def _parts(case: Case, diary: list[Any]) -> list[Part]:
    def needs(name: str) -> dict[str, Any]:
        kinds = (("depends_on", "depends"), ("wants", "wants"), ("after", "after"))
        return {ours: case.get(theirs, {}).get(name, []) for ours, theirs in kinds}

    return [Part(name, diary, **needs(name)) for name in case["declared"]]


def run_order(case: Case) -> None:
    expect = dict(case["expect"])
    actual = in_virtual_time(_life(case))
    path = actual.pop("path")
    missing = [name for name in expect.pop("path_contains", []) if name not in path]
    differences = [f"{name} is not in {path!r}" for name in missing]
    for key, value in expect.items():
        differences += compare(key, actual.get(key), value)
    settle(case, differences)


async def _life(case: Case) -> dict[str, Any]:
    diary: list[Any] = []
    parts = _parts(case, diary)
    for part in parts:
        part.takes = 1.0  # so that those that wait for each other start at different times
    try:
        async with TestFramework(components=parts):
            pass
    except (DependencyCycle, ConfigurationError) as error:
        assert not diary, "something was begun, though not all can be started"
        kind = "cycle" if isinstance(error, DependencyCycle) else "configuration"
        return {"error": kind, "path": str(error)}
    begun = [(at, name) for at, hook, name in diary if hook == "start"]
    layers = itertools.groupby(begun, key=lambda entry: entry[0])
    return {
        "order": starts(diary),
        "layers": [[name for _, name in layer] for _, layer in layers],
        "stop_order": stops(diary),
        "path": "",
    }


def run_failure(case: Case) -> None:
    actual = in_virtual_time(_failing_start(case))
    expect = case["expect"]
    settle(case, [d for key, value in expect.items() for d in compare(key, actual[key], value)])


async def _failing_start(case: Case) -> dict[str, Any]:
    parts = _parts(case, [])
    for part in parts:
        if part.name in case["start_fails"]:
            part.fails.add("start")
    async with TestFramework(components=parts) as framework:
        report = framework.start_report
        blocked = [name for name, _ in report["blocked"]]
        for name in blocked:
            assert not starts([line for line in parts[0].diary if line[2] == name])
            assert framework.status(name)["state"] == "configured"
        return {
            "started": report["started"],
            "failed": [name for name, _ in report["failed"]],
            "blocked": {name: [framework.status(name)["blocked_by"]] for name in blocked},
        }


def run_stop_errors(case: Case) -> None:
    actual = in_virtual_time(_failing_stops(case["components"], case["stop_fails"]))
    expect = case["expect"]
    settle(case, [d for key, value in expect.items() for d in compare(key, actual[key], value)])


async def _failing_stops(names: list[str], failing: list[str]) -> dict[str, Any]:
    diary: list[Any] = []
    # Each starts after the one before: the order of the case is an order.
    parts = [Part(name, diary, after=names[:n]) for n, name in enumerate(names)]
    for part in parts:
        if part.name in failing:
            part.fails.add("stop")
    async with TestFramework(components=parts) as framework:
        pass
    assert starts(diary) == names
    errors = [name for name, _ in framework.stop_report["failed"]]
    return {"stopped": stops(diary), "errors": errors}


AREAS: Areas = {
    "start_order": run_order,
    "dependency_failure": run_failure,
    "stop_errors": run_stop_errors,
}
