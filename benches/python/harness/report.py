"""All figures, for people and for programs."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING, Any

import tiebeam

from harness.goal import Goal
from harness.settings import Settings

if TYPE_CHECKING:
    from workloads import Outcome

PEERS = [
    "aiobreaker",
    "anyio",
    "backoff",
    "blinker",
    "bubus",
    "circuitbreaker",
    "faststream",
    "nautilus_trader",
    "psygnal",
    "purgatory",
    "pybreaker",
    "pyee",
    "stamina",
    "tenacity",
    "uvloop",
]


def machine() -> dict[str, Any]:
    """Where the figures were taken, and with what."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "tiebeam": tiebeam.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "peers": {peer: _version(peer) for peer in PEERS},
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def heading(settings: Settings) -> str:
    """What stands above the tables."""
    where = machine()
    peers = ", ".join(
        f"{name} {version or 'not installed'}" for name, version in where["peers"].items()
    )
    return (
        f"tiebeam {where['tiebeam']}, {where['python']}, {where['platform']}, "
        f"{where['cores']} cores, {settings.loop}; {settings.rounds} rounds of "
        f"{settings.events:,} deliveries\npeers: {peers}\n"
        "Garbage is collected before each measurement, and not during it. x: how many times the\n"
        "figure of a table's first line, the median over the rounds; above 1, tiebeam takes less."
    )


def goals_as_text(goals: list[Goal]) -> str:
    """The last table."""
    head = f"{'goals':<54}{'':<46}measured"
    return "\n".join([head, *(goal.as_text() for goal in goals)])


def as_markdown(settings: Settings, outcomes: dict[str, Outcome]) -> str:
    """Tables for documentation: the goals, then every workload."""
    goals = [goal.as_row() for outcome in outcomes.values() for goal in outcome.goals]
    tables = [table.as_markdown() for outcome in outcomes.values() for table in outcome.tables]
    head = "| what | goal | measured |\n| --- | --- | --- |"
    return "\n\n".join([heading(settings), "\n".join([head, *goals]), *tables]) + "\n"


def as_json(settings: Settings, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """Everything."""
    return {
        "machine": machine(),
        "settings": asdict(settings),
        "garbage_collector": "run before each measurement, off during it",
        "workloads": {
            name: [table.as_json() for table in outcome.tables]
            for name, outcome in outcomes.items()
        },
        "goals": [goal.as_json() for outcome in outcomes.values() for goal in outcome.goals],
    }
