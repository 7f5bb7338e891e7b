"""A component's own section: models, schemas, refusals, and what it can ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, PositiveFloat
from tiebeam import Component, ConfigurationError, Framework
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]


class Modelled(Component):
    """Configured by a pydantic model."""

    class Config(BaseModel):
        window: int = Field(20, ge=2, le=500)
        symbol: str = "BTCUSDT"

    async def configure(self, config: Modelled.Config) -> None:
        self.window = config.window


async def test_a_pydantic_model_as_configuration(tiebeam_framework: Make) -> None:
    values = {"components": {"modelled": {"window": 50}}}
    async with tiebeam_framework(values, components=[Modelled]) as framework:
        component = framework.get(Modelled)
        assert component.window == 50
        assert isinstance(component.config, Modelled.Config)
        assert component.config.symbol == "BTCUSDT"


def test_all_violations_of_a_model_at_once_with_their_places(tmp_path: Any) -> None:
    file = tmp_path / "system.yaml"
    file.write_text("components:\n  modelled:\n    window: 1\n    symbol: 7\n    windoe: 3\n")
    with pytest.raises(ConfigurationError) as caught:
        Framework.from_config(file, components=[Modelled], environ={})
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert any("system.yaml:3: components.modelled.window: " in line for line in lines)
    assert any("system.yaml:4: components.modelled.symbol: " in line for line in lines)
    assert any("system.yaml:5: " in line and "did you mean `window`?" in line for line in lines)


async def test_a_json_schema_as_configuration(tiebeam_framework: Make) -> None:
    class Schemed(Component):
        config_schema = {
            "type": "object",
            "required": ["rate"],
            "properties": {
                "rate": {"type": "number", "minimum": 0},
                "pair": {"pattern": "^[A-Z]+$"},
            },
        }

        async def configure(self, config: dict[str, Any]) -> None:
            self.rate = config["rate"]

    good = {"components": {"schemed": {"rate": 1.5}}}
    async with tiebeam_framework(good, components=[Schemed]) as framework:
        assert framework.get(Schemed).rate == 1.5
    bad = {"components": {"schemed": {"rate": -1, "pair": "x"}}}
    with pytest.raises(ConfigurationError) as caught:
        tiebeam_framework(bad, components=[Schemed])
    assert "components.schemed.rate" in str(caught.value)
    assert "components.schemed.pair" in str(caught.value)
    with pytest.raises(ConfigurationError, match="rate"):
        tiebeam_framework(components=[Schemed])


async def test_a_dataclass_as_configuration(tiebeam_framework: Make) -> None:
    class Plain(Component):
        @dataclass
        class Config:
            window: int = 20

    values = {"components": {"plain": {"window": 9}}}
    async with tiebeam_framework(values, components=[Plain]) as framework:
        assert framework.get(Plain).config == Plain.Config(9)
    with pytest.raises(ConfigurationError, match="unknown key `windw`, did you mean `window`"):
        tiebeam_framework({"components": {"plain": {"windw": 9}}}, components=[Plain])


@dataclass
class Server:
    """A section inside of a component's."""

    host: str
    port: int = 6379
    password: str = ""


def test_the_fields_of_a_dataclass_are_checked_by_their_annotations(tmp_path: Path) -> None:
    class Feed(Component):
        @dataclass
        class Config:
            server: Server
            pairs: list[str] = field(default_factory=list)
            mode: Literal["fast", "safe"] = "safe"

    file = tmp_path / "system.yaml"
    file.write_text(
        "components:\n  feed:\n    server:\n      port: high\n      password: 4711\n"
        "    pairs: [BTC, 7]\n    mode: slow\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        Framework.from_config(file, components=[Feed], environ={})
    assert [line.rpartition("system.yaml:")[2] for line in str(caught.value).splitlines()] == [
        "3: components.feed.server.host: is missing",
        "4: components.feed.server.port: must be an integer, got str 'high'",
        "5: components.feed.server.password: must be a string",
        "6: components.feed.pairs.1: must be a string, got int 7",
        "7: components.feed.mode: must be 'fast' or 'safe', got str 'slow'",
    ]
    file.write_text("components:\n  feed:\n    server: {host: here}\n    pairs: [BTC]\n")
    feed = Feed()
    Framework.from_config(file, components=[feed], environ={})
    assert "4711" not in str(caught.value)


async def test_a_dataclass_gets_instances_of_its_fields(tiebeam_framework: Make) -> None:
    class Feed(Component):
        @dataclass
        class Config:
            server: Server
            rate: float = 1.0

    values = {"components": {"feed": {"server": {"host": "here"}, "rate": 2}}}
    async with tiebeam_framework(values, components=[Feed]) as framework:
        config = framework.get(Feed).config
        assert config == Feed.Config(Server("here"), 2.0)
        assert isinstance(config.rate, float)


async def test_a_dataclass_of_what_no_file_holds_is_made_as_it_is(tiebeam_framework: Make) -> None:
    class Feed(Component):
        @dataclass
        class Config:
            codec: complex
            window: int = 3

    values = {"components": {"feed": {"codec": 5}}}
    async with tiebeam_framework(values, components=[Feed]) as framework:
        assert framework.get(Feed).config == Feed.Config(5)


def test_a_violation_names_the_nearest_place_that_exists(tmp_path: Path) -> None:
    class Feed(Component):
        class Config(BaseModel):
            url: str
            speed: PositiveFloat | Literal["max"] = "max"

    file = tmp_path / "system.yaml"
    file.write_text("components:\n  feed:\n    enabled: true\n    speed: -3\n")
    with pytest.raises(ConfigurationError) as caught:
        Framework.from_config(file, components=[Feed], environ={})
    missing, speed = str(caught.value).splitlines()
    assert missing.endswith("system.yaml:2: components.feed.url: Field required")
    # One line for the whole union, and nothing of its branches in the path.
    where = "system.yaml:4: components.feed.speed: "
    assert f"{where}Input should be greater than 0, or: " in speed


@pytest.mark.parametrize("error", [ConfigurationError("odd windows only"), ValueError("odd")])
def test_validate_configuration_vetoes_at_the_start(error: Exception) -> None:
    class Strict(Modelled):
        name = "strict"

        def validate_configuration(self, config: Any) -> None:
            if config.window % 2 == 0:
                raise error

    with pytest.raises(ConfigurationError, match=r"components\.strict: .*odd"):
        Framework(components=[Strict])
    Framework({"components": {"strict": {"window": 21}}}, components=[Strict])


def test_an_async_validate_configuration_is_refused() -> None:
    class Wrong(Component):
        async def validate_configuration(self, config: Any) -> None: ...  # type: ignore[override]

    with pytest.raises(TypeError, match="must be `def`"):
        Framework(components=[Wrong])


async def test_get_configuration(tiebeam_framework: Make) -> None:
    class Asks(Component):
        pass

    values = {"system": {"name": "demo"}, "components": {"asks": {"deep": {"list": [1, 2]}}}}
    framework = tiebeam_framework(values, components=[Asks])
    asks = framework.get(Asks)
    assert asks.get_configuration("system.name") == "demo"
    assert asks.get_configuration("components.asks.deep.list") == [1, 2]
    assert asks.get_configuration("nowhere.at.all", default=3) == 3
    assert asks.get_configuration("nowhere.at.all", None) is None
    with pytest.raises(ConfigurationError, match=r"`nowhere\.at\.all`") as caught:
        asks.get_configuration("nowhere.at.all")
    assert caught.value.context["path"] == "nowhere.at.all"
