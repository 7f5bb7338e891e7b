"""Configuration through Python: layers, origins, refusals, and changes while the system runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiebeam import Component, Configuration, ConfigurationError, on_config
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]

YAML = """\
system:
  name: "demo"
event_bus:
  batch_size: 50
  connection_string: "redis://user:hunter2@host:6379"
components:
  agent:
    enabled: true
    api_key: "sk-123"
    window: 20
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "system.yaml"
    path.write_text(YAML)
    return path


def test_the_command_line_beats_the_environment_beats_files_beats_defaults(file: Path) -> None:
    environ = {"TIEBEAM_EVENT_BUS__BATCH_SIZE": "60", "TIEBEAM_HEALTH__CHECK_INTERVAL": "3"}
    plain = Configuration(file, environ={})
    assert (plain["event_bus.batch_size"], plain["health.check_interval"]) == (50, 10)
    shell = Configuration(file, environ=environ)
    assert (shell["event_bus.batch_size"], shell["health.check_interval"]) == (60, 3)
    line = Configuration(file, environ=environ, set=["event_bus.batch_size=70"])
    assert (line["event_bus.batch_size"], line["health.check_interval"]) == (70, 3)


def test_the_environment_of_the_process_is_the_default(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIEBEAM_EVENT_BUS__BATCH_SIZE", "61")
    monkeypatch.setenv("TIEBEAM_HOME", "/nowhere")  # one underscore: none of ours
    assert Configuration(file)["event_bus.batch_size"] == 61


def test_explain_says_where_from_and_what_is_overruled(file: Path) -> None:
    configuration = Configuration(
        file, environ={"TIEBEAM_EVENT_BUS__BATCH_SIZE": "60"}, set=["event_bus.batch_size=70"]
    )
    lines = configuration.explain("event_bus.batch_size").splitlines()
    assert lines[0] == "event_bus.batch_size = 70"
    assert "--set" in lines[1]
    assert "TIEBEAM_EVENT_BUS__BATCH_SIZE" in lines[2]
    assert f"{file}:4" in lines[3]
    assert "defaults" in lines[4]
    assert configuration.place("system.name") == f"{file}:2"
    with pytest.raises(ConfigurationError, match=r"`system\.nam`"):
        configuration.explain("system.nam")


def test_an_unknown_key_is_refused_with_place_and_suggestion(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("event_bus:\n  batch_sise: 5\nhealth:\n  check_interval: -1\n")
    with pytest.raises(ConfigurationError) as caught:
        Configuration(path, environ={})
    head, unknown, range_ = str(caught.value).splitlines()
    assert "2 problems" in head
    assert f"{path}:2: event_bus.batch_sise" in unknown
    assert "did you mean `event_bus.batch_size`" in unknown
    assert f"{path}:4: health.check_interval" in range_
    assert "-1" in range_


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"set": ["event_bus.batch_sise=5"]}, ["--set", "batch_size"]),
        ({"set": ["event_bus.batch_size"]}, ["event_bus.batch_size", "="]),
        ({"environ": {"TIEBEAM_EVENT_BUS__BATCH_SISE": "5"}}, ["TIEBEAM_EVENT_BUS__BATCH_SISE"]),
        ({"environ": {"TIEBEAM_EVENT_BUS__BATCH_SIZE": "lots"}}, ["BATCH_SIZE", "whole number"]),
        ({"values": {"event_bus": {"batch_sise": 5}}}, ["batch_size"]),
    ],
)
def test_every_source_is_named_in_its_errors(how: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Configuration(**{"environ": {}, **how})
    for word in words:
        assert word in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml"):
        Configuration(tmp_path / "nowhere.yaml")


def test_asking_for_what_is_not_there(file: Path) -> None:
    configuration = Configuration(file, environ={})
    assert configuration.get("no.such.path") is None
    assert configuration.get("no.such.path", 3) == 3
    assert "no.such.path" not in configuration
    assert "components.agent.window" in configuration
    with pytest.raises(ConfigurationError, match=r"`no\.such\.path`"):
        configuration["no.such.path"]


def test_secrets_are_for_those_who_ask_by_name_only(file: Path) -> None:
    configuration = Configuration(file, environ={}, components=["agent"])
    assert configuration["components.agent.api_key"] == "sk-123"
    shown = [
        repr(configuration),
        configuration._repr_html_(),
        repr(configuration.as_dict()),
        configuration.explain("components.agent.api_key"),
        configuration.explain("event_bus.connection_string"),
    ]
    for text in shown:
        assert "sk-123" not in text
        assert "hunter2" not in text
    assert "window" in configuration._repr_html_()


def test_a_refused_secret_is_not_in_the_error() -> None:
    wrong = {"event_bus": {"password": "hunter2", "batch_size": "redis://me:hunter2@host"}}
    with pytest.raises(ConfigurationError) as caught:
        Configuration(values=wrong, environ={})
    assert "hunter2" not in str(caught.value)


# -- changes while the system runs --------------------------------------------------------


class Agent(Component):
    """Remembers what it is told."""

    config_schema = {
        "type": "object",
        "properties": {"window": {"type": "integer", "minimum": 2}, "symbol": {"type": "string"}},
    }
    broken_from = 1_000

    def __init__(self) -> None:
        self.windows: list[int] = []
        self.told: list[tuple[str, Any, Any]] = []

    def validate_configuration(self, config: dict[str, Any]) -> None:
        if config.get("window", 20) % 2:
            raise ConfigurationError("an odd window has no middle")

    async def configure(self, config: dict[str, Any]) -> None:
        if config["window"] >= self.broken_from:
            raise RuntimeError("too large for this machine")
        self.windows.append(config["window"])

    @on_config("components.agent.window")
    async def on_window(self, path: str, old: Any, new: Any) -> None:
        self.told.append((path, old, new))


VALUES = {"components": {"agent": {"window": 20, "symbol": "BTC"}}}


async def test_a_change_reaches_those_it_concerns(tiebeam_framework: Make) -> None:
    class Other(Component):
        configured = 0

        async def configure(self, _config: Any) -> None:
            Other.configured += 1

    agent = Agent()
    async with tiebeam_framework(VALUES, components=[agent, Other]) as framework:
        sections: list[tuple[str, Any, Any]] = []
        end = agent.on_configuration_change("components", lambda *told: sections.append(told))
        changed = await framework.configure({"components.agent.window": 30})
        assert changed == ["components.agent.window"]
        assert agent.windows == [20, 30]
        assert agent.told == [("components.agent.window", 20, 30)]
        before = {"agent": {"window": 20, "symbol": "BTC"}}
        after = {"agent": {"window": 30, "symbol": "BTC"}}
        assert sections == [("components", before, after)]
        assert agent.config["window"] == 30
        assert agent.get_configuration("components.agent.window") == 30
        assert agent.state == "running"
        assert Other.configured == 1
        (event,) = framework.published("system.configuration.changed")
        assert event.payload["paths"] == ["components.agent.window"]
        assert event.payload["revision"] == framework.configuration.revision == 2
        end()
        await framework.configure({"components.agent.symbol": "ETH"})
        assert len(sections) == len(agent.told) == 1  # neither listens to this
        assert "runtime" in framework.configuration.explain("components.agent.symbol")


@pytest.mark.parametrize(
    "changes",
    [
        {"components.agent.window": 21},
        {"components.agent": {"window": 21}},
        {"components": {"agent": {"window": 21}}},
        {"system.name": "other", "components.agent.window": 21},
        {"components.agent.window": 1},
        {"components.agent.window": "wide"},
        {"event_bus.batch_sise": 5},
        {"health.check_interval": -1},
        {"a..b": 1},
    ],
    ids=str,
)
async def test_what_is_refused_changes_nothing(
    tiebeam_framework: Make, changes: dict[str, Any]
) -> None:
    agent = Agent()
    async with tiebeam_framework(VALUES, components=[agent]) as framework:
        before = framework.configuration.as_dict()
        with pytest.raises(ConfigurationError):
            await framework.configure(changes)
        assert framework.configuration.as_dict() == before
        assert framework.configuration.revision == 1
        assert (agent.windows, agent.told) == ([20], [])
        assert framework.published("system.configuration.changed") == []


async def test_a_veto_names_the_component_and_its_reason(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(VALUES, components=[Agent]) as framework:
        with pytest.raises(ConfigurationError, match=r"components\.agent: an odd window"):
            await framework.configure({"components.agent.window": 21})


async def test_what_cannot_be_applied_is_taken_back_everywhere(tiebeam_framework: Make) -> None:
    class First(Agent):
        name = "first"

    first, agent = First(), Agent()
    agent.broken_from = 50
    values = {"components": {"first": {"window": 20}, "agent": {"window": 20}}}
    async with tiebeam_framework(values, components=[first, agent]) as framework:
        with pytest.raises(ConfigurationError, match="too large for this machine"):
            await framework.configure(
                {"components.first.window": 60, "components.agent.window": 60}
            )
        assert framework.configuration["components.first.window"] == 20
        assert framework.configuration["components.agent.window"] == 20
        assert first.windows == [20, 60, 20]
        assert agent.windows == [20, 20]
        assert agent.config["window"] == first.config["window"] == 20
        assert (agent.state, agent.told) == ("running", [])


async def test_no_change_is_no_revision(tiebeam_framework: Make) -> None:
    agent = Agent()
    async with tiebeam_framework(VALUES, components=[agent]) as framework:
        assert await framework.configure({"components.agent.window": 20}) == []
        assert framework.configuration.revision == 1
        assert agent.windows == [20]


async def test_a_section_is_told_of_once_however_much_changes(tiebeam_framework: Make) -> None:
    agent = Agent()
    async with tiebeam_framework(VALUES, components=[agent]) as framework:
        told: list[tuple[str, Any, Any]] = []
        agent.on_configuration_change("components.agent", lambda *change: told.append(change))
        agent.on_configuration_change("health", lambda *change: told.append(change))
        await framework.configure(
            {"components.agent.window": 30, "components.agent.symbol": "ETH", "system.name": "it"}
        )
        ((path, old, new),) = told
        assert (path, old, new) == (
            "components.agent",
            {"window": 20, "symbol": "BTC"},
            {"window": 30, "symbol": "ETH"},
        )


async def test_a_listener_that_fails_stops_nobody(tiebeam_framework: Make) -> None:
    class Fails(Component):
        @on_config("components.agent")
        def on_agent(self, _path: str, _old: Any, _new: Any) -> None:
            raise RuntimeError("no")

    agent = Agent()
    async with tiebeam_framework(VALUES, components=[Fails, agent]) as framework:
        await framework.configure({"components.agent.window": 30})
        assert agent.told == [("components.agent.window", 20, 30)]


async def test_history_and_rollback(tiebeam_framework: Make) -> None:
    agent = Agent()
    async with tiebeam_framework(VALUES, components=[agent]) as framework:
        await framework.configure({"components.agent.window": 30})
        assert await framework.rollback(1) == ["components.agent.window"]
        assert agent.windows == [20, 30, 20]
        history = framework.configuration.history()
        assert [revision["revision"] for revision in history] == [1, 2, 3]
        assert [revision["author"] for revision in history] == ["start", "api", "rollback"]
        assert history[2]["rollback_of"] == 1
        assert history[1]["changed"] == ["components.agent.window"]
        with pytest.raises(ConfigurationError, match="there is no revision 9"):
            await framework.rollback(9)


def write(path: Path, text: str) -> None:
    """Replace a file as an editor does, with another time of change."""
    before = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(before + 1_000_000_000, before + 1_000_000_000))


AGENT = "components:\n  agent:\n    window: {window}\n"


def watched(make: Make, path: Path, agent: Agent, clock: Any, **configuration: Any) -> Any:
    path.write_text(AGENT.format(window=20))
    store = Configuration(
        path,
        values={"configuration": configuration, "logging": {"console": False}},
        environ={},
        components=["agent"],
        clock=clock,
    )
    return make(store, components=[agent])


async def test_a_changed_file_is_adopted(
    tiebeam_framework: Make, tiebeam_clock: Any, tmp_path: Path
) -> None:
    agent, path = Agent(), tmp_path / "agent.yaml"
    async with watched(tiebeam_framework, path, agent, tiebeam_clock) as framework:
        write(path, AGENT.format(window=40))
        await framework.advance(3)
        assert agent.windows == [20, 40]
        assert framework.configuration.history()[-1]["author"] == "file"


async def test_a_bad_file_leaves_the_running_revision_and_says_so_once(
    tiebeam_framework: Make, tiebeam_clock: Any, tmp_path: Path
) -> None:
    agent, path = Agent(), tmp_path / "agent.yaml"
    async with watched(tiebeam_framework, path, agent, tiebeam_clock) as framework:
        write(path, AGENT.format(window=41))
        await framework.advance(200)
        assert (agent.windows, framework.configuration.revision) == ([20], 1)
        (event,) = framework.published("system.configuration.rejected")
        assert "an odd window" in event.payload["error"]
        assert f"{path}:3" in event.payload["error"] or "agent.yaml" in event.payload["error"]
        write(path, "components: [")
        await framework.advance(3)
        assert len(framework.published("system.configuration.rejected")) == 2
        write(path, AGENT.format(window=42))
        await framework.advance(3)
        assert agent.windows == [20, 42]


async def test_nobody_watches_unless_told_to(
    tiebeam_framework: Make, tiebeam_clock: Any, tmp_path: Path
) -> None:
    agent, path = Agent(), tmp_path / "agent.yaml"
    async with watched(
        tiebeam_framework, path, agent, tiebeam_clock, watch_for_changes=False
    ) as framework:
        write(path, AGENT.format(window=40))
        await framework.advance(200)
        assert agent.windows == [20]
        assert await framework.reload() == ["components.agent.window"]
        assert agent.windows == [20, 40]


async def test_files_are_compared_each_interval_in_any_case(
    tiebeam_framework: Make, tiebeam_clock: Any, tmp_path: Path
) -> None:
    """A change that leaves time and size alone is noticed too."""
    agent, path = Agent(), tmp_path / "agent.yaml"
    async with watched(
        tiebeam_framework, path, agent, tiebeam_clock, reload_interval=30
    ) as framework:
        seen = path.stat()
        path.write_text(AGENT.format(window=40))
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        await framework.advance(20)
        assert agent.windows == [20]
        await framework.advance(15)
        assert agent.windows == [20, 40]


async def test_who_cancels_a_change_keeps_nobody_from_hearing_of_it(
    tiebeam_framework: Make,
) -> None:
    entered, opened = asyncio.Event(), asyncio.Event()

    class Agent(Component):
        def __init__(self) -> None:
            self.told: list[Any] = []

        @on_config("components.agent.size")
        async def slow(self, *_change: Any) -> None:
            entered.set()
            await opened.wait()
            self.told.append("the slow one was not interrupted")

        @on_config("components.agent.size")
        async def second(self, *change: Any) -> None:
            await asyncio.sleep(1)
            self.told.append(("second", *change[1:]))

        @on_config("components.agent.size")
        def third(self, *change: Any) -> None:
            self.told.append(("third", *change[1:]))

    values = {"components": {"agent": {"size": 1}}}
    agent = Agent()
    async with tiebeam_framework(values, components=[agent]) as framework:
        change = asyncio.ensure_future(framework.configure({"components.agent.size": 2}))
        await entered.wait()
        change.cancel()
        await framework.advance(3)
        with pytest.raises(asyncio.CancelledError):
            await change
        assert framework.configuration.get("components.agent.size") == 2
        assert len(framework.published("system.configuration.changed")) == 1
        assert agent.told == [("second", 1, 2), ("third", 1, 2)]


async def test_a_change_that_is_cancelled_when_the_system_has_stopped(
    tiebeam_framework: Make,
) -> None:
    entered = asyncio.Event()

    class Agent(Component):
        @on_config("components.agent.size")
        async def slow(self, *_change: Any) -> None:
            entered.set()
            await asyncio.Event().wait()

    values = {"components": {"agent": {"size": 1}}}
    async with tiebeam_framework(values, components=[Agent]) as framework:
        change = asyncio.ensure_future(framework.configure({"components.agent.size": 2}))
        await entered.wait()
    change.cancel()
    with pytest.raises(asyncio.CancelledError):
        await change
