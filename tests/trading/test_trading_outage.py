"""A dependency is away for a while during a replay of recorded trades: nothing is lost, and the
system says what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiebeam import Component, Event, subscribe
from tiebeam.testing import TestFramework

from examples.trading.domain.trade import Trade
from examples.trading.domain.trades_csv import read_trades

AWAY, BACK = 60.0, 110.0
"""Seconds into the replay, which takes 207."""


class World:
    """What is outside of the system: the ledger's server, and what it was given."""

    def __init__(self) -> None:
        self.away = False
        self.kept: list[int] = []
        self.asked = 0

    def ask(self) -> None:
        self.asked += 1
        if self.away:
            raise ConnectionError("the ledger does not answer")


class Feed(Component):
    """Replays trades at the pace at which they were made, and has then done its work."""

    restart = "transient"
    after = ["settlement"]

    def __init__(self, trades: list[Trade]) -> None:
        self.trades = trades

    async def start(self) -> None:
        self.task = asyncio.create_task(self.replay())

    async def stop(self) -> None:
        self.task.cancel()

    async def replay(self) -> None:
        before = self.trades[0].event_time
        for trade in self.trades:
            await asyncio.sleep((trade.event_time - before) / 1000)
            before = trade.event_time
            await self.publish_event("market_data.trade", {"id": trade.trade_id}, key="ETHUSDT")
        self.finish_component("all trades are replayed")


class Ledger(Component):
    """The connection to the ledger's server."""

    supervision = {"intensity": 1, "cooldown": 20}

    def __init__(self, world: World) -> None:
        self.world = world

    async def start(self) -> None:
        self.world.ask()

    async def health_check(self) -> None:
        self.world.ask()


class Settlement(Component):
    """Writes each trade down; goes on with what it has while the ledger is away."""

    depends_on = ["ledger"]
    on_loss = {"ledger": "degrade"}
    recover_after = 5

    def __init__(self, world: World) -> None:
        self.world = world
        self.attempts: list[float] = []

    @subscribe(
        "market_data.trade",
        key="payload.id",
        retry={"max_attempts": 100, "initial_delay": 0.05, "max_delay": 1.0},
    )
    async def settle(self, event: Event) -> None:
        self.attempts.append(asyncio.get_running_loop().time())
        self.world.ask()
        self.world.kept.append(event.payload["id"])


class Reports(Component):
    """Cannot work without the ledger."""

    depends_on = ["ledger"]


async def test_an_outage_during_a_replay_loses_nothing_and_is_explained(
    recorded: Callable[[str], Path], tiebeam_framework: Callable[..., TestFramework]
) -> None:
    trades = list(read_trades(recorded("eth_usdt_trades.csv")))
    world = World()
    settlement, feed = Settlement(world), Feed(trades)
    values = {"health": {"check_interval": 5, "failure_threshold": 2}}
    parts = [feed, Ledger(world), settlement, Reports()]
    async with tiebeam_framework(values, components=parts) as framework:
        await framework.advance(AWAY)
        before = len(world.kept)
        assert before > 0
        assert {name: part.state for name, part in framework.components.items()} == dict.fromkeys(
            ("feed", "ledger", "settlement", "reports"), "running"
        )
        world.away = True
        await framework.advance(BACK - AWAY)

        # The breaker is open, and consumption pauses: but for its probes, nothing is tried.
        assert len(world.kept) == before
        last = [at for at in settlement.attempts if at > settlement.attempts[-1] - 25]
        assert len(last) == 1
        assert framework.health("settlement")["details"]["circuit_breakers"] == {
            "settlement.settle": "open"
        }
        assert settlement.state == "degraded"
        assert settlement.missing == {"ledger"}
        assert framework.status("ledger")["given_up"]
        assert framework.status("reports")["blocked_by"] == "ledger"
        assert feed.state == "running"

        story = str(framework.why("settlement"))
        for part in (
            "settlement is degraded",
            "circuit breaker of settlement.settle is open",
            "ConnectionError: the ledger does not answer",
            "without ledger: failed",
            "check health_check did not pass",
        ):
            assert part in story, story
        assert "blocked by ledger" in str(framework.why("reports"))

        world.away = False
        await framework.advance(300)

        # Nothing is lost and nothing comes twice.
        assert sorted(world.kept) == sorted(trade.trade_id for trade in trades)
        assert framework.bus.dead_letters.list() == []
        assert framework.bus.books().balanced
        assert (settlement.state, feed.state) == ("running", "stopped")
        assert framework.status("feed")["cause"].startswith("finished")

        # Recovery is in order: the ledger, who waited for it, and last who had to be sure.
        told = framework.published("system.component.running")
        back = [event.payload["component"] for event in told][4:]
        first = {name: back.index(name) for name in ("ledger", "reports", "settlement")}
        assert first["ledger"] < first["reports"]
        assert back.index("settlement") > back.index("ledger")
        why: dict[str, Any] = framework.why("settlement").as_dict()
        assert why["state"] == "running"
        assert why["came_through"]
        assert "came through" in str(framework.why("settlement"))
