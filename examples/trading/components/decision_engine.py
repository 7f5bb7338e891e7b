"""The decision engine: joins what all agents say about a candle and decides, candle by candle."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, Field
from tiebeam import Event, subscribe

from ..agent import Agent
from ..domain.join import SeqJoin
from ..domain.policy import ORDERS, WAIT, Decision, Policy, Rules

Row = dict[str, dict[str, Any]]


class DecisionEngine(Agent):
    """Publishes `analysis.signal` and `trading.signal` per candle, sends `trading.order`.

    A candle is decided when its own event, one assessment of every agent in `weights` and the
    user's watermark are there, and all candles before it are decided. The scripted user's
    commands take effect at the candle they are numbered with, all others at the next decision;
    every one needs a token that `authentication` vouches for.
    """

    name = "decision_engine"
    depends_on = ["impact_factor", "analysis_agents", "authentication"]
    report_as = "trading.report"

    class Config(BaseModel):
        weights: dict[str, float] = Field(
            min_length=1, description="agents to wait for, and what their scores count"
        )
        enter: float = Field(0.3, ge=-1, le=1)
        exit: float = Field(-0.1, ge=-1, le=1)
        exposure: float = Field(0.9, gt=0, le=1)
        min_hold: int = Field(15, ge=0)
        smoothing: int = Field(5, ge=1)
        authorize_timeout: float = Field(5.0, gt=0, description="seconds")

    async def initialize(self) -> None:
        self.settings: DecisionEngine.Config | None = None

    async def configure(self, config: Config) -> None:
        if config != self.settings:  # a restart keeps the stream's place
            rules = Rules(**config.model_dump(exclude={"authorize_timeout"}))
            if self.settings is None:
                self.join: SeqJoin[dict[str, Any]] = SeqJoin(["candle", "user", *rules.weights])
                self.lock = asyncio.Lock()
                self.policy = Policy(rules)
                self.decided: tuple[int, Decision] = (-1, WAIT)
                self.pending: list[dict[str, Any]] = []
                self.last_seq: int | None = None
                self.obeying, self.accepted, self.rejected = -1, 0, 0
            elif set(rules.weights) != set(self.policy.rules.weights):
                raise ValueError("the agents in `weights` can only change while stopped")
            self.policy.rules, self.patience = rules, config.authorize_timeout
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
        agent = str(event.payload.get("agent"))
        if event.event_type != "analysis.report" and agent in self.policy.rules.weights:
            await self.add(agent, event.payload)

    @subscribe("user.command")
    async def on_command(self, event: Event) -> None:
        given = event.payload if isinstance(event.payload, dict) else {}
        if event.producer == "authentication" and "number" in given:  # the bus stamps producers
            await self.add(f"command {given['number']}", given)
        else:
            self.handled += 1
            self.pending.append(given)

    @subscribe("user.watermark")
    async def on_watermark(self, event: Event) -> None:
        seq, count = event.payload["seq"], event.payload["commands"]
        self.join.expect(seq, [f"command {n}" for n in range(count)])
        await self.add("user", event.payload)

    async def add(self, source: str, payload: dict[str, Any]) -> None:
        self.handled += self.join.add(payload["seq"], source, payload)
        await self.advance()

    async def advance(self) -> None:
        async with self.lock:
            for seq, row in self.join.ready():
                await self.settle(seq, row)
            if self.last_seq is not None and self.join.next_seq > self.last_seq:
                last, self.last_seq = self.last_seq, None
                counts = {"accepted": self.accepted, "rejected": self.rejected}
                counts["notifications"] = self.accepted + self.rejected
                await self.emit("trading.signals_ended", {"last_seq": last, **counts})
                await self.report()

    async def settle(self, seq: int, row: Row) -> None:
        if self.decided[0] != seq:
            await self.obey(seq, row)
            risk_scale = row.get("impact_factor", {}).get("risk_scale", 1.0)
            decision = self.policy.decide(self.scores(row), risk_scale=risk_scale)
            self.decided = (seq, decision)  # if publishing fails, the decision still stands
        await self.publish(seq, row, self.decided[1])

    async def publish(self, seq: int, row: Row, decision: Decision) -> None:
        candle, score = row["candle"], decision.score
        about = {"seq": seq, "event_time": candle["close_time"], "symbol": candle["symbol"]}
        blend = {"score": score, "ready": score is not None, "scores": self.scores(row)}
        await self.emit("analysis.signal", about | blend)
        signal = {"action": decision.action, "target": decision.target, "order": decision.changed}
        await self.emit("trading.signal", {**about, **signal, "score": score})
        if decision.changed:
            await self.bus.send("trading.order", {**about, "target": decision.target})
            self.published += 1

    def scores(self, row: Row) -> dict[str, float | None]:
        return {agent: row[agent]["score"] for agent in self.policy.rules.weights}

    async def obey(self, seq: int, row: Row) -> None:
        if self.obeying != seq:
            self.pending += [row[f"command {n}"] for n in range(row["user"]["commands"])]
            self.obeying = seq
        while self.pending:  # one that cannot be judged stays first in line for the retry
            await self.judge(self.pending[0], row["candle"]["close_time"])
            del self.pending[0]

    async def judge(self, given: dict[str, Any], now: int) -> None:
        action = next((order for order in ORDERS if order == given.get("action")), None)
        question = {"token": given.get("token", ""), "at": now}
        answer = await self.bus.request("user.authorize", question, timeout=self.patience)
        accepted = answer["ok"] and action is not None
        reason = answer.get("reason") or f"unknown; use one of {', '.join(ORDERS)}"
        text = f"{action or 'command'} rejected: {reason}"
        if accepted:
            text = f"{action} by {answer['user']} accepted at a target of {self.policy.target:g}"
        about = {"number": self.accepted + self.rejected + 1, "event_time": now, "text": text}
        await self.emit("user.notification", about | {"level": "info" if accepted else "warning"})
        self.accepted, self.rejected = self.accepted + accepted, self.rejected + (not accepted)
        if accepted and action is not None:
            self.policy.command(action)
