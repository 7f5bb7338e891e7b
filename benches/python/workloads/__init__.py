"""What is measured; one file each, with all contenders of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module

from harness.goal import Goal
from harness.settings import Settings
from harness.table import Table


@dataclass
class Outcome:
    """What a workload brought."""

    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)


NAMES = [
    "sync_inline",
    "async_decoupled",
    "fan_out_sync",
    "fan_out_async",
    "routing",
    "requests",
    "threads",
    "memory",
    "bystanders",
    "filters",
    "resilience",
]
"""In the order in which they are shown; each is a module here, with a ``measure``."""


def load(name: str) -> Callable[[Settings], Outcome]:
    """The ``measure`` of a workload."""
    measure: Callable[[Settings], Outcome] = import_module(f"workloads.{name}").measure
    return measure


def chunks(events: int, size: int) -> Iterator[int]:
    """``events`` in parts of ``size``: the async publishers let the loop run after each."""
    for begin in range(0, events, size):
        yield min(size, events - begin)
