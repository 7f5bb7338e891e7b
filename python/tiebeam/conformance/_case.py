"""One case: what it shows, what it needs, and how."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import ModuleType

from tiebeam.conformance._site import Site

__all__ = ["Case", "case", "cases_of"]

Run = Callable[[Site], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """One case."""

    title: str
    run: Run
    needs: tuple[str, ...] = ()


def case(*needs: str) -> Callable[[Run], Case]:
    """Make a case of a function; its title is the first line of what it says of itself.

    Args:
        *needs: Capabilities without which it is left out.
    """

    def make(run: Run) -> Case:
        title = (run.__doc__ or run.__name__).strip().splitlines()[0].rstrip(".")
        return Case(title[0].lower() + title[1:], run, needs)

    return make


def cases_of(module: ModuleType) -> list[Case]:
    """The cases of a module, in order."""
    return [value for value in vars(module).values() if isinstance(value, Case)]
