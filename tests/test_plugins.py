"""Plugins of all four kinds: what an installed package brings, and what one that is broken does."""

from __future__ import annotations

import contextlib
import importlib
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiebeam import Configuration, ConfigurationError, Framework
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]

MODULE = '''
from tiebeam import Component, Health, Middleware, check

class Feed(Component):
    """Found by the name of its section."""

    async def configure(self, config):
        self.rate = config.get("rate")

class Stamp(Middleware):
    """Signs what is published."""

    def on_publish(self, call_next, event_type, payload, **options):
        options["metadata"] = {**(options.get("metadata") or {}), "stamped_by": "acme"}
        return call_next(event_type, payload, **options)

def disk():
    return Health.warn("nearly full", free=3)

@check(kind="resource", critical=True, failure_threshold=1)
async def licence(framework):
    name = framework.configuration["system.name"]
    return Health.fail(f"{name} has no licence")

def vault(configuration):
    """Gives what the section of the environment asks for."""
    environment = configuration["system.environment"]
    return {"event_bus": {"batch_size": 7 if environment == "staging" else 8}}
'''

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

POINTS = """
[tiebeam.components]
feed = acme_plugins:Feed

[tiebeam.middleware]
stamp = acme_plugins:Stamp

[tiebeam.checks]
disk = acme_plugins:disk
licence = acme_plugins:licence

[tiebeam.config_sources]
vault = acme_plugins:vault
"""

BACKEND = """
import zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name, info = "acme_plugins-2.1-py3-none-any.whl", "acme_plugins-2.1.dist-info"
    files = {
        "acme_plugins.py": open("acme_plugins.py").read(),
        f"{info}/METADATA": "Metadata-Version: 2.1\\nName: acme-plugins\\nVersion: 2.1\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{info}/entry_points.txt": open("entry_points.txt").read(),
    }
    record = "".join(f"{path},,\\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)
    return name
"""
"""Builds the wheel, so that nothing has to be there but pip."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which a package with one of each was installed, by pip."""
    pytest.importorskip("pip")
    project = tmp_path_factory.mktemp("project")
    (project / "pyproject.toml").write_text(PROJECT)
    (project / "acme_plugins.py").write_text(MODULE)
    (project / "entry_points.txt").write_text(POINTS)
    (project / "backend.py").write_text(BACKEND)
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    how = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*pip, *how, str(project)], check=True, capture_output=True)
    return site


@pytest.fixture
def acme(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(installed))
    yield installed
    sys.modules.pop("acme_plugins", None)


def broken(folder: Path, points: str, module: str = "") -> None:
    """A package by hand, of which something is wrong."""
    info = folder / "shaky-0.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shaky\nVersion: 0.9\n")
    (info / "entry_points.txt").write_text(points)
    (folder / "shaky.py").write_text(module)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("shaky", None)
    importlib.invalidate_caches()


async def test_each_kind_does_its_work(tiebeam_framework: Make, acme: Path) -> None:
    values = {
        "system": {"name": "desk", "environment": "staging"},
        "components": {"feed": {"rate": 3}},
    }
    async with tiebeam_framework(values) as framework:
        # A component, found by the name of its section.
        assert framework.get("feed").rate == 3  # type: ignore[attr-defined]
        # Middleware, around every publish.
        await framework.bus.publish("a.b", {})
        (event,) = framework.published("a.b")
        assert event.metadata["stamped_by"] == "acme"
        # Checks, which belong to a component of their own.
        report = await framework.check("plugin_checks")
        assert report["health"] == "fail"
        assert set(framework.health_history("plugin_checks")) >= {"disk", "licence"}
        reasons = " ".join(report["details"]["reasons"])
        assert "nearly full" in reasons
        assert "desk has no licence" in reasons
        # A configuration source, which has asked the others for the environment.
        assert framework.configuration["event_bus.batch_size"] == 7
        assert framework.configuration.place("event_bus.batch_size") == "acme-plugins 2.1 (vault)"
        found = {(plugin.kind, plugin.name, plugin.package) for plugin in framework.plugins}
        assert found == {
            ("components", "feed", "acme-plugins 2.1"),
            ("middleware", "stamp", "acme-plugins 2.1"),
            ("checks", "disk", "acme-plugins 2.1"),
            ("checks", "licence", "acme-plugins 2.1"),
            ("config_sources", "vault", "acme-plugins 2.1"),
        }
        assert all(plugin.error is None for plugin in framework.plugins)


async def test_without_discovery_there_is_none(tiebeam_framework: Make, acme: Path) -> None:
    values = {"service_registry": {"auto_discovery": False}}
    async with tiebeam_framework(values) as framework:
        assert framework.plugins == []
        assert list(framework.components) == []
        assert framework.configuration["event_bus.batch_size"] == 100
        await framework.bus.publish("a.b", {})
        (event,) = framework.published("a.b")
        assert "stamped_by" not in event.metadata
    with pytest.raises(ConfigurationError, match="nothing is known of the component `feed`"):
        tiebeam_framework({**values, "components": {"feed": {}}})


def test_a_source_is_above_files_and_below_the_environment(acme: Path, tmp_path: Path) -> None:
    file = tmp_path / "system.yaml"
    file.write_text("event_bus: {batch_size: 5}\n")
    assert Configuration(file, environ={})["event_bus.batch_size"] == 8
    environ = {"TIEBEAM_EVENT_BUS__BATCH_SIZE": "9"}
    configuration = Configuration(file, environ=environ)
    assert configuration["event_bus.batch_size"] == 9
    explained = configuration.explain("event_bus.batch_size").splitlines()
    assert [line.split()[1] for line in explained[1:]] == [
        "TIEBEAM_EVENT_BUS__BATCH_SIZE",
        "acme-plugins",
        f"{file}:1",
        "defaults",
    ]


def test_a_component_that_is_not_declared_is_not_loaded(
    acme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    framework = Framework()
    assert "feed" not in framework.components
    assert "components" not in {plugin.kind for plugin in framework.plugins}


async def test_a_source_is_asked_again_when_the_rest_is_read(
    tiebeam_framework: Make, site: Path
) -> None:
    points = "[tiebeam.config_sources]\nrates = shaky:rates\n"
    module = "rate = 1\ndef rates():\n    return {'components': {'feed': {'rate': rate}}}\n"
    broken(site, points, module)
    values = {"components": {"feed": {"enabled": False}}}
    async with tiebeam_framework(values) as framework:
        assert framework.configuration["components.feed.rate"] == 1
        shaky = importlib.import_module("shaky")
        shaky.rate = 2  # type: ignore[attr-defined]
        assert await framework.reload() == ["components.feed.rate"]
        assert framework.configuration["components.feed.rate"] == 2
        del shaky.rate  # type: ignore[attr-defined]
        assert await framework.reload() == [], "what it said last holds"
        (plugin,) = framework.plugins
        assert plugin.error == "NameError: name 'rate' is not defined"


@pytest.mark.parametrize(
    ("kind", "module", "reason"),
    [
        ("middleware", "import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere"),
        ("middleware", "", "AttributeError: module 'shaky' has no attribute 'it'"),
        ("middleware", "it = 3", "TypeError: it is to be a subclass of tiebeam.Middleware, got 3"),
        ("middleware", "class it:\n    pass", "subclass of tiebeam.Middleware, got <class"),
        ("checks", "import nowhere_at_all", "ModuleNotFoundError"),
        ("checks", "it = 3", "TypeError: it is to be a function, `async def` or `def`, got 3"),
        ("config_sources", "it = 3", "TypeError: it is to be a function of the configuration"),
        ("config_sources", "def it():\n    return 3", "TypeError: it is to return a dict"),
        ("config_sources", "def it(a, b):\n    return {}", "TypeError: it() missing 2"),
    ],
)
async def test_one_that_cannot_be_used_is_named_and_left_out(
    tiebeam_framework: Make,
    acme: Path,
    site: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    module: str,
    reason: str,
) -> None:
    broken(site, f"[tiebeam.{kind}]\nworse = shaky:it\n", module)
    with caplog.at_level(logging.WARNING, "tiebeam"):
        framework = tiebeam_framework()
    named = f"the entry point `worse` (tiebeam.{kind}) of shaky 0.9 cannot be used: "
    said = [record.getMessage() for record in caplog.records]
    assert any(line.startswith(named) and reason in line for line in said), said
    async with framework:
        (plugin,) = (plugin for plugin in framework.plugins if plugin.name == "worse")
        assert plugin.error is not None
        assert reason in plugin.error
        # The rest is there.
        await framework.bus.publish("a.b", {})
        assert framework.published("a.b")[0].metadata["stamped_by"] == "acme"
        assert framework.configuration["event_bus.batch_size"] == 8
        assert (await framework.check("plugin_checks"))["health"] == "fail"


def test_a_component_that_is_needed_and_cannot_be_used_is_an_error(site: Path) -> None:
    broken(site, "[tiebeam.components]\nfeed = shaky:Feed\n", "import nowhere_at_all")
    with pytest.raises(ConfigurationError) as caught:
        Framework({"components": {"feed": {}}})
    assert "the entry point `feed` (tiebeam.components) of shaky 0.9" in str(caught.value)
    assert "ModuleNotFoundError: No module named 'nowhere_at_all'" in str(caught.value)
    assert Framework().components == {}, "nobody needs it"


def test_two_packages_with_one_component(acme: Path, site: Path) -> None:
    broken(site, "[tiebeam.components]\nfeed = shaky:Feed\n", "class Feed: ...")
    with pytest.raises(ConfigurationError, match=r"acme-plugins 2\.1 and shaky 0\.9 each bring"):
        Framework({"components": {"feed": {}}})


def test_a_name_that_is_nearly_that_of_a_plugin(acme: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean `feed`"):
        Framework({"components": {"feeed": {}}})


def test_what_a_source_says_is_validated_under_its_name(site: Path) -> None:
    points = "[tiebeam.config_sources]\nrates = shaky:rates\n"
    broken(site, points, "def rates():\n    return {'event_bus': {'bach_size': 1}}\n")
    with pytest.raises(ConfigurationError) as caught:
        Configuration(environ={})
    assert "shaky 0.9 (rates): event_bus.bach_size" in str(caught.value)
    assert "batch_size" in str(caught.value)


def test_packages_are_looked_for_once_until_something_has_changed(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import metadata

    looks: list[None] = []
    read = metadata.entry_points
    monkeypatch.setattr(metadata, "entry_points", lambda: (looks.append(None), read())[1])
    names = lambda: [plugin.name for plugin in Framework().plugins]  # noqa: E731
    before = names()
    count = len(looks)
    assert names() == before
    assert len(looks) == count <= 1
    # Installed while it runs, into a folder that was on the path before.
    broken(site, "[tiebeam.checks]\nlater = shaky:later\n", "def later(): ...\n")
    assert names() == [*before, "later"]
    assert len(looks) == count + 1
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != str(site)])
    assert names() == before


@pytest.mark.parametrize("kind", ["middleware", "checks", "config_sources", "components"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_plugin_that_takes_long_to_load_is_named(
    site: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    fails: bool,
) -> None:
    monkeypatch.setattr("tiebeam._points.SLOW", 0.0)
    broken(site, f"[tiebeam.{kind}]\nslow = shaky:it\n", "x" if fails else "def it(): return {}\n")
    with caplog.at_level(logging.DEBUG, "tiebeam"), contextlib.suppress(ConfigurationError):
        Framework({"components": {"slow": {}} if kind == "components" else {}})
    named = f"the entry point `slow` (tiebeam.{kind}) of shaky 0.9"
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert ("DEBUG", f"{named} is loaded") in said
    assert ("WARNING", f"{named} took 0.0 s to load") in said


def test_a_package_that_cannot_be_read_stops_nobody(
    site: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise TypeError("Pair.__new__() missing 1 required positional argument: 'value'")

    monkeypatch.setattr("importlib.metadata.entry_points", broken)
    framework = Framework(components=[])
    assert framework.plugins == []
    assert "entry points of installed packages cannot be read" in caplog.text


def test_what_a_source_should_not_have_said_is_not_shown(
    site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken(
        site,
        "[tiebeam.config_sources]\nvault = shaky:vault\nodd = shaky:odd\n",
        "def vault():\n    return [('password', 'hunter2')]\n\n\n"
        "def odd():\n    return {'event_bus': {'batch_size': object()}}\n",
    )
    Configuration()
    assert "hunter2" not in caplog.text
    assert "got a list" in caplog.text
    assert "not JSON serializable" in caplog.text
