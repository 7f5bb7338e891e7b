"""What plays the cases of each area on the public API."""

from __future__ import annotations

from vectors import (
    breaker_windows,
    budgets,
    circuit_breaker,
    config_changes,
    config_layers,
    config_values,
    health,
    lifecycle,
    limiter,
    probes,
    retry_control,
    retry_schedule,
    slo,
    start_order,
    supervision,
)
from vectors.cases import Areas

__all__ = ["ADAPTERS"]

_THEMES: tuple[Areas, ...] = (
    breaker_windows.AREAS,
    budgets.AREAS,
    circuit_breaker.AREAS,
    config_changes.AREAS,
    config_layers.AREAS,
    config_values.AREAS,
    health.AREAS,
    lifecycle.AREAS,
    limiter.AREAS,
    probes.AREAS,
    retry_control.AREAS,
    retry_schedule.AREAS,
    slo.AREAS,
    start_order.AREAS,
    supervision.AREAS,
)

ADAPTERS: Areas = {area: adapter for theme in _THEMES for area, adapter in theme.items()}
"""By area."""
