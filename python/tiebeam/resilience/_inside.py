"""Stages as context managers: what a ``with`` block was given stays with its task or thread."""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import Any

from tiebeam.resilience._stage import Stage

__all__ = ["Block"]

_blocks: ContextVar[tuple[Any, Any] | None] = ContextVar("tiebeam_blocks", default=None)
"""What the blocks that this task or thread is in were given: the innermost, and the others."""


class Block(Stage):
    """A stage that can stand around a block of code, too, ``with`` or ``async with``."""

    def _enter(self) -> Any:
        """Begin a block; what comes back is given to ``_leave``."""
        raise NotImplementedError

    async def _enter_async(self) -> Any:
        return self._enter()

    def _leave(self, given: Any, error: BaseException | None) -> None:
        """End a block, with its error if it has one."""
        raise NotImplementedError

    def __enter__(self) -> Any:
        given = self._enter()
        _blocks.set((given, _blocks.get()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        given, outer = _blocks.get() or (None, None)
        _blocks.set(outer)
        self._leave(given, error)

    async def __aenter__(self) -> Any:
        given = await self._enter_async()
        _blocks.set((given, _blocks.get()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)
