"""A breaker as a case describes it, in the words of the cases, with their defaults."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tiebeam._core import Clock
from tiebeam.resilience import CircuitBreaker

from vectors.cases import Case
from vectors.stance import is_mistake

__all__ = ["Ignored", "breaker_of"]


class Ignored(Exception):
    """What says nothing about a dependency."""


def breaker_of(case: Case, clock: Clock) -> CircuitBreaker:
    """The breaker that a case describes, closed or in its initial state."""
    config = dict(case["config"])
    for choice, ours in (("ignored", "neutral"), ("boundary", "inclusive")):
        # There is nothing to choose; a case may still show what comes of choosing wrongly.
        assert config.pop(choice, ours) == ours or is_mistake(case), f"no `{choice}` to choose"
    initial = config.pop("initial_state", None)
    options: dict[str, Any] = {
        "reset_timeout": _ms(config.pop("open_ms", 60_000)),
        "probes": config.pop("half_open_permits", 10),
        # The cases know half-open breakers without an end, which we do not have.
        "probe_timeout": _ms(config.pop("half_open_max_ms", 7 * 86_400_000)),
    }
    if "open_multiplier" in config:
        options["reset_factor"] = config.pop("open_multiplier")
    if "open_max_ms" in config:
        options["reset_max"] = _ms(config.pop("open_max_ms"))
    if "success_threshold" in config:
        options["successes"] = config.pop("success_threshold")
    if "half_open_ratio" in config:
        options["successes"], options["successes_of"] = config.pop("half_open_ratio")
    options.update(_mode(config))
    assert not config, f"unknown fields of a breaker: {sorted(config)}"
    breaker = CircuitBreaker(case["id"], ignore=Ignored, clock=clock, **options)
    if initial is not None:
        breaker.force(initial)
    return breaker


def _mode(config: dict[str, Any]) -> dict[str, Any]:
    mode = config.pop("mode", "window")
    if mode == "consecutive":
        return {"threshold": config.pop("threshold")}
    assert mode == "window", f"unknown mode {mode!r}"
    if "ratio_failures" in config:
        return {"threshold": config.pop("ratio_failures"), "of": config.pop("ratio_size")}
    size = config.pop("window_size", 100)
    window = {
        "count": {"window_calls": size},
        "time": {"window_time": timedelta(seconds=size)},
    }[config.pop("window_type", "count")]
    return {
        "minimum_calls": config.pop("minimum_calls", 100),
        "failure_rate": config.pop("failure_rate", 50),
        "slow_rate": config.pop("slow_rate", 100),
        "slow_call": _ms(config.pop("slow_ms", 60_000)),
        **window,
    }


def _ms(milliseconds: float) -> timedelta:
    return timedelta(milliseconds=milliseconds)
