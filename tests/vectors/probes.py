"""From single results of a check to readiness, degradation, recovery and giving up."""

from __future__ import annotations

from typing import Any

from tiebeam import Component, Health, check
from tiebeam.testing import TestFramework
from tiebeam.testing import run as in_virtual_time

from vectors.cases import Areas, Case
from vectors.parts import Part, starts
from vectors.stance import compare, settle

__all__ = ["AREAS"]

MANUAL = {"check_interval": 86_400}
"""Checks run when the case says so."""


class Probed(Component):
    """One check, whose failure restarts nothing."""

    restart = "temporary"

    def __init__(self) -> None:
        self.answer: Health | BaseException = Health.ok()

    @check(kind="dependency")
    async def probe(self) -> Health:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Living(Probed):
    """One check, without which the component does not live."""

    name = "living"

    @check(kind="liveness")
    async def probe(self) -> Health:
        return await super().probe()


def _health(letter: str) -> Health:
    return Health.ok() if letter == "P" else Health.fail("no")


def run_threshold(case: Case) -> None:
    actual = in_virtual_time(_fed(case))
    settle(case, compare("the results", actual, case["expect"]))


async def _fed(case: Case) -> list[str]:
    thresholds = {f"{name}_threshold": value for name, value in case["thresholds"].items()}
    probed = Probed()
    # The first result applies at once: what it was before the case begins.
    probed.answer = _health("P" if case["initial"] == "success" else "F")
    async with TestFramework(
        {"health": {**MANUAL, **thresholds}}, components=[probed]
    ) as framework:
        assert framework.health("probed")["ready"] == (case["initial"] == "success")

        async def feed(letter: str) -> str:
            probed.answer = _health(letter)
            ready = (await framework.check("probed"))["ready"]
            return "success" if ready else "failure"

        return [await feed(letter) for letter in case["feed"]]


VERDICTS = {"passing": "pass", "warning": "warn", "critical": "fail"}
"""What the verdicts of the cases are called here."""


def run_hysteresis(case: Case) -> None:
    results = in_virtual_time(_judged(case))
    verdicts = [result["health"] for result in results]
    differences = compare("the verdicts", verdicts, [VERDICTS[said] for said in case["expect"]])
    if "updates" in case:
        updates = sum(result["applied"] for result in results)
        differences += compare("the number of updates", updates, case["updates"])
    settle(case, differences)


async def _judged(case: Case) -> list[dict[str, Any]]:
    """All results of a check with the thresholds of the case."""
    success, warn, failure = case["thresholds"]

    class Judged(Probed):
        name = "judged"

        @check(
            kind="dependency",
            success_threshold=success,
            warn_threshold=warn,
            failure_threshold=failure,
        )
        async def probe(self) -> Health:
            return await super().probe()

    judged = Judged()
    first, *rest = case["feed"]
    judged.answer = _health(first)  # as which it is asked when it has started
    async with TestFramework({"health": MANUAL}, components=[judged]) as framework:
        for letter in rest:
            judged.answer = _health(letter)
            await framework.check("judged")
        return framework.health_history("judged")["probe"]


def run_initial(case: Case) -> None:
    differences = []
    for probe, situation, result in case["table"]:
        up = in_virtual_time(SITUATIONS[probe, situation]())
        actual = "success" if up else "failure"
        differences += compare(f"{probe}, {situation}", actual, result)
    settle(case, differences)


async def _while_it_starts(probe: str) -> bool:
    """What a probe says before a component has come to its end of starting."""
    said: list[bool] = []

    class Slow(Component):
        async def start(self) -> None:
            said.append(self.framework.health("slow")[probe])

    async with TestFramework(components=[Slow]):
        return said[0]


async def _crash_of_a_check_after_a_success() -> bool:
    probed = Probed()
    async with TestFramework({"health": MANUAL}, components=[probed]) as framework:
        assert (await framework.check("probed"))["ready"]
        probed.answer = ZeroDivisionError("a slip in the check")
        return bool((await framework.check("probed"))["ready"])


async def _after_a_failure_of_liveness(restart: bool) -> bool:
    living = Living()
    values = {"health": {**MANUAL, "failure_threshold": 1}}
    async with TestFramework(values, components=[living]) as framework:
        living.answer = Health.fail("stuck")
        await framework.check("living")
        await framework.settle()
        living.answer = Health.ok()
        if restart:
            await framework.start_component("living")
        return bool((await framework.check("living"))["live"])


SITUATIONS: dict[tuple[str, str], Any] = {
    ("liveness", "initial_delay"): lambda: _while_it_starts("live"),
    ("readiness", "initial_delay"): lambda: _while_it_starts("ready"),
    ("readiness", "checker_crash_after_success"): _crash_of_a_check_after_a_success,
    ("liveness", "success_while_on_hold_after_failure"): lambda: _after_a_failure_of_liveness(
        restart=False
    ),
    ("liveness", "success_after_restart"): lambda: _after_a_failure_of_liveness(restart=True),
}


def run_lifecycle(case: Case) -> None:
    said = in_virtual_time(_through_a_start())
    differences = []
    for phase, liveness, readiness in case["table"]:
        live, ready = said[phase]
        actual = (
            "CORRECT" if live else "BROKEN",
            "ACCEPTING_TRAFFIC" if ready else "REFUSING_TRAFFIC",
        )
        differences += compare(phase, actual, (liveness, readiness))
    settle(case, differences)


async def _through_a_start() -> dict[str, tuple[bool, bool]]:
    said: dict[str, tuple[bool, bool]] = {}

    def look(phase: str, framework: Any) -> None:
        report = framework.health("starter")
        said[phase] = report["live"], report["ready"]

    class Starter(Component):
        async def initialize(self) -> None:
            look("starting", self.framework)

        async def start(self) -> None:
            look("started", self.framework)

    async with TestFramework(components=[Starter]) as framework:
        look("ready", framework)
    return said


def run_requirement(case: Case) -> None:
    actual = in_virtual_time(_requirement(case["feed"]))
    expect = case["expect"]
    settle(case, [d for key, value in expect.items() for d in compare(key, actual[key], value)])


async def _requirement(feed: str) -> dict[str, Any]:
    part = Part("part")
    transitions = []
    # The defaults are the requirement's; only the time of the checks is the case's, and that
    # nobody tries again after giving up.
    values = {"health": MANUAL, "supervision": {"cooldown": 0}}
    async with TestFramework(values, components=[part]) as framework:
        part.fails.add("start")  # nothing that recovery does helps
        for letter in feed:
            part.answer = _health(letter)
            await framework.check("part")
            await framework.settle()
            transitions.append(_recovery(framework) or part.state)
        await framework.advance(3_600)
        (gave_up,) = framework.published("system.supervisor.gave_up")
        assert gave_up.payload["component"] == "part"
        return {
            "transitions": transitions,
            "after_failed_recoveries": len(starts(part.diary)) - 1,
            "final": part.state,
        }


def _recovery(framework: TestFramework) -> str | None:
    """The first recovery, with the state that it began from; `None` if there was none."""
    recoveries = framework.published("system.supervisor.restarting")
    if not recoveries:
        return None
    failed = framework.published("system.component.failed")[0]
    return f"{failed.payload['from']}->recovery#{recoveries[0].payload['attempt']}"


AREAS: Areas = {
    "health_hysteresis": run_hysteresis,
    "probe_threshold": run_threshold,
    "probe_initial": run_initial,
    "health_probe_lifecycle": run_lifecycle,
    "health_requirement": run_requirement,
}
