"""A change of the running configuration: one step for everybody, or none at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tiebeam._hooks import call
from tiebeam._logging import LOGGER
from tiebeam.exceptions import ConfigurationError, TiebeamError

if TYPE_CHECKING:
    from tiebeam._core import ConfigProposal
    from tiebeam._host import Host
    from tiebeam.framework import Framework

__all__ = ["Changes"]

_Change = tuple[str, Any, Any]


_POLICIES = "error_handling.policies"


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
        self._commit(proposal, author)
        await self._reconfigure(concerned, before)
        await self._tell(changes)
        paths = [path for path, _, _ in changes]
        policies = [path for path in paths if _touches(path, _POLICIES)]
        if policies:
            LOGGER.warning(
                "%s: what is called through a policy keeps the one it has until the next start",
                ", ".join(policies),
            )
        self._framework.bus.publish(
            "system.configuration.changed",
            {"revision": self._store.revision, "author": author, "paths": paths},
        )
        return paths

    def _commit(self, proposal: ConfigProposal, author: str) -> None:
        self._store.commit(proposal, author)
        self._framework._core._use_config(self._store)

    async def _reconfigure(self, concerned: Iterable[Host], before: int) -> None:
        """Have each apply it; when one cannot, all are given back what they had."""
        applied: list[Host] = []
        for host in concerned:
            if host.state not in ("configured", "starting", "running", "degraded"):
                continue  # it is configured when it starts
            applied.append(host)
            try:
                await self._framework._core._command("reconfigure", host.component.name)
            except TiebeamError as error:
                self._commit(self._store.propose_rollback(before), "rollback")
                await self._restore(applied)
                raise ConfigurationError(
                    f"{host.path}: `{host.component.name}` could not apply the change: {error}; "
                    f"what was in force before is in force again, as revision "
                    f"{self._store.revision}",
                    component=host.component.name,
                ) from error

    async def _restore(self, applied: list[Host]) -> None:
        names = [host.component.name for host in reversed(applied)]
        for name in names:
            try:
                await self._framework._core._command("reconfigure", name)
            except TiebeamError as error:  # noqa: PERF203 - one that cannot holds nobody up
                LOGGER.error("%s: cannot go back: %s", name, error)

    async def _tell(self, changes: list[_Change]) -> None:
        for name, host in self._framework._hosts.items():
            for wanted, handler in list(host.listeners):
                for path, old, new in changes:
                    if not _touches(path, wanted):
                        continue
                    if not _touches(path, host.path):
                        self._framework._core._told_of_change(name, path)
                    try:
                        await call(handler, path, old, new)
                    except Exception as error:
                        LOGGER.exception(
                            "%s: the handler of a change of %s failed: %s", name, path, error
                        )


def _touches(changed: str, wanted: str) -> bool:
    return changed == wanted or changed.startswith(f"{wanted}.") or wanted.startswith(f"{changed}.")
