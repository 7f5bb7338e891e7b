"""An asyncio event loop in virtual time."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from tiebeam import _core
from tiebeam._core import Clock

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    Ts = TypeVarTuple("Ts")

__all__ = ["Deadlock", "VirtualLoop", "run"]

T = TypeVar("T")

PATIENCE = 5.0
"""Real seconds to wait for threads, or for input from outside, before giving up."""

HORIZON = 24 * 3600.0
"""Virtual seconds a test may sleep away by itself before it is taken for one that hangs."""


class Deadlock(RuntimeError):
    """The test waits for something that nothing will bring about."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a simulated clock's.

    All timers, the loop's own and the core's, stand in the clock's one table and fire in true
    order. When nothing can happen without time moving on, whoever waits in :meth:`settle` is
    told; if nobody does, time moves to the next timer by itself.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._waiters: list[asyncio.Future[None]] = []
        self._impatient = False
        self._jumped = 0.0
        self._timers: dict[asyncio.TimerHandle, Any] = {}
        super().__init__(_IdleSelector(self))
        # A step that moves time on would look like a callback that took as long.
        self.slow_callback_duration = float("inf")

    def time(self) -> float:
        return self.clock.monotonic()

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: Unpack[Ts],
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)

        def fire() -> None:
            self._timers.pop(handle, None)
            if not handle.cancelled():
                handle._run()

        self._timers[handle] = self.clock.call_at(when, fire)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        timer = self._timers.pop(handle, None)
        if timer is not None:
            timer.cancel()

    async def settle(self) -> None:
        """Return when nothing is queued, running or due: when only time can move things on."""
        waiter: asyncio.Future[None] = self.create_future()
        self._waiters.append(waiter)
        self._jumped = 0.0
        await waiter

    async def advance(self, seconds: float) -> None:
        """Move time on by ``seconds``, stopping at each timer until all has settled."""
        until = self.clock.nanos() + round(_core._seconds(seconds) * 1e9)
        self._impatient = True
        try:
            while True:
                await self.settle()
                if not self.clock.step(until):
                    break
            await self.settle()
        finally:
            self._impatient = False

    def _on_idle(self) -> bool:
        """Nothing is ready: tell who waits for that, or move on. False if there is nothing."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
            return True
        due = self.clock.next_due()
        if due is None:
            return False
        self._jumped += max(0.0, due - self.clock.monotonic())
        if self._jumped > HORIZON:
            raise Deadlock(
                f"the test waited through {HORIZON / 3600:.0f} hours of virtual time; what it "
                "waits for does not come"
            )
        self.clock.step(round(due * 1e9) + 1)
        return True


class _IdleSelector(selectors.BaseSelector):
    """Looks for input as the loop asks, and notices when there is nothing else to do."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._inner = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return self._inner.select(0)
        # Real time: threads and sockets know nothing of the test's clock.
        give_up = time.monotonic() + PATIENCE
        while True:
            busy = _core._busy()  # before looking: what ends later wakes us up
            found = self._inner.select(0)
            if found:
                return found
            late = time.monotonic() >= give_up
            if not busy or (late and self._loop._impatient):
                if self._loop._on_idle():
                    return self._inner.select(0)
                if late:
                    raise Deadlock(
                        "the test waits, but nothing is queued, running or scheduled that "
                        "could wake it"
                    )
            elif late:
                raise Deadlock(
                    f"{busy} handler(s) or hook(s) have been running on other threads for "
                    f"{PATIENCE:.0f} s of real time"
                )
            found = self._inner.select(0.05)
            if found:
                return found

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.get_key(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()


def run(main: Coroutine[Any, Any, T], *, clock: Clock | None = None) -> T:
    """Run ``main`` to its end in virtual time; ``asyncio.run`` for tests.

    Meanwhile everything that goes by the process's clock, such as retries and breakers that were
    made as a module was imported, goes by this one.

    Args:
        main: The coroutine of the test.
        clock: The simulated clock to run on; a new one if left out.

    Raises:
        Deadlock: When ``main`` waits for something that nothing will bring about.
    """
    loop = VirtualLoop(clock or Clock.simulated())
    before = _core._stand_in(loop.clock)
    try:
        return loop.run_until_complete(_watched(main))
    finally:
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
            _core._stand_in(before)


async def _watched(main: Coroutine[Any, Any, T]) -> T:
    _core._watch_activity(True)
    try:
        return await main
    finally:
        _core._watch_activity(False)
