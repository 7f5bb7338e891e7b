"""Watching configuration files while the system runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tiebeam._logging import LOGGER
from tiebeam.exceptions import TiebeamError

if TYPE_CHECKING:
    from pathlib import Path

    from tiebeam.framework import Framework

__all__ = ["Watch"]

LOOK_SECONDS = 1.0
"""How often the files are looked at; looking costs one system call each."""

CALM_SECONDS = 0.2
"""How long a file must stay as it is before it is read: editors write in several steps."""

_Look = tuple[tuple[int, int, int] | None, ...]


class Watch:
    """Has a framework reload when a file has changed, and each interval in any case.

    Time stamps are compared, not events of the file system: these do not come from network
    disks and mounted volumes, where configuration often stands.
    """

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        self._objection = ""
        self._seen = self._look()  # now: the task may begin much later
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End it; idempotent."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            interval = self._framework._core._reload_interval
            await asyncio.sleep(min(LOOK_SECONDS, interval or LOOK_SECONDS))
            if interval is None:
                continue  # switched off; a change at run time may switch it on
            if self._look() != self._seen:
                self._seen = await self._calm()
            elif loop.time() < last + interval:
                continue
            last = loop.time()
            await self._reload()

    async def _calm(self) -> _Look:
        while True:
            seen = self._look()
            await asyncio.sleep(CALM_SECONDS)
            if self._look() == seen:
                return seen

    async def _reload(self) -> None:
        try:
            await self._framework.reload()
            self._objection = ""
        except TiebeamError as error:
            if str(error) == self._objection:
                return  # said already
            self._objection = str(error)
            revision = self._framework.configuration.revision
            LOGGER.error("revision %s stays in force, the files are refused: %s", revision, error)
            self._framework._core._bus().publish(
                "system.configuration.rejected", {"revision": revision, "error": str(error)}
            )

    def _look(self) -> _Look:
        return tuple(_mark(path) for path in self._framework.configuration._store.files())


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None  # an overlay that may appear, or a file that is being replaced
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
