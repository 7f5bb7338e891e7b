"""Authentication: issues and verifies tokens, and plays a scripted user."""

from __future__ import annotations

import hmac
from typing import Any

from pydantic import BaseModel, Field, SecretStr
from tiebeam import Event, respond, subscribe

from ..agent import Agent
from ..domain import tokens
from ..domain.policy import Order


class ScriptedCommand(BaseModel):
    """A command that the scripted user gives at a fixed event time."""

    at: float = Field(ge=0, description="minutes of event time after the first candle's open")
    action: Order
    valid: bool = Field(True, description="whether its token is genuine, or forged")


class Account(BaseModel):
    """What is known of a user; under `password`, the framework shows it to nobody."""

    password: SecretStr


class Authentication(Agent):
    """Answers `user.login` and `user.authorize`; publishes `user.command` and `user.watermark`.

    `user.watermark` says that all scripted commands up to a candle's close are published, so that
    the decision engine can wait for them as it waits for the agents.
    """

    name = "authentication"
    depends_on = ["data_collection"]
    report_as = "user.report"

    class Config(BaseModel):
        token_secret: SecretStr = Field(min_length=8)
        token_lifetime: float = Field(3600.0, gt=0, description="seconds of event time")
        users: dict[str, Account] = Field(default_factory=dict)
        script: list[ScriptedCommand] = Field(default_factory=list)

    async def initialize(self) -> None:
        self.seq, self.now = -1, 0
        self.opened: int | None = None
        self.given: list[dict[str, Any]] = []
        self.next_command = 0

    async def configure(self, config: Config) -> None:
        self.settings = config
        self.script = sorted(config.script, key=lambda entry: entry.at)

    async def health_check(self) -> dict[str, Any]:
        return {"users": len(self.settings.users), "last_seq": self.seq}

    @respond("user.login")
    async def on_login(self, event: Event) -> dict[str, Any]:
        self.handled += 1
        user, password = str(event.payload.get("user")), str(event.payload.get("password"))
        account = self.settings.users.get(user)
        expected = account.password.get_secret_value() if account is not None else ""
        if not hmac.compare_digest(expected.encode(), password.encode()) or not expected:
            return {"ok": False, "reason": "unknown user or wrong password"}
        return {"ok": True, "user": user, "token": self.issue(user)}

    @respond("user.authorize")
    async def on_authorize(self, event: Event) -> dict[str, Any]:
        self.handled += 1
        secret = self.settings.token_secret.get_secret_value()
        try:
            claims = tokens.verify(str(event.payload["token"]), secret, now=event.payload["at"])
        except tokens.TokenError as error:
            return {"ok": False, "reason": str(error)}
        return {"ok": True, "user": claims.subject, "expires_at": claims.expires_at}

    @subscribe("market_data.candle_closed", key="payload.symbol")
    async def on_candle(self, event: Event) -> None:
        candle = event.payload
        if candle["seq"] < self.seq:
            return
        if candle["seq"] > self.seq:  # else a redelivery: the same again
            self.handled += 1
            self.seq, self.now = candle["seq"], candle["close_time"]
            self.opened = candle["open_time"] if self.opened is None else self.opened
            self.given = self.due(candle["close_time"])
        for given in self.given:
            await self.emit("user.command", given)
        watermark = {"seq": self.seq, "event_time": self.now, "commands": len(self.given)}
        await self.emit("user.watermark", watermark)

    @subscribe("trading.session_closed")
    async def on_closed(self, event: Event) -> None:
        self.handled += 1
        await self.report()

    def due(self, until: int) -> list[dict[str, Any]]:
        """The scripted commands before `until` that were not given yet, with their tokens."""
        commands: list[dict[str, Any]] = []
        while self.next_command < len(self.script):
            entry = self.script[self.next_command]
            at = (self.opened or 0) + round(entry.at * 60_000)
            if at >= until:
                break
            self.next_command += 1
            token = self.issue("operator", at) if entry.valid else forge(at)
            about = {"seq": self.seq, "number": len(commands), "event_time": at}
            commands.append({**about, "action": entry.action, "token": token})
        return commands

    def issue(self, user: str, at: int | None = None) -> str:
        secret = self.settings.token_secret.get_secret_value()
        lifetime_ms = max(1, round(self.settings.token_lifetime * 1000))
        now = self.now if at is None else at
        return tokens.issue(user, secret, now=now, lifetime_ms=lifetime_ms)


def forge(at: int) -> str:
    """A token that somebody without the secret might make up."""
    return tokens.issue("intruder", "a guess", now=at, lifetime_ms=60_000)
