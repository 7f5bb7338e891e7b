"""A framework starts and stops its components in order, and says what happened."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import (
    ClosedError,
    Component,
    ConfigurationError,
    DependencyCycle,
    Framework,
    LifecycleError,
    NotReady,
)
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]
"""What the fixture ``tiebeam_framework`` gives."""


class Part(Component):
    """Writes its hooks down."""

    def __init__(self, name: str, diary: list[str] | None = None, **needs: Any) -> None:
        self.name = name
        self.diary = diary if diary is not None else []
        for key, value in needs.items():
            setattr(self, key, value)

    async def initialize(self) -> None:
        self.diary.append(f"initialize {self.name}")

    async def configure(self, config: Any) -> None:
        self.diary.append(f"configure {self.name}")

    async def start(self) -> None:
        self.diary.append(f"start {self.name}")

    async def stop(self) -> None:
        self.diary.append(f"stop {self.name}")


class Broken(Part):
    """Does not start."""

    async def start(self) -> None:
        await super().start()
        raise ConnectionError("no route")


def starts(diary: list[str]) -> list[str]:
    return [entry.removeprefix("start ") for entry in diary if entry.startswith("start ")]


def stops(diary: list[str]) -> list[str]:
    return [entry.removeprefix("stop ") for entry in diary if entry.startswith("stop ")]


async def test_dependencies_start_first_and_stop_last(tiebeam_framework: Make) -> None:
    diary: list[str] = []
    parts = [
        Part("ui", diary, depends_on=["engine"]),
        Part("engine", diary, depends_on=["feed"]),
        Part("feed", diary),
    ]
    async with tiebeam_framework(components=parts) as framework:
        assert framework.start_report["started"] == ["feed", "engine", "ui"]
        assert framework.state == "running"
    assert starts(diary) == ["feed", "engine", "ui"]
    assert stops(diary) == ["ui", "engine", "feed"]
    assert framework.stop_report["stopped"] == ["ui", "engine", "feed"]
    assert framework.state == "stopped"


async def test_each_hook_runs_once_and_in_order(tiebeam_framework: Make) -> None:
    part = Part("a")
    async with tiebeam_framework(components=[part]):
        pass
    assert part.diary == ["initialize a", "configure a", "start a", "stop a"]


async def test_initialization_order_breaks_ties_only(tiebeam_framework: Make) -> None:
    # One after the other: `a` needs `z`, whatever the configuration would like.
    values = {"service_registry": {"initialization_order": ["c", "a", "z"]}}
    parts = [Part("z"), Part("a", depends_on=["z"]), Part("b"), Part("c")]
    framework = tiebeam_framework(values, components=parts)
    assert framework._core._start_order() == ["c", "z", "a", "b"]


async def test_independent_components_start_at_the_same_time(tiebeam_framework: Make) -> None:
    both = asyncio.Barrier(2) if hasattr(asyncio, "Barrier") else None
    if both is None:
        pytest.skip("asyncio.Barrier came with 3.11")

    class Meeting(Part):
        async def start(self) -> None:
            await both.wait()

    async with tiebeam_framework(components=[Meeting("a"), Meeting("b")]) as framework:
        assert sorted(framework.start_report["started"]) == ["a", "b"]


async def test_without_dependency_resolution_the_given_order_rules(tiebeam_framework: Make) -> None:
    diary: list[str] = []
    registry = {"dependency_resolution": False, "initialization_order": ["b", "a"]}
    parts = [Part("a", diary), Part("b", diary, depends_on=["a"])]
    async with tiebeam_framework({"service_registry": registry}, components=parts):
        pass
    assert starts(diary) == ["b", "a"]


async def test_a_failure_blocks_its_dependents_and_nothing_else(tiebeam_framework: Make) -> None:
    parts = [
        Broken("feed"),
        Part("engine", depends_on=["feed"]),
        Part("ui", depends_on=["engine"]),
        Part("log"),
    ]
    async with tiebeam_framework(components=parts) as framework:
        report = framework.start_report
        assert report["started"] == ["log"]
        assert [name for name, _ in report["failed"]] == ["feed"]
        assert "ConnectionError: no route" in report["failed"][0][1]
        assert [name for name, _ in report["blocked"]] == ["engine", "ui"]
        states = {name: framework.status(name)["state"] for name in framework.components}
        assert states == {
            "feed": "failed",
            "engine": "configured",
            "ui": "configured",
            "log": "running",
        }
        for name in ("engine", "ui"):
            status = framework.status(name)
            assert status["blocked_by"] == "feed"
            assert "no route" in status["cause"]
    # stop() ran where start() was entered, and nowhere else.
    assert [stops(part.diary) for part in parts] == [["feed"], [], [], ["log"]]


async def test_what_is_blocked_resumes_with_its_dependency(tiebeam_framework: Make) -> None:
    feed = Broken("feed")
    ui = Part("ui", depends_on=["feed"])
    async with tiebeam_framework(components=[feed, ui]) as framework:
        assert ui.state == "configured"
        feed.__class__ = Part
        await framework.start_component("feed")
        assert (feed.state, ui.state) == ("running", "running")


async def test_wants_and_after(tiebeam_framework: Make) -> None:
    diary: list[str] = []
    parts = [
        Part("report", diary, wants=["cache", "nowhere"]),
        Broken("cache", diary),
        Part("last", diary, after=["report", "unknown"]),
    ]
    async with tiebeam_framework(components=parts) as framework:
        assert starts(diary) == ["cache", "report", "last"]
        status = framework.status("report")
        assert status["state"] == "degraded"
        assert set(status["degradations"]) == {"wants:cache", "wants:nowhere"}
        assert framework.status("last")["state"] == "running"


def test_a_circle_is_shown_and_starts_nothing() -> None:
    parts = [Part("a", depends_on=["b"]), Part("b", depends_on=["c"]), Part("c", depends_on=["a"])]
    with pytest.raises(DependencyCycle, match=r"a.*b.*c.*a"):
        Framework(components=parts)
    assert [part.diary for part in parts] == [[], [], []]


def test_a_missing_dependency_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match="did you mean `data_collection`"):
        Framework(components=[Part("data_collection"), Part("ui", depends_on=["data_colection"])])


@pytest.mark.parametrize("hook", ["initialize", "configure", "start"])
async def test_an_async_hook_that_hangs_fails_in_time(
    tiebeam_framework: Make, tiebeam_clock: Any, hook: str
) -> None:
    part, other = Part("slow"), Part("other")
    cancelled = []

    async def hang(*_config: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(hook)
            raise

    setattr(part, hook, hang)
    values = {"service_registry": {"service_timeout": 7}}
    async with tiebeam_framework(values, components=[part, other]) as framework:
        assert tiebeam_clock.monotonic() == pytest.approx(7)
        await framework.settle()
        assert framework.status("slow")["state"] == "failed"
        assert f"did not finish {hook} within 7 s" in framework.status("slow")["error"]
        assert framework.status("other")["state"] == "running"
        assert cancelled == [hook]


def test_a_sync_hook_that_hangs_fails_in_time(run: Any) -> None:
    release = threading.Event()

    class Stuck(Component):
        def start(self) -> None:
            release.wait(GUARD)

    async def main() -> None:
        values = {"service_registry": {"service_timeout": 0.05}, "logging": {"console": False}}
        async with Framework(values, components=[Stuck(), Part("other")]) as framework:
            assert framework.status("stuck")["state"] == "failed"
            assert "did not finish start" in framework.status("stuck")["error"]
            assert framework.status("other")["state"] == "running"

    try:
        run(main())
    finally:
        release.set()


async def test_not_ready_is_tried_again_with_growing_delay(
    tiebeam_framework: Make, tiebeam_clock: Any
) -> None:
    class Later(Component):
        attempts: list[float] = []

        async def start(self) -> None:
            self.attempts.append(tiebeam_clock.monotonic())
            if len(self.attempts) < 4:
                raise NotReady("the exchange sleeps")

    async with tiebeam_framework(components=[Later]) as framework:
        assert framework.status("later")["state"] == "running"
    waits = [after - before for before, after in itertools.pairwise(Later.attempts)]
    assert waits == [pytest.approx(0.5), pytest.approx(1.0), pytest.approx(2.0)]


async def test_who_is_never_ready_fails(tiebeam_framework: Make) -> None:
    class Never(Component):
        async def start(self) -> None:
            raise NotReady("the exchange sleeps")

    async with tiebeam_framework(components=[Never]) as framework:
        assert framework.status("never")["state"] == "failed"
        assert "the exchange sleeps" in framework.status("never")["error"]


async def test_each_change_of_state_is_an_event(tiebeam_framework: Make) -> None:
    framework = tiebeam_framework(components=[Part("a"), Broken("b")])
    async with framework:
        pass
    changes: dict[str, list[tuple[str, str]]] = {"a": [], "b": []}
    for event in framework.published("system.component.*"):
        change = event.payload
        assert event.event_type == f"system.component.{change['to']}"
        assert change["cause"]
        changes[change["component"]].append((change["from"], change["to"]))
    assert changes["a"] == [
        ("initialized", "configured"),
        ("configured", "starting"),
        ("starting", "running"),
        ("running", "stopping"),
        ("stopping", "stopped"),
    ]
    assert changes["b"] == [
        ("initialized", "configured"),
        ("configured", "starting"),
        ("starting", "failed"),
        ("failed", "stopping"),
        ("stopping", "stopped"),
    ]
    failed = next(e for e in framework.published("system.component.failed"))
    assert "no route" in failed.payload["cause"]


async def test_a_component_is_stopped_started_and_restarted_by_name(
    tiebeam_framework: Make,
) -> None:
    diary: list[str] = []
    parts = [Part("base", diary), Part("top", diary, depends_on=["base"])]
    async with tiebeam_framework(components=parts) as framework:
        diary.clear()
        await framework.stop_component("base")
        assert stops(diary) == ["top", "base"]
        assert framework.status("top")["blocked_by"] == "base"
        diary.clear()
        await framework.start_component("base")
        assert starts(diary) == ["base", "top"]
        diary.clear()
        await framework.restart_component("base")
        assert stops(diary) == ["top", "base"]
        assert starts(diary) == ["base", "top"]
        assert "initialize base" not in diary
        await framework.start_component("base")  # it runs already
        assert starts(diary) == ["base", "top"]
        with pytest.raises(ConfigurationError, match="did you mean `base`"):
            await framework.stop_component("bas")


async def test_starting_one_that_cannot_start_raises(tiebeam_framework: Make) -> None:
    parts = [Broken("feed"), Part("ui", depends_on=["feed"])]
    async with tiebeam_framework(components=parts) as framework:
        with pytest.raises(LifecycleError, match="no route"):
            await framework.start_component("feed")
        with pytest.raises(Exception, match="`ui` cannot start: blocked by feed"):
            await framework.start_component("ui")


async def test_fail_fast_stops_everything_and_says_who(tiebeam_framework: Make) -> None:
    good = Part("good")
    parts = [good, Broken("feed"), Part("ui", depends_on=["feed"])]
    framework = tiebeam_framework(components=parts, fail_fast=True)
    with pytest.raises(LifecycleError, match=r"(?s)feed: .*no route.*ui: blocked by feed"):
        await framework.start()
    assert good.state == "stopped"
    assert stops(good.diary) == ["good"]
    assert framework.state == "stopped"


async def test_a_framework_starts_once(tiebeam_framework: Make) -> None:
    framework = tiebeam_framework(components=[Part("a")])
    async with framework:
        with pytest.raises(LifecycleError, match="running already"):
            await framework.start()
    first = framework.stop_report
    assert await framework.stop() == first  # idempotent
    with pytest.raises(ClosedError):
        await framework.start()


async def test_a_component_belongs_to_one_running_framework(tiebeam_framework: Make) -> None:
    part = Part("a")
    async with tiebeam_framework(components=[part]):
        with pytest.raises(LifecycleError, match="`a`"):
            tiebeam_framework(components=[part])
    async with tiebeam_framework(components=[part]) as second:  # the first one is over
        assert part.framework is second


@pytest.mark.parametrize("given", [[object()], [int], ["a"]])
def test_what_is_no_component_is_refused(given: list[Any]) -> None:
    with pytest.raises(TypeError, match=r"must subclass tiebeam.Component, got"):
        Framework(components=given)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="two components are called `a`"):
        Framework(components=[Part("a"), Part("a")])


async def test_graph_and_reprs(tiebeam_framework: Make) -> None:
    parts = [Part("feed"), Part("ui", depends_on=["feed"]), Part("<b>")]
    values = {"system": {"name": "R&D"}}
    async with tiebeam_framework(values, components=parts) as framework:
        assert framework.graph() == "ui\n└── feed\n<b>\n"
        mermaid = framework.graph("mermaid")
        assert mermaid.startswith("flowchart TD")
        assert 'n0["feed"]' in mermaid
        assert "n1 --> n0" in mermaid
        with pytest.raises(ValueError, match="mermaid"):
            framework.graph("svg")
        assert repr(framework) == (
            "<Framework 'R&D' running (feed: running, ui: running, <b>: running)>"
        )
        assert repr(framework.get("feed")) == "<Part 'feed' running>"
        html = framework._repr_html_()
        assert "<b>R&amp;D</b> running" in html
        assert "<td>&lt;b&gt;</td><td>running</td>" in html
    assert repr(Part("alone")) == "<Part 'alone' initialized>"
