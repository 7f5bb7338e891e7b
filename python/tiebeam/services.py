"""Services: components wherever they run, as other processes announce them."""

from __future__ import annotations

import inspect
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiebeam import _core

__all__ = ["Capability", "Service"]


@dataclass(frozen=True)
class Capability:
    """In an annotation: whichever component declares this in its ``capabilities``.

    >>> class Reader(Component):
    ...     archive: Annotated[Storage, Capability("history")]

    Among ``overrides``, it names what is injected by it.
    """

    name: str
    """As the component declares it."""


@dataclass(frozen=True)
class Service:
    """A component of this process or of another one, as of its last announcement."""

    name: str
    """The component's name."""
    framework: str
    """The system that it is a part of: `system.name` there."""
    instance: str
    """What names its process."""
    host: str
    """The machine that it runs on."""
    pid: int
    """The process there."""
    version: str
    """The component's version."""
    state: str
    """``running``, ``degraded``, ..."""
    health: str
    """``pass``, ``warn``, ``fail``, ``out_of_service`` or ``unknown``."""
    ready: bool
    """Whether it can take work."""
    cause: str
    """Why it is not simply well; empty where it is."""
    capabilities: tuple[str, ...]
    """What it declares in ``capabilities``."""
    types: tuple[str, ...]
    """Its class and those that it is one of, as ``module:Class``."""
    responds: tuple[str, ...]
    """The types of the requests that it answers."""
    since: int
    """Since when it is known here, in Unix milliseconds by this machine's clock; for a component
    of this process, since when it is in its state."""
    remote: bool
    """Whether it runs in another process."""
    _core: _core.Framework = field(repr=False, compare=False)

    async def ping(self, timeout: float | timedelta = 5.0) -> float:
        """Ask it whether it is there.

        Args:
            timeout: How long to wait, in seconds.

        Returns:
            How long the answer took, in seconds.

        Raises:
            NoResponder: At once, when its process is known to be gone.
            RequestTimeout: When nobody answers in time.
        """
        asked = time.perf_counter()
        await self._core._ask(self.instance, self.name, "ping", timeout)
        return time.perf_counter() - asked

    async def info(self, timeout: float | timedelta = 5.0) -> dict[str, Any]:
        """What it says of itself now: what is here, with ``depends_on``, ``wants``, the patterns
        that it ``handles`` and its version of ``tiebeam``.

        Args:
            timeout: How long to wait, in seconds.

        Raises:
            NoResponder: At once, when its process is known to be gone.
            RequestTimeout: When nobody answers in time.
        """
        said: dict[str, Any] = await self._core._ask(self.instance, self.name, "info", timeout)
        return said

    async def stats(self, timeout: float | timedelta = 5.0) -> dict[str, Any]:
        """What it has done: ``events_processed``, ``events_published``, ``errors_encountered``,
        ``last_error``, ``restarts``, ``uptime`` (seconds), ``memory_usage`` (MB),
        ``event_processing_delay`` (ms), and the figures of its ``handlers``.

        Args:
            timeout: How long to wait, in seconds.

        Raises:
            NoResponder: At once, when its process is known to be gone.
            RequestTimeout: When nobody answers in time.
        """
        said: dict[str, Any] = await self._core._ask(self.instance, self.name, "stats", timeout)
        return said


def service(said: dict[str, Any], core: _core.Framework) -> Service:
    """A service from what the core knows of it."""
    return Service(
        name=said["name"],
        framework=said["system"],
        instance=said["instance"],
        host=said["host"],
        pid=said["pid"],
        version=said["version"],
        state=said["state"],
        health=said["health"],
        ready=said["ready"],
        cause=said.get("cause", ""),
        capabilities=tuple(said.get("capabilities", ())),
        types=tuple(said.get("types", ())),
        responds=tuple(said.get("responds", ())),
        since=said["since"],
        remote=said["remote"],
        _core=core,
    )


def type_name(kind: type[Any]) -> str:
    """A class as it is announced."""
    return f"{kind.__module__}:{kind.__qualname__}"


def imported(type_name: str) -> type[Any] | None:
    """The class of that name, if its module is imported here; none is imported for that."""
    module, _, path = type_name.partition(":")
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = inspect.getattr_static(found, name, None)
    return found if isinstance(found, type) else None
