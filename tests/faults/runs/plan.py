"""A plan: how it is carried out, and how large."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.report import Result
from faults.site import Site


@dataclass(frozen=True)
class Scale:
    """How much of it."""

    events: int
    faults: int
    rounds: int = 1


@dataclass(frozen=True)
class Plan:
    """One plan, in two sizes. The full one is made of rounds, each with a server of its own."""

    name: str
    title: str
    quick: Scale
    full: Scale
    carry_out: Callable[[Any, Scale, Result], Result]
    """It gets a site and an empty result for its name and seed, and returns the one that it came
    to."""
    site: type[Site] = Site
    """Where: which broker it is."""

    def round(self, folder: Path, seed: int, scale: Scale) -> Result:
        """Carry it out once."""
        folder.mkdir(parents=True, exist_ok=True)
        with self.site(folder, seed) as site:
            return self.carry_out(site, scale, Result(self.name, seed))
