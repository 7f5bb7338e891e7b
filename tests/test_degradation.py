"""Doing without a dependency: declared, entered at once, left with hysteresis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiebeam import Component, Event, respond
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]


class Exchange(Component):
    """Comes and goes."""

    async def start(self) -> None:
        pass


class Trader(Component):
    """Goes on with old prices while the exchange is away."""

    depends_on = ["exchange"]
    on_loss = {"exchange": "degrade"}

    def __init__(self) -> None:
        self.diary: list[str] = []

    async def dependency_lost(self, name: str) -> None:
        self.diary.append(f"without {name}")

    def dependency_regained(self, name: str) -> None:
        self.diary.append(f"with {name}")

    @respond("trader.mode")
    async def mode(self, _event: Event) -> Any:
        return {"degraded": self.degraded, "missing": sorted(self.missing)}


async def test_it_goes_on_degraded_and_recovers(tiebeam_framework: Make) -> None:
    trader = Trader()
    async with tiebeam_framework(components=[trader, Exchange]) as framework:
        assert await framework.bus.request("trader.mode") == {"degraded": False, "missing": []}
        await framework.stop_component("exchange")
        assert trader.state == "degraded"
        mode = await framework.bus.request("trader.mode")
        assert mode == {"degraded": True, "missing": ["exchange"]}
        *_, change = framework.published("system.component.degraded")
        assert change.payload["dependency"] == "exchange"
        (lost,) = framework.published("system.dependency.lost")
        assert (lost.payload["component"], lost.payload["dependency"]) == ("trader", "exchange")
        await framework.start_component("exchange")
        await framework.settle()
        assert trader.state == "running"
        assert trader.missing == frozenset()
        assert trader.diary == ["without exchange", "with exchange"]
        assert len(framework.published("system.dependency.regained")) == 1


async def test_it_is_left_when_the_dependency_has_been_back_for_long_enough(
    tiebeam_framework: Make,
) -> None:
    class Careful(Trader):
        name = "careful"
        recover_after = "10s"
        recover_passes = 3

    careful = Careful()
    async with tiebeam_framework(components=[careful, Exchange]) as framework:
        await framework.stop_component("exchange")
        await framework.start_component("exchange")
        await framework.advance(9)
        assert careful.state == "degraded"
        # Away again: what had passed counts no more.
        await framework.stop_component("exchange")
        await framework.start_component("exchange")
        await framework.advance(9)
        assert careful.state == "degraded"
        await framework.advance(5)
        assert careful.state == "degraded"  # long enough, and too few checks
        await framework.advance(20)
        assert careful.state == "running"
        assert careful.diary == ["without exchange", "with exchange"]  # entered and left once


async def test_a_file_has_the_last_word(tiebeam_framework: Make) -> None:
    trader = Trader()
    values = {"supervision": {"components": {"trader": {"on_loss": {"exchange": "ignore"}}}}}
    async with tiebeam_framework(values, components=[trader, Exchange]) as framework:
        await framework.stop_component("exchange")
        await framework.advance(60)
        assert trader.state == "running"
        assert trader.diary == []


async def test_an_optional_dependency_may_be_one_to_stop_without(tiebeam_framework: Make) -> None:
    class Strict(Component):
        wants = ["exchange", "nowhere"]
        on_loss = {"exchange": "stop", "nowhere": "ignore"}

    strict = Strict()
    async with tiebeam_framework(components=[strict, Exchange]) as framework:
        assert strict.state == "running"
        await framework.stop_component("exchange")
        assert strict.state == "stopped"
        assert framework.status("strict")["blocked_by"] == "exchange"
        await framework.start_component("exchange")
        assert strict.state == "running"


async def test_the_first_start_needs_every_hard_dependency(tiebeam_framework: Make) -> None:
    class Broken(Component):
        name = "exchange"

        async def start(self) -> None:
            raise ConnectionError("refused")

    trader = Trader()
    async with tiebeam_framework(components=[trader, Broken]) as framework:
        assert trader.state == "configured"
        assert framework.status("trader")["blocked_by"] == "exchange"


async def test_it_starts_again_without_what_it_can_do_without(tiebeam_framework: Make) -> None:
    trader = Trader()
    async with tiebeam_framework(components=[trader, Exchange]) as framework:
        await framework.stop_component("exchange")
        trader.fail_component("crash")
        await framework.settle()
        assert trader.state == "degraded"
        assert trader.missing == {"exchange"}
