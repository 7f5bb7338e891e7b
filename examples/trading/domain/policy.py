"""The decision: many assessments of one candle in, one target exposure out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Action = Literal["warm_up", "hold", "enter", "exit", "flatten", "paused"]
Order = Literal["pause", "resume", "flatten", "status"]
ORDERS: tuple[Order, ...] = ("pause", "resume", "flatten", "status")


@dataclass(frozen=True, slots=True)
class Rules:
    """When to be in the market. Scores run from -1 to 1, exposures from 0 to 1 of the equity."""

    weights: Mapping[str, float]
    """Weight of each agent's score; at least one positive."""
    enter: float = 0.3
    exit: float = -0.1
    exposure: float = 0.9
    min_hold: int = 15
    """Candles that must pass between two changes of the exposure."""
    smoothing: int = 5
    """Span, in candles, of the exponential mean of the blended score."""

    def __post_init__(self) -> None:
        if not self.exit < self.enter:
            raise ValueError(f"the exit score {self.exit} must be below the entry {self.enter}")
        if sum(self.weights.values()) <= 0 or any(w < 0 for w in self.weights.values()):
            raise ValueError("the weights must be 0 or more, and one of them positive")


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do at a candle's close."""

    action: Action
    score: float | None
    target: float
    """Part of the equity to have in the position."""
    changed: bool
    """Whether the target is a new one, so that an order is due."""


WAIT = Decision("warm_up", None, 0.0, False)


class Policy:
    """Enters above one score and leaves below another, so that noise between them costs nothing.

    An agent that is still warming up has the score `None`; there is no decision until every
    agent with a positive weight has one.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.paused = False
        self.target = 0.0
        self._smooth: float | None = None
        self._since_change = rules.min_hold
        self._flatten = False

    def command(self, order: Order) -> None:
        """Obey a user: `flatten` also pauses, until `resume`."""
        if order == "pause":
            self.paused = True
        elif order == "resume":
            self.paused = False
        elif order == "flatten":
            self.paused = self._flatten = True

    def decide(self, scores: Mapping[str, float | None], *, risk_scale: float = 1.0) -> Decision:
        """The decision for the next candle; `risk_scale` (0 to 1) shrinks a new exposure."""
        self._since_change += 1
        score = self._blend(scores)
        if self._flatten:
            self._flatten = False
            return self._move("flatten", score, 0.0)
        if self.paused:
            return Decision("paused", score, self.target, False)
        if score is None:
            return Decision("warm_up", None, self.target, False)
        if self._since_change > self.rules.min_hold:
            if self.target == 0.0 and score >= self.rules.enter:
                return self._move("enter", score, round(self.rules.exposure * risk_scale, 4))
            if self.target > 0.0 and score <= self.rules.exit:
                return self._move("exit", score, 0.0)
        return Decision("hold", score, self.target, False)

    def _blend(self, scores: Mapping[str, float | None]) -> float | None:
        total = weight_sum = 0.0
        for agent, weight in sorted(self.rules.weights.items()):
            score = scores.get(agent)
            if weight > 0.0:
                if score is None:
                    return None
                total += weight * score
                weight_sum += weight
        blended = total / weight_sum
        alpha = 2.0 / (self.rules.smoothing + 1)
        last = self._smooth if self._smooth is not None else blended
        self._smooth = last + alpha * (blended - last)
        return self._smooth

    def _move(self, action: Action, score: float | None, target: float) -> Decision:
        changed = target != self.target
        if changed:
            self.target, self._since_change = target, 0
        return Decision(action, score, target, changed)
