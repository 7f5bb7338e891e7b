"""Checks that change their mind again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiebeam import Component, check
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]


class Link(Component):
    """Says what it is told to, or the other thing each time."""

    good = True
    flickers = False

    @check(kind="dependency", failure_threshold=1)
    async def peer(self) -> bool:
        if self.flickers:
            self.good = not self.good
        return self.good


async def test_what_flickers_is_held_at_a_warning(tiebeam_framework: Make) -> None:
    link = Link()
    async with tiebeam_framework(components=[link]) as framework:

        def told() -> list[Any]:
            events = framework.published("system.health.flapping")
            return [event.payload["flapping"] for event in events]

        def health() -> str:
            return str(framework.health("link")["health"])

        await framework.advance(10)
        assert health() == "pass"
        link.flickers = True
        seen = []
        for _ in range(12):
            await framework.advance(10)
            seen.append(health())
        assert seen == ["fail", "pass", "fail", "pass", *["warn"] * 8]
        assert told() == [True]
        payload = framework.published("system.health.flapping")[0].payload
        assert (payload["component"], payload["check"]) == ("link", "peer")
        changes = len(framework.published("system.health.changed"))
        # What each run said is kept all the same.
        results = [record["result"] for record in framework.health_history("link")["peer"][-4:]]
        assert set(results) == {"pass", "fail"}
        # Once it has made up its mind, it is believed, after a while.
        link.flickers, link.good = False, False
        await framework.advance(50)
        assert health() == "warn"
        await framework.advance(150)
        assert (health(), told()) == ("fail", [True, False])
        assert len(framework.published("system.health.changed")) == changes + 1


async def test_a_few_changes_are_nothing_special(tiebeam_framework: Make) -> None:
    link = Link()
    async with tiebeam_framework(components=[link]) as framework:
        for good in (True, False, True, False, True):
            link.good = good
            await framework.advance(40)
            assert framework.health("link")["health"] == ("pass" if good else "fail")
        assert framework.published("system.health.flapping") == []
