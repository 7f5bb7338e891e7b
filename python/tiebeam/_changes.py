"""A change of the running configuration: one step for everybody, or none at all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tiebeam._hooks import call
from tiebeam._logging import LOGGER
from tiebeam._mismatch import short_name
from tiebeam.exceptions import ClosedError, ConfigurationError, TiebeamError

if TYPE_CHECKING:
    from tiebeam._core import ConfigProposal
    from tiebeam._host import Host
    from tiebeam.framework import Framework

__all__ = ["Changes"]

_Change = tuple[str, Any, Any]
_Listener = tuple[str, Callable[[str, Any, Any], Any]]


_KEPT = {
    "error_handling.policies": "what is called through a policy keeps the one it has",
    "event_bus": "the bus stays as it is",
    "health": "checks, probes and the watchdog stay as they are",
    "logging": "logs stay as they are",
    "service_registry": "the registry stays as it is",
    "supervision": "supervision stays as it is",
}
"""Sections whose changes take effect with the next start, and what goes on until then."""

_AT_ONCE = ("event_bus.connection_string", "event_bus.tls", "health.limits")
"""What does not wait for that all the same, or is told of by whoever takes it on."""

_KEPT_BY_COMPONENTS = (
    "class",
    "enabled",
    "on_loss",
    "recover_after",
    "recover_passes",
    "restart",
    "supervision",
)
"""The keys of a component's section for which the same is true."""


class Changes:
    """Puts proposals in force, one after the other."""

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        self._store = framework.configuration._store
        self._one_at_a_time = asyncio.Lock()

    async def set(self, values: dict[str, Any]) -> list[str]:
        async with self._one_at_a_time:
            return await self._adopt(self._store.propose(values), "api")

    async def roll_back(self, revision: int) -> list[str]:
        async with self._one_at_a_time:
            return await self._adopt(self._store.propose_rollback(revision), "rollback")

    async def reload(self) -> list[str]:
        async with self._one_at_a_time:
            return await self._adopt(await call(self._store.propose_reload), "file")

    async def _adopt(self, proposal: ConfigProposal, author: str) -> list[str]:
        """Ask everybody concerned, then change, then tell them."""
        changes = proposal.changes
        if not changes:
            return []
        concerned = [
            host
            for host in self._framework._hosts.values()
            if any(_touches(path, host.path) for path, _, _ in changes)
        ]
        sections = {entry["name"]: entry["config"] for entry in proposal.components()}
        problems = [
            problem
            for host in concerned
            for problem in host.problems(sections.get(host.component.name, {}), proposal.place)
        ]
        if problems:
            raise ConfigurationError("\n".join(problems))
        before = self._store.revision
        listeners = self._listeners(changes)
        self._commit(proposal, author)
        await self._reconfigure(concerned, before)
        try:
            await self._tell(listeners)
        finally:
            paths = self._announce(proposal, author)
        return paths

    def _announce(self, proposal: ConfigProposal, author: str) -> list[str]:
        """Tell the log what waits for the next start, and the bus what has changed."""
        changes = proposal.changes
        paths = [path for path, _, _ in changes]
        leaves = [leaf for change in changes for leaf in _leaves(*change)]
        for kept, of in _kept(leaves, [entry["path"] for entry in proposal.components()]).items():
            LOGGER.warning("%s: %s until the next start", ", ".join(of), kept)
        said = {"revision": self._store.revision, "author": author, "paths": paths}
        with suppress(ClosedError):  # the system has stopped meanwhile
            self._framework._core._bus().publish("system.configuration.changed", said)
        return paths

    def _commit(self, proposal: ConfigProposal, author: str) -> None:
        self._store.commit(proposal, author)
        self._framework._core._use_config(self._store)

    async def _reconfigure(self, concerned: Iterable[Host], before: int) -> None:
        """Have each apply it; when one cannot, or nobody waits for it any more, all are given back
        what they had."""
        applied: list[Host] = []
        for host in concerned:
            if host.state not in ("configured", "starting", "running", "degraded"):
                continue  # it is configured when it starts
            applied.append(host)
            try:
                await self._framework._core._command("reconfigure", host.component.name)
            except asyncio.CancelledError:
                await self._go_back(applied, before)
                raise
            except TiebeamError as error:
                await self._go_back(applied, before)
                raise ConfigurationError(
                    f"{host.path}: `{host.component.name}` could not apply the change: {error}; "
                    f"what was in force before is in force again, as revision "
                    f"{self._store.revision}",
                    component=host.component.name,
                ) from error

    async def _go_back(self, applied: list[Host], before: int) -> None:
        self._commit(self._store.propose_rollback(before), "rollback")
        names = [host.component.name for host in reversed(applied)]
        for name in names:
            try:
                await self._framework._core._command("reconfigure", name)
            except TiebeamError as error:  # noqa: PERF203 - one that cannot holds nobody up
                LOGGER.error("%s: cannot go back: %s", name, error)

    def _listeners(self, changes: list[_Change]) -> list[tuple[Host, _Listener, Any]]:
        """Who is to hear of the change, each with what stands at its path so far."""
        return [
            (host, listener, self._value(listener[0]))
            for host in self._framework._hosts.values()
            for listener in host.listeners
            if any(_touches(path, listener[0]) for path, _, _ in changes)
        ]

    def _value(self, path: str) -> Any:
        try:
            return self._store.get(path)
        except KeyError:
            return None

    async def _tell(self, listeners: list[tuple[Host, _Listener, Any]]) -> None:
        """Once for each path that is listened to, however much has changed below it.

        A cancellation interrupts who is just being told; the others are told before it goes on.
        """
        left = deque(listeners)
        cancelled = None
        while left:
            try:
                await self._tell_each(left)
            except asyncio.CancelledError as error:  # noqa: PERF203 - each interrupts one
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _tell_each(self, left: deque[tuple[Host, _Listener, Any]]) -> None:
        while left:
            host, listener, old = left.popleft()
            path, handler = listener
            new = self._value(path)
            if old == new or listener not in host.listeners:
                continue
            name = host.component.name
            if not _touches(path, host.path):
                self._framework._core._told_of_change(name, path)
            watch = host.watch(short_name(handler).rpartition(".")[2], handler)
            try:
                await call(handler, path, old, new, watch=watch)
            except Exception as error:
                LOGGER.exception("%s: the handler of a change of %s failed: %s", name, path, error)


def _kept(paths: list[str], components: list[str]) -> dict[str, list[str]]:
    """What stays as it is although these paths have changed, with those that say otherwise."""
    known = dict(_KEPT)
    for component in components:
        stays = f"`{component.rpartition('.')[2]}` stays as it is"
        known |= {f"{component}.{key}": stays for key in _KEPT_BY_COMPONENTS}
    kept: dict[str, list[str]] = {}
    for path in paths:
        if not any(_within(path, at_once) for at_once in _AT_ONCE):
            for section, stays in known.items():
                if _within(path, section):
                    kept.setdefault(stays, []).append(path)
    return kept


def _leaves(path: str, old: Any, new: Any) -> list[str]:
    """The paths of single values; a section that comes or goes is one change."""
    if not isinstance(old, dict) and not isinstance(new, dict):
        return [path]
    before, after = (side if isinstance(side, dict) else {} for side in (old, new))
    return [
        leaf
        for key in {**before, **after}
        if before.get(key) != after.get(key)
        for leaf in _leaves(f"{path}.{key}", before.get(key), after.get(key))
    ]


def _within(path: str, section: str) -> bool:
    return path == section or path.startswith(f"{section}.")


def _touches(changed: str, wanted: str) -> bool:
    return changed == wanted or changed.startswith(f"{wanted}.") or wanted.startswith(f"{changed}.")
