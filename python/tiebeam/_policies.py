"""The named policies of a system: those of its configuration, and those of its code."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tiebeam import _core
from tiebeam.exceptions import ConfigurationError
from tiebeam.resilience import CircuitBreaker, Pipeline, Stage

__all__ = ["Policies"]


class Policies(Mapping[str, Pipeline]):
    """Pipelines by name; a name that there is not is a ConfigurationError."""

    def __init__(self, configured: Mapping[str, Pipeline], given: Mapping[str, Stage]) -> None:
        self._pipelines = dict(configured)
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

    def breakers(self) -> list[tuple[str, _core._Breaker]]:
        """The circuit breakers in there, each with the name of its policy."""
        return [
            (name, stage._core)
            for name, pipeline in self._pipelines.items()
            for stage in pipeline.stages
            if isinstance(stage, CircuitBreaker)
        ]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pipelines)

    def __len__(self) -> int:
        return len(self._pipelines)

    def __contains__(self, name: object) -> bool:
        return name in self._pipelines

    def __repr__(self) -> str:
        return f"<Policies {', '.join(self._pipelines) or 'none'}>"
