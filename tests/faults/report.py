"""The result of a run: figures, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from faults.checker import Findings


@dataclass
class Result:
    """What a run, or one round of it, came to."""

    plan: str
    seed: int
    rounds: int = 1
    figures: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, plan: str, seed: int, found: Findings, may: Iterable[str] = ()) -> Result:
        """The result for what was found."""
        result = cls(plan, seed)
        result.take(found, may)
        return result

    def take(self, found: Findings, may: Iterable[str] = ()) -> None:
        """What was found: each list is a problem if there is anything in it, but for those that
        ``may`` be."""
        for name, value in asdict(found).items():
            if not isinstance(value, list):
                self.figures[name] = value
                continue
            self.figures[name] = len(value)
            if value and name not in may:
                self.problems.append(f"{len(value)} {name}: {', '.join(map(str, value[:5]))}")
        explained = found.acked + found.failed + found.unknown
        self.need(found.offered == explained, f"{found.offered} offered, {explained} explained")
        self.need(not found.pending, f"{found.pending} pending")
        self.need(found.offered > 0, "nothing was offered: this shows nothing")
        self.need(found.handled > 0, "nothing was handled: this shows nothing")

    def sizes(self, grown: tuple[dict[str, float], list[str]]) -> None:
        """By how much the processes have grown, and what of that is too much."""
        self.figures.update(grown[0])
        self.problems += grown[1]

    def add(self, name: str, value: float, *, most: float | None = None) -> None:
        """One more figure, and the bound it must keep."""
        self.figures[name] = round(value, 3)
        if most is not None and not value <= most:
            self.problems.append(f"{name} is {value:.3f}, and may be {most:.3f}")

    def need(self, holds: bool, what: str) -> None:
        """A problem unless it holds."""
        if not holds:
            self.problems.append(what)

    def json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Result:
        return cls(**json.loads(line))

    def __str__(self) -> str:
        width = max(map(len, self.figures), default=0)
        rows = [f"  {name:<{width}}  {_shown(value):>10}" for name, value in self.figures.items()]
        head = f"{self.plan}, seed {self.seed}" + (
            f", {self.rounds} rounds" if self.rounds > 1 else ""
        )
        verdict = [f"  WRONG: {problem}" for problem in self.problems] or ["  all as it should be"]
        return "\n".join([head, *rows, *verdict])


def _shown(value: float) -> str:
    return f"{value:,.3f}" if isinstance(value, float) and value % 1 else f"{int(value):,}"


def together(results: list[Result]) -> Result:
    """The sum of rounds; of times, bounds and sizes the worst."""
    whole = Result(results[0].plan, results[0].seed, rounds=len(results))
    for result in results:
        for name, value in result.figures.items():
            before = whole.figures.get(name)
            if before is None:
                whole.figures[name] = value
            elif name.endswith(("_s", "_mib", "_x")):
                whole.figures[name] = max(before, value)
            else:
                whole.figures[name] = before + value
        whole.problems += [f"seed {result.seed}: {problem}" for problem in result.problems]
    return whole
