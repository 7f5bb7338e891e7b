"""The named policies of a configuration: what their sections say, as pipelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tiebeam._core import Clock, RetryBudget
from tiebeam.exceptions import ConfigurationError
from tiebeam.resilience import (
    Bulkhead,
    CircuitBreaker,
    Hedge,
    Pipeline,
    RateLimiter,
    Retry,
    Stage,
    Timeout,
)

__all__ = ["pipelines"]

ROOT = "error_handling.policies"
Section = Mapping[str, Any]


def pipelines(
    sections: Mapping[str, Section], clock: Clock | None, place: Callable[[str], str | None]
) -> dict[str, Pipeline]:
    """A pipeline for each section, its stages in the order that works.

    Args:
        sections: By name, what is said of each stage.
        clock: What they go by.
        place: Where the value at a path stands in the configuration.

    Raises:
        ConfigurationError: For what does not go together, with all that was found and where.
    """
    problems: list[str] = []
    made: dict[str, Pipeline] = {}
    for name, section in sections.items():
        found = _Reading(name, section, clock)
        pipeline = found.pipeline()
        for key, said in found.problems:
            path = f"{ROOT}.{name}.{key}" if key else f"{ROOT}.{name}"
            stands = place(path)
            problems.append(f"{stands}: {path}: {said}" if stands else f"{path}: {said}")
        if pipeline is not None:
            made[name] = pipeline
    if problems:
        if len(problems) > 1:
            problems.insert(0, f"{len(problems)} problems in the configuration:")
        raise ConfigurationError("\n".join(problems))
    return made


class _Reading:
    """What one section says, and what is wrong with it, by key."""

    def __init__(self, name: str, section: Section, clock: Clock | None) -> None:
        self.name, self.section, self.clock = name, section, clock
        self.problems: list[tuple[str, str]] = []

    def pipeline(self) -> Pipeline | None:
        """The pipeline; none if something is wrong."""
        name, clock = self.name, self.clock
        budget = self._budget()
        stages: list[Stage | None] = [
            self._made("timeout", "", lambda limit: Timeout(limit, name, clock=clock)),
            self._made("retry", "", lambda **how: Retry(name, budget=budget, clock=clock, **how)),
            self._made(
                "hedge", "delay", lambda at, **how: Hedge(at, name=name, budget=budget, **how)
            ),
            self._made("circuit_breaker", "", lambda **how: CircuitBreaker(name, **how)),
            self._made("rate_limit", "limit", lambda n, **how: RateLimiter(n, name=name, **how)),
            self._made(
                "bulkhead", "max_concurrent", lambda n, **how: Bulkhead(n, name=name, **how)
            ),
            self._made("attempt_timeout", "", lambda limit: Timeout(limit, name, clock=clock)),
        ]
        if self.problems:
            return None
        try:
            return Pipeline(*(stage for stage in stages if stage is not None), name=name)
        except ValueError as error:
            self.problems.append(("attempt_timeout", str(error)))
            return None

    def _budget(self) -> RetryBudget | None:
        retry = self.section.get("retry")
        if retry is None:
            return None
        try:
            return RetryBudget.token(**(retry.get("budget") or {}), clock=self.clock)
        except ValueError as error:
            self.problems.append(("retry.budget", str(error)))
            return None

    def _made(self, key: str, needs: str, make: Callable[..., Stage]) -> Stage | None:
        """The stage of a key, if there is one; it cannot do without what it ``needs``."""
        said = self.section.get(key)
        if said is None:
            return None
        try:
            if not isinstance(said, Mapping):
                return make(said)
            options = {option: value for option, value in said.items() if option != "budget"}
            if key != "retry":
                options["clock"] = self.clock
            if not needs:
                return make(**options)
            if (needed := options.pop(needs, None)) is None:
                self.problems.append((key, f"`{needs}` is missing"))
                return None
            return make(needed, **options)
        except ValueError as error:
            self.problems.append((key, str(error)))
            return None
