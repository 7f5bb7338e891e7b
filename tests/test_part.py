"""One part of a system: ``only=`` and ``tiebeam run --only``, where no other process is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tiebeam import Component, ConfigurationError, Framework
from tiebeam.cli import main
from tiebeam.testing import TestFramework, run

QUIET = {"logging": {"console": False}}

GROUPED = {
    "components": {
        "feed": {},
        "agents": {"technical": {"enabled": True}, "patterns": {"enabled": True}},
        "engine": {},
        "idle": {"enabled": False},
    }
}


class Feed(Component):
    pass


class Technical(Component):
    after = ("feed",)


class Patterns(Component):
    wants = ("feed",)


class Engine(Component):
    depends_on = ("agents",)


ALL: list[type[Component]] = [Feed, Technical, Patterns, Engine]


def system(*only: str, **more: Any) -> Framework:
    return Framework({**GROUPED, **QUIET, **more}, components=ALL, only=only)


def test_a_part_has_the_components_it_names_and_the_members_of_its_groups() -> None:
    assert list(system("feed").components) == ["feed"]
    assert list(system("agents").components) == ["technical", "patterns"]
    assert list(system("agents", "engine").components) == ["technical", "patterns", "engine"]
    assert list(Framework(GROUPED, components=ALL).components) == [c.name for c in ALL]


def test_classes_of_other_parts_are_not_loaded() -> None:
    components = {"feed": {}, "engine": {"class": "no.such.module:Engine"}}
    assert list(Framework({"components": components}, components=[Feed], only=["feed"]).components)
    with pytest.raises(ConfigurationError, match="cannot load the component `engine`"):
        Framework({"components": components}, components=[Feed])


def test_names_of_nothing_are_refused_with_what_there_is() -> None:
    with pytest.raises(ConfigurationError) as caught:
        system("fead", "agents", "nonsense")
    assert str(caught.value) == (
        "only: there is no component and no group `fead`; did you mean `feed`?; there is no "
        "component and no group `nonsense` (there are: agents, engine, feed, patterns, technical)"
    )
    with pytest.raises(ConfigurationError, match=r"`idle` is disabled: components\.idle\.enabled"):
        system("idle")
    with pytest.raises(ConfigurationError, match="only: it names nothing"):
        system()
    with pytest.raises(TypeError, match=r"write \['feed'\]"):
        Framework(GROUPED, components=ALL, only="feed")


def test_in_memory_nobody_elsewhere_can_be_depended_on() -> None:
    with pytest.raises(ConfigurationError) as caught:
        system("engine")
    assert str(caught.value) == (
        "2 problems: `engine` depends on `technical`, which is in another part of the system, and "
        "`event_bus.implementation: in_memory` reaches no other process: set it to redis or "
        "rabbitmq, or run `technical` in this part, too; `engine` depends on `patterns`, which is "
        "in another part of the system, and `event_bus.implementation: in_memory` reaches no "
        "other process: set it to redis or rabbitmq, or run `patterns` in this part, too"
    )


def test_without_discovery_nobody_elsewhere_can_be_depended_on_either() -> None:
    bus = {"implementation": "redis", "connection_string": "redis://127.0.0.1:1/0"}
    registry = {"auto_discovery": False}
    with pytest.raises(
        ConfigurationError, match=r"`service_registry\.auto_discovery: false` leaves"
    ):
        Framework(
            {**GROUPED, "event_bus": bus, "service_registry": registry},
            components=ALL,
            only=["engine"],
        )


def test_what_is_wanted_or_comes_first_elsewhere_is_not_waited_for() -> None:
    async def part() -> None:
        registry = {"initialization_order": ["feed", "agents"]}
        async with system("agents", service_registry=registry) as framework:
            assert framework.start_report["started"] == ["technical", "patterns"]
            assert framework.status("technical")["state"] == "running"
            assert framework.status("patterns")["degradations"] == {
                "wants:feed": "without feed: absent"
            }

    run(part())


def test_an_object_of_another_part_cannot_be_injected() -> None:
    class Reporter(Component):
        source: Feed

    class Careful(Component):
        source: Feed | None

    with pytest.raises(ConfigurationError, match="where no object can be handed over from; ask it"):
        Framework(components=[Feed, Reporter], only=["reporter"])
    careful = Framework(components=[Feed, Careful], only=["careful"]).get(Careful)
    assert careful.source is None


def test_alone_in_memory_only_what_is_here_is_found_and_nothing_is_announced() -> None:
    class Quotes(Component):
        capabilities = ("quotes",)

    async def alone() -> None:
        async with TestFramework(components=[Feed, Quotes]) as framework:
            await framework.advance(60)
            feed, quotes = framework.services()
            assert (feed.name, feed.remote, feed.ready) == ("feed", False, True)
            assert framework.services("quotes") == framework.services(capability="quotes")
            assert framework.services(Quotes) == [quotes]
            assert await quotes.ping() >= 0.0
            assert (await quotes.info())["capabilities"] == ["quotes"]
            assert (await quotes.stats())["events_processed"] == 0
            assert framework.published("system.presence.*") == []
            assert "remote" not in framework.health()
            await framework.stop_component("feed")
            assert framework.services("feed") == []
            assert [s.state for s in framework.services("feed", unhealthy=True)] == ["stopped"]

    run(alone())


# -- the command line ---------------------------------------------------------------------

FILE = """
components:
  feed: {class: "parts_of_a_test:Feed"}
  agents:
    technical: {class: "parts_of_a_test:Technical"}
logging: {console: false}
"""

MODULE = """
from tiebeam import Component

class Feed(Component):
    pass

class Technical(Component):
    wants = ["feed"]
"""


def test_the_command_line_takes_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "system.yaml").write_text(FILE)
    (tmp_path / "parts_of_a_test.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    assert main(["check", "system.yaml", "--only", "agents"]) == 0
    assert capsys.readouterr().out == "ok: 1 components, starting in this order: technical\n"
    assert main(["graph", "system.yaml", "--only", "agents"]) == 0
    assert capsys.readouterr().out == "technical\n└── feed (wants, absent)\n\n"
    assert main(["run", "system.yaml", "--only", "fed"]) == 2
    assert re.search(r"no group `fed`; did you mean `feed`\?", capsys.readouterr().err)
