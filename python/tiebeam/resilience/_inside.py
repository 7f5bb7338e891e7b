"""Stages as context managers: what a ``with`` block was given is found again when it is left."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tiebeam.resilience._stage import Stage

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Block"]

_entered: ContextVar[tuple[Any, ...]] = ContextVar("tiebeam_entered", default=())
"""The blocks that this task or thread has entered and not left, the outermost first."""


class _Entry:
    """One block that was entered."""

    __slots__ = ("given", "stage")

    def __init__(self, stage: Block, given: Any) -> None:
        self.stage = stage
        self.given = given


class Block(Stage):
    """A stage that can stand around a block of code, too, ``with`` or ``async with``.

    Blocks of one stage may be nested, run side by side, and be left in any order, and by another
    task or thread than entered them.
    """

    _lock = threading.Lock()
    _open: list[_Entry]

    def _enter(self) -> Any:
        """Begin a block; what comes back is given to ``_leave``."""
        raise NotImplementedError

    async def _enter_async(self) -> Any:
        return self._enter()

    def _leave(self, given: Any, error: BaseException | None) -> None:
        """End a block, with its error if it has one."""
        raise NotImplementedError

    def _refuse_sync(self) -> None:
        """Raise where it cannot stand around a block of sync code."""

    def _keep(self, given: Any) -> None:
        entry = _Entry(self, given)
        with self._lock:
            if "_open" not in self.__dict__:
                self._open = []
            self._open.append(entry)
        _entered.set((*_entered.get(), entry))

    def _find(self) -> Any:
        """What the block was given that is left: the innermost of this task or thread, else
        whichever was entered last."""
        mine = _entered.get()
        with self._lock:
            still = getattr(self, "_open", [])
            ours = [entry for entry in mine if entry.stage is self and entry in still]
            entry = ours[-1] if ours else still[-1]
            still.remove(entry)
        _entered.set(tuple(other for other in mine if other is not entry))
        return entry.given

    def __enter__(self) -> Self:
        self._refuse_sync()
        self._keep(self._enter())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(self._find(), error)

    async def __aenter__(self) -> Self:
        self._keep(await self._enter_async())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)
