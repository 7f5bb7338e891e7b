"""The decision engine: joins what all agents say about a candle and decides, candle by candle."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, Field
from tiebeam import Component, Event, subscribe

from ..agent import Reporting
from ..domain.join import SeqJoin
from ..domain.policy import ORDERS, Decision, Policy, Rules

Row = dict[str, dict[str, Any]]


class DecisionEngine(Reporting, Component):
    """Publishes `analysis.signal` and `trading.signal` per candle, sends `trading.order`.

    A candle is decided when its own event, one assessment of every agent in `weights` and the
    user's watermark are there, and all candles before it are decided. User commands take effect
    at the candle they are numbered with; those without a number at the next decision.
    """

    name = "decision_engine"
    depends_on = ["impact_factor", "analysis_agents", "authentication"]

    class Config(BaseModel):
        weights: dict[str, float] = Field(
            default={
                "technical_analysis": 0.6,
                "pattern_recognition": 0.1,
                "sentiment_analysis": 0.2,
                "impact_factor": 0.1,
            },
            description="agents to wait for, and what their scores count",
        )
        enter: float = Field(0.3, ge=-1, le=1)
        exit: float = Field(-0.1, ge=-1, le=1)
        exposure: float = Field(0.9, gt=0, le=1)
        min_hold: int = Field(15, ge=0)
        smoothing: int = Field(5, ge=1)
        authorize_timeout: float = Field(5.0, gt=0, description="seconds")

    settings: Config | None = None

    async def configure(self, config: Config) -> None:
        if config != self.settings:  # a restart keeps the stream's place
            rules = Rules(**config.model_dump(exclude={"authorize_timeout"}))
            if self.settings is None:
                self.join: SeqJoin[dict[str, Any]] = SeqJoin(["candle", "user", *rules.weights])
                self.lock = asyncio.Lock()
                self.policy, self.decided = Policy(rules), (-1, None)
                self.unnumbered: list[dict[str, Any]] = []
                self.last_seq: int | None = None
                self.accepted = self.rejected = 0
            elif set(rules.weights) != set(self.policy.rules.weights):
                raise ValueError("the agents in `weights` can only change while stopped")
            self.policy.rules = rules
            self.settings = config

    async def health_check(self) -> dict[str, Any]:
        return {"next_seq": self.join.next_seq, "waiting_for": self.join.missing()}

    @subscribe("market_data.*", where="event_type != 'market_data.price_update'")
    async def on_market(self, event: Event) -> None:
        if event.event_type == "market_data.candle_closed":
            await self.add("candle", event.payload)
        elif event.event_type == "market_data.end_of_stream":
            self.handled += 1
            self.last_seq = event.payload["last_seq"]
            await self.advance()

    @subscribe("analysis.*", where="event_type != 'analysis.signal'")
    async def on_assessment(self, event: Event) -> None:
        agent = event.payload.get("agent")
        if event.event_type != "analysis.report" and agent in self.policy.rules.weights:
            await self.add(agent, event.payload)

    @subscribe("user.command")
    async def on_command(self, event: Event) -> None:
        if "seq" in event.payload:
            await self.add(f"command {event.payload['number']}", event.payload)
        else:
            self.handled += 1
            self.unnumbered.append(event.payload)

    @subscribe("user.watermark")
    async def on_watermark(self, event: Event) -> None:
        commands = [f"command {n}" for n in range(event.payload["commands"])]
        self.join.expect(event.payload["seq"], commands)
        await self.add("user", event.payload)

    async def add(self, source: str, payload: dict[str, Any]) -> None:
        self.handled += self.join.add(payload["seq"], source, payload)
        await self.advance()

    async def advance(self) -> None:
        async with self.lock:
            for seq, row in self.join.ready():
                await self.settle(seq, row)
            if self.last_seq is not None and self.join.next_seq > self.last_seq:
                end = {"last_seq": self.last_seq, "notifications": self.accepted + self.rejected}
                end |= {"accepted": self.accepted, "rejected": self.rejected}
                self.last_seq = None
                await self.emit("trading.signals_ended", end)
                await self.report("trading.report")

    async def settle(self, seq: int, row: Row) -> None:
        decision = self.decided[1]
        if self.decided[0] != seq or decision is None:
            await self.obey(row)
            decision = self.policy.decide(
                {agent: row[agent]["score"] for agent in self.policy.rules.weights},
                risk_scale=row.get("impact_factor", {}).get("risk_scale", 1.0),
            )
            self.decided = (seq, decision)  # if publishing fails, the decision still stands
        await self.publish(seq, row, decision)

    async def publish(self, seq: int, row: Row, decision: Decision) -> None:
        candle = row["candle"]
        about = {"seq": seq, "event_time": candle["close_time"], "symbol": candle["symbol"]}
        scores = {agent: row[agent]["score"] for agent in self.policy.rules.weights}
        score = {"score": decision.score, "ready": decision.score is not None}
        await self.emit("analysis.signal", {**about, **score, "scores": scores})
        signal = {"action": decision.action, "target": decision.target, "order": decision.changed}
        await self.emit("trading.signal", {**about, **signal, "score": decision.score})
        if decision.changed:
            await self.bus.send("trading.order", {**about, "target": decision.target})
            self.published += 1

    async def obey(self, row: Row) -> None:
        numbered = [row[f"command {n}"] for n in range(row["user"]["commands"])]
        commands, self.unnumbered = numbered + self.unnumbered, []
        for given in commands:
            await self.obey_one(given, row["candle"]["close_time"])

    async def obey_one(self, given: dict[str, Any], now: int) -> None:
        assert self.settings is not None
        at, action = given.get("event_time", now), given.get("action")
        question = {"token": given.get("token", ""), "at": at}
        timeout = self.settings.authorize_timeout
        answer = await self.bus.request("user.authorize", question, timeout=timeout)
        level = "info" if answer["ok"] and action in ORDERS else "warning"
        if level == "info":
            self.accepted += 1
            self.policy.command(action)
            text = f"{action} by {answer['user']} accepted; target is {self.policy.target:g}"
        else:
            self.rejected += 1
            reason = answer.get("reason") or f"unknown action; use one of {', '.join(ORDERS)}"
            text = f"{action} rejected: {reason}"
        about = {"number": self.accepted + self.rejected, "event_time": at}
        await self.emit("user.notification", {**about, "level": level, "text": text})
