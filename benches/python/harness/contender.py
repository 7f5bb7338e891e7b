"""One way to do what a workload asks for.

A contender is a generator that makes its bus and handlers, yields the function that is measured,
and clears up when it goes on. An async generator yields an async function, and runs on the loop
of the race.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any

from harness.tally import Tally

Run = Callable[[int], Awaitable[float | None] | float | None]
"""Takes the number of events; returns nothing, or a figure per event that it measured itself."""
Make = Callable[[Tally], Generator[Run, None, None] | AsyncGenerator[Run, None]]

NOT_INSTALLED = "not installed"
OURS = "tiebeam"
"""How the names of our own contenders begin."""


@dataclass(frozen=True)
class Contender:
    """A name, a generator, and what it takes."""

    name: str
    make: Make
    needs: str | None = None
    """The module it cannot do without."""
    share: float = 1.0
    """Of the events; less than all for those that would take minutes."""

    @property
    def ours(self) -> bool:
        return self.name.startswith(OURS)

    @property
    def installed(self) -> bool:
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


class Contenders(list[Contender]):
    """Those of one workload, in the order of its table; the first is tiebeam."""

    def add(self, name: str, **how: Any) -> Callable[[Make], Make]:
        """Decorates a contender; ``how`` is ``needs`` and ``share``."""

        def decorate(make: Make) -> Make:
            self.append(Contender(name, make, **how))
            return make

        return decorate
