"""Finding components: by name, type, capability, annotation, entry point and class."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import pytest
from tiebeam import Component, ConfigurationError, Event, Framework, Health, check, subscribe
from tiebeam.testing import TestFramework, mock_component

if TYPE_CHECKING:
    from decimal import Decimal

Make = Callable[..., TestFramework]


class Store(Component):
    capabilities = ["storage"]
    well = True

    async def get(self, key: str) -> str:
        return f"value of {key}"

    @check(kind="dependency", failure_threshold=1)
    async def disk(self) -> Any:
        return Health.ok() if self.well else Health.fail("full")


class Archive(Component):
    capabilities = ["storage", "history"]


class Reader(Component):
    """Has everything that can be injected, and what cannot."""

    store: Store
    archive: Archive | None
    nobody: Optional[Component] = None  # noqa: UP045 - the older spelling
    only_for_type_checkers: Decimal
    plain: int = 3


class Built(Component):
    """Has its dependencies in the constructor."""

    def __init__(self, store: Store, archive: Archive | None = None, size: int = 5) -> None:
        self.store = store
        self.archive = archive
        self.size = size


async def test_by_name_and_by_type(tiebeam_framework: Make) -> None:
    store = Store()
    async with tiebeam_framework(components=[store, Archive]) as framework:
        assert framework.get("store") is framework.get(Store) is store
        assert isinstance(framework.get("archive"), Archive)
        assert list(framework.components) == ["store", "archive"]
        with pytest.raises(ConfigurationError, match="no component `stor`; did you mean `store`"):
            framework.get("stor")
        with pytest.raises(ConfigurationError, match="no component of type Reader; there are"):
            framework.get(Reader)


async def test_several_of_one_type_are_asked_for_by_name(tiebeam_framework: Make) -> None:
    class Cold(Store):
        pass

    async with tiebeam_framework(components=[Store, Cold]) as framework:
        assert isinstance(framework.get(Cold), Cold)
        with pytest.raises(ConfigurationError, match="store, cold; ask by name"):
            framework.get(Store)


async def test_by_capability_without_the_unhealthy(tiebeam_framework: Make) -> None:
    store = Store()
    async with tiebeam_framework(components=[store, Archive]) as framework:
        names = lambda **how: [c.name for c in framework.find(**how)]  # noqa: E731
        assert names(capability="storage") == ["store", "archive"]
        assert names(capability="history") == ["archive"]
        assert names(capability="nothing") == []
        store.well = False
        await framework.check("store")
        assert names(capability="storage") == ["archive"]
        assert names(capability="storage", unhealthy=True) == ["archive", "store"]
        store.well = True
        await framework.check("store")
        assert names(capability="storage") == ["store", "archive"]
        await framework.stop_component("archive")
        assert names(capability="storage") == ["store"]


async def test_the_running_come_before_the_degraded(tiebeam_framework: Make) -> None:
    class Wanting(Archive):
        name = "first"
        wants = ["nowhere"]

    async with tiebeam_framework(components=[Wanting, Archive]) as framework:
        found = [component.name for component in framework.find(capability="history")]
        assert found == ["archive", "first"]


async def test_attributes_are_injected_by_annotation(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Reader, Store]) as framework:
        reader = framework.get(Reader)
        assert reader.store is framework.get(Store)
        assert reader.archive is None
        assert reader.nobody is None
        assert not hasattr(reader, "only_for_type_checkers")
        # What is injected is depended on.
        assert framework.start_report["started"] == ["store", "reader"]


def test_an_attribute_that_nobody_can_fill_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"`reader` .*`store`"):
        Framework(components=[Reader])


async def test_constructor_parameters_are_injected(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Built, Store]) as framework:
        built = framework.get(Built)
        assert built.store is framework.get(Store)
        assert (built.archive, built.size) == (None, 5)
        assert framework.start_report["started"] == ["store", "built"]


def test_constructors_that_cannot_be_called_say_why() -> None:
    class Wants(Component):
        def __init__(self, url: str) -> None: ...

    with pytest.raises(ConfigurationError, match="parameter `url` has no default"):
        Framework(components=[Wants])
    with pytest.raises(ConfigurationError, match="no component of type Store"):
        Framework(components=[Built])


async def test_of_several_the_one_that_bears_the_name(tiebeam_framework: Make) -> None:
    class Cold(Store):
        pass

    class Warm(Store):
        pass

    class Uses(Component):
        warm: Store

    async with tiebeam_framework(components=[Uses, Cold, Warm]) as framework:
        assert framework.get(Uses).warm is framework.get(Warm)


async def test_a_test_sets_an_attribute_itself(tiebeam_framework: Make) -> None:
    fake = object()
    reader = Reader()
    reader.store = fake  # type: ignore[assignment]
    async with tiebeam_framework(components=[reader]) as framework:
        assert framework.get(Reader).store is fake


async def test_overrides_take_the_place_of_dependencies(tiebeam_framework: Make) -> None:
    class Fake:
        async def get(self, key: str) -> str:
            return "fake"

    fake = Fake()
    async with tiebeam_framework(components=[Reader, Built], overrides={Store: fake}) as framework:
        assert framework.get(Reader).store is fake
        assert framework.get(Built).store is fake
        assert "store" not in framework.components


async def test_a_mock_stands_in_for_a_component(tiebeam_framework: Make) -> None:
    store = mock_component(Store)
    store.get.return_value = "mocked"
    async with tiebeam_framework(components=[Reader, store]) as framework:
        assert framework.get(Reader).store is store is framework.get(Store)
        assert await framework.get(Reader).store.get("a") == "mocked"
        store.get.assert_awaited_once_with("a")
        assert framework.find(capability="storage") == [store]
        with pytest.raises(TypeError):
            await store.get()  # the signature is the real one's


# -- what the configuration names ---------------------------------------------------------

PLUGIN = """
from tiebeam import Component

class Feed(Component):
    name = "feed"

    async def configure(self, config):
        self.rate = config.get("rate")

class Other(Component):
    name = "other"

class NoComponent:
    pass

raise_on_load = 1
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of installed packages, with one that has an entry point `feed`."""
    (tmp_path / "feed_plugin.py").write_text(PLUGIN)
    info = tmp_path / "feed_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: feed-plugin\nVersion: 1.0\n")
    points = "[tiebeam.components]\nfeed = feed_plugin:Feed\nbroken = feed_plugin:Nowhere\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("feed_plugin", None)


async def test_an_entry_point_of_the_name(tiebeam_framework: Make, site: Path) -> None:
    values = {"components": {"feed": {"rate": 3}}}
    async with tiebeam_framework(values) as framework:
        assert framework.status("feed")["state"] == "running"
        assert framework.get("feed").rate == 3  # type: ignore[attr-defined]


async def test_an_instance_comes_before_an_entry_point_before_a_class(
    tiebeam_framework: Make, site: Path
) -> None:
    class Mine(Component):
        name = "feed"

    values = {"components": {"feed": {"class": "feed_plugin:Other"}}}
    assert type(tiebeam_framework(values).get("feed")).__name__ == "Feed"
    assert type(tiebeam_framework(values, components=[Mine]).get("feed")) is Mine


async def test_without_discovery_there_are_no_entry_points(
    tiebeam_framework: Make, site: Path
) -> None:
    values = {"service_registry": {"auto_discovery": False}, "components": {"feed": {}}}
    with pytest.raises(ConfigurationError, match="nothing is known of the component `feed`"):
        tiebeam_framework(values)
    values["components"] = {"feed": {"class": "feed_plugin:Feed"}}
    assert type(tiebeam_framework(values).get("feed")).__name__ == "Feed"


async def test_a_class_named_by_its_section(tiebeam_framework: Make, site: Path) -> None:
    values = {"components": {"group": {"other": {"class": "feed_plugin:Other"}}}}
    async with tiebeam_framework(values) as framework:
        assert framework.status("other")["state"] == "running"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("feed_plugin:Nowhere", "AttributeError"),
        ("nowhere_at_all.deep:Feed", "ModuleNotFoundError"),
        ("nowhere_at_all.deep:Feed", "install `nowhere_at_all`, run from the folder that holds it"),
        ("feed_plugin:NoComponent", "is no subclass of tiebeam.Component"),
        ("feed_plugin:Feed", "is called `feed`, not `other`"),
        ("feed_plugin", "must be `package.module:Class`"),
    ],
)
def test_a_class_that_cannot_be_had(site: Path, path: str, message: str) -> None:
    file = site / "system.yaml"
    file.write_text(f'components:\n  other:\n    class: "{path}"\n')
    with pytest.raises(ConfigurationError) as caught:
        Framework.from_config(file, environ={})
    assert message in str(caught.value)
    assert re.search(r"system\.yaml:\d: components\.other", str(caught.value))


def test_an_entry_point_that_cannot_be_loaded(site: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot load the component `broken`"):
        Framework({"components": {"broken": {}}})


def test_every_name_without_a_class_is_listed_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Framework({"components": {"one": {}, "two": {}}})
    assert "`one`" in str(caught.value)
    assert "`two`" in str(caught.value)


async def test_what_is_switched_off_is_absent(tiebeam_framework: Make) -> None:
    values = {"components": {"archive": {"enabled": False}}}
    async with tiebeam_framework(values, components=[Store, Archive]) as framework:
        assert list(framework.components) == ["store"]
        assert [c["component_id"] for c in framework.health()["components"]] == ["store"]


def test_depending_on_what_is_switched_off_is_an_error() -> None:
    class Needs(Component):
        depends_on = ["archive"]

    values = {"components": {"archive": {"enabled": False}}}
    with pytest.raises(ConfigurationError, match=r"`needs`.*`archive`.*(disabled|switched off)"):
        Framework(values, components=[Needs, Archive])


async def test_groups_stand_for_their_members(tiebeam_framework: Make) -> None:
    class Chart(Component): ...

    class News(Component): ...

    class Decides(Component):
        depends_on = ["agents"]

    values = {
        "components": {
            "decides": {},
            "agents": {"chart": {"enabled": True}, "news": {"enabled": True}},
        },
        "service_registry": {"initialization_order": ["agents", "decides"]},
    }
    parts = [Decides, Chart, News]
    async with tiebeam_framework(values, components=parts) as framework:
        assert framework.start_report["started"][-1] == "decides"


def test_a_constructor_that_raises_is_named() -> None:
    class Fragile(Component):
        def __init__(self) -> None:
            raise OSError("no such device")

    with pytest.raises(ConfigurationError, match=r"`fragile`.*OSError: no such device") as caught:
        Framework(components=[Fragile])
    assert isinstance(caught.value.__cause__, OSError)


async def test_who_runs_is_found_before_its_checks_have_answered(tiebeam_framework: Make) -> None:
    class Slow(Component):
        capabilities = ["slow"]

        async def health_check(self) -> None:
            await asyncio.sleep(0.5)

    found: list[list[str]] = []

    class Looks(Component):
        @subscribe("system.component.running")
        async def on_running(self, event: Event) -> None:
            if event.payload["component"] == "slow":
                assert isinstance(self.framework, Framework)
                by_capability = self.framework.find(capability="slow")
                services = self.framework.services(capability="slow")
                found.append([*(c.name for c in by_capability), *(s.name for s in services)])

    async with tiebeam_framework(components=[Looks, Slow]):
        pass
    assert found == [["slow", "slow"]]
