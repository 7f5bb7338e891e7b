"""The named policies of a system: those of its configuration, and those of its code."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
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

__all__ = ["Policies"]


class Policies(Mapping[str, Pipeline]):
    """Pipelines by name; a name that there is not is a ConfigurationError."""

    def __init__(
        self,
        sections: Mapping[str, Mapping[str, Any]],
        given: Mapping[str, Stage],
        clock: Clock | None,
    ) -> None:
        self._pipelines = {name: _built(name, dict(s), clock) for name, s in sections.items()}
        self._around: dict[tuple[str, Callable[..., Any]], Callable[..., Any]] = {}
        for name, stage in given.items():
            stages = stage.stages if isinstance(stage, Pipeline) else (stage,)
            self._pipelines[name] = Pipeline(*stages, name=name)

    def __getitem__(self, name: str) -> Pipeline:
        try:
            return self._pipelines[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._pipelines, n=1)
            known = ", ".join(self._pipelines) or "none"
            hint = f"did you mean `{near[0]}`?" if near else f"there are: {known}"
            raise ConfigurationError(
                f"there is no policy `{name}`; {hint} (error_handling.policies.{name})",
                policy=name,
            ) from None

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` within a policy; the same wrapper each time."""
        key = (name, function)
        found = self._around.get(key)
        if found is None:
            found = self._around[key] = self[name](function)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._pipelines)

    def __len__(self) -> int:
        return len(self._pipelines)

    def __contains__(self, name: object) -> bool:
        return name in self._pipelines

    def __repr__(self) -> str:
        return f"<Policies {', '.join(self._pipelines) or 'none'}>"


def _built(name: str, said: dict[str, Any], clock: Clock | None) -> Pipeline:
    """The pipeline of a section, in the order that works; errors name the section."""
    stages: list[Stage] = []
    budget: RetryBudget | None = None
    try:
        if (limit := said.get("timeout")) is not None:
            stages.append(Timeout(limit, name, clock=clock))
        if (options := said.get("retry")) is not None:
            budget = RetryBudget.token(**(options.pop("budget", None) or {}), clock=clock)
            stages.append(Retry(name, budget=budget, clock=clock, **options))
        if (options := said.get("hedge")) is not None:
            delay = options.pop("delay", None)
            if delay is None:
                raise ConfigurationError("`hedge` needs `delay`", field="delay")
            stages.append(Hedge(delay, name=name, budget=budget, clock=clock, **options))
        if (options := said.get("circuit_breaker")) is not None:
            stages.append(CircuitBreaker(name, clock=clock, **options))
        if (options := said.get("rate_limit")) is not None:
            limit = options.pop("limit", None)
            if limit is None:
                raise ConfigurationError("`rate_limit` needs `limit`", field="limit")
            stages.append(RateLimiter(limit, name=name, clock=clock, **options))
        if (options := said.get("bulkhead")) is not None:
            places = options.pop("max_concurrent", None)
            if places is None:
                raise ConfigurationError(
                    "`bulkhead` needs `max_concurrent`", field="max_concurrent"
                )
            stages.append(Bulkhead(places, name=name, clock=clock, **options))
        if (limit := said.get("attempt_timeout")) is not None:
            stages.append(Timeout(limit, name, clock=clock))
        return Pipeline(*stages, name=name)
    except (ConfigurationError, ValueError) as error:
        raise ConfigurationError(f"error_handling.policies.{name}: {error}", policy=name) from error
