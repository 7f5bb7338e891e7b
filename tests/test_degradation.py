"""Doing without a dependency: declared, entered at once, left with hysteresis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tiebeam import Component, Event, check, respond
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


async def test_it_hears_of_a_return_that_came_while_it_was_stopped(
    tiebeam_framework: Make,
) -> None:
    trader = Trader()
    async with tiebeam_framework(components=[trader, Exchange]) as framework:
        await framework.stop_component("exchange")
        await framework.stop_component("trader")
        await framework.start_component("exchange")
        await framework.start_component("trader")
        await framework.settle()
        assert trader.diary == ["without exchange", "with exchange"]
        assert trader.missing == frozenset()
        assert len(framework.published("system.dependency.regained")) == 1
        await framework.stop_component("exchange")
        await framework.settle()
        assert trader.diary[2:] == ["without exchange"]


async def test_a_new_life_hears_again_of_what_is_still_away(tiebeam_framework: Make) -> None:
    trader = Trader()
    async with tiebeam_framework(components=[trader, Exchange]) as framework:
        await framework.stop_component("exchange")
        await framework.restart_component("trader")
        await framework.settle()
        assert trader.diary == ["without exchange"] * 2
        assert len(framework.published("system.dependency.lost")) == 1, "and nobody else does"
        await framework.start_component("exchange")
        await framework.settle()
        assert trader.diary == ["without exchange"] * 2 + ["with exchange"]


async def test_passes_are_those_of_all_checks_together(tiebeam_framework: Make) -> None:
    class Checked(Exchange):
        name = "exchange"
        sick = False

        @check(period=1)
        async def often(self) -> None:
            pass

        @check(period=1, failure_threshold=100)
        async def depth(self) -> None:
            if self.sick:
                raise ConnectionError("no depth")

    class Careful(Trader):
        name = "careful"
        recover_passes = 3

    careful, exchange = Careful(), Checked()
    async with tiebeam_framework(components=[careful, exchange]) as framework:
        await framework.stop_component("exchange")
        await framework.start_component("exchange")
        await framework.advance(9)
        assert careful.state == "degraded", "two checks each second are not a round each"
        exchange.sick = True
        await framework.advance(60)
        assert careful.state == "degraded", "what fails does not pass, be it borne for a while"
        exchange.sick = False
        await framework.advance(8)
        assert careful.state == "degraded"
        await framework.advance(30)
        assert careful.state == "running"


@pytest.mark.parametrize("depends_on", ["exchange", "venues"])
async def test_what_is_done_without_a_dependency_may_be_said_of_its_group(
    tiebeam_framework: Make, depends_on: str
) -> None:
    trader = type(
        "Trader", (Trader,), {"depends_on": [depends_on], "on_loss": {"venues": "degrade"}}
    )()
    values = {"components": {"venues": {"exchange": {"enabled": True}}}}
    async with tiebeam_framework(values, components=[trader, Exchange]) as framework:
        await framework.stop_component("exchange")
        assert trader.state == "degraded"
        assert trader.missing == {"exchange"}
        await framework.start_component("exchange")
        await framework.settle()
        assert trader.state == "running"


async def test_of_a_group_one_member_may_be_said_otherwise(tiebeam_framework: Make) -> None:
    values = {
        "components": {"venues": {"exchange": {"enabled": True}}},
        "supervision": {"components": {"trader": {"on_loss": {"exchange": "ignore"}}}},
    }
    trader = type("Trader", (Trader,), {"depends_on": ["venues"], "on_loss": {"venues": "stop"}})()
    async with tiebeam_framework(values, components=[trader, Exchange]) as framework:
        await framework.stop_component("exchange")
        assert trader.state == "running"
