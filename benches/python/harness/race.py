"""Contenders in rounds: all in one process, each round in another order, garbage collected first.

A figure is the time from before the first publish to after the last handler, divided by the
deliveries; a function that returns a number has taken its own time, per event. After each round
every handler must have seen every event.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
from collections.abc import Iterator, Sequence
from typing import Any

from harness.contender import NOT_INSTALLED, Contender, Run
from harness.settings import Settings
from harness.table import Row, Table
from harness.tally import Miscount, Tally

LIMIT = 120.0
"""Seconds after which a round is taken to hang, because an event was lost."""


def race(
    title: str,
    contenders: Sequence[Contender],
    settings: Settings,
    *,
    reads: bool = False,
    fan_out: int = 1,
    handlers_share: int = 1,
    unit: str = "ns per event",
) -> Table:
    """Run ``contenders`` against each other.

    Args:
        title: Of the table.
        contenders: The first is what the others are compared with.
        settings: How many rounds, deliveries each, and the loop.
        reads: Whether handlers read the payload.
        fan_out: The deliveries of one event.
        handlers_share: Over how many handlers the events of a round are spread evenly.
        unit: Of the figures.

    Raises:
        Miscount: When a contender lost, doubled or changed events.
    """
    if settings.alone:
        contenders = [contender for contender in contenders if contender.ours]
    loop = settings.new_loop()
    entrants = [
        _Entrant(contender, loop, settings.events // fan_out, handlers_share, reads)
        for contender in contenders
        if contender.installed
    ]
    taken: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
    try:
        for entrant in entrants:
            entrant.open()
        gc.collect()
        gc.freeze()  # what is there now need not be looked through before each measurement
        for number in range(-settings.warm_up, settings.rounds):
            for index in order(number, len(entrants)):
                figure = entrants[index].round() / fan_out
                if number >= 0:
                    taken[entrants[index].name].append(figure)
    finally:
        gc.unfreeze()
        for entrant in entrants:
            entrant.close()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    rows = [
        Row(contender.name, taken[contender.name])
        if contender.installed
        else Row(contender.name, note=NOT_INSTALLED)
        for contender in contenders
    ]
    return Table(title, unit, rows)


def order(number: int, count: int) -> Iterator[int]:
    """Each round begins with another one, every other round goes backwards."""
    step = -1 if number % 2 else 1
    return ((number + step * place) % count for place in range(count))


class _Entrant:
    """A contender on the track."""

    def __init__(
        self,
        contender: Contender,
        loop: asyncio.AbstractEventLoop,
        events: int,
        handlers_share: int,
        reads: bool,
    ) -> None:
        self.name = contender.name
        self._loop = loop
        share = max(1, int(events * contender.share) // handlers_share)
        self._per_handler = share
        self._events = share * handlers_share
        self._tally = Tally(reads=reads)
        self._generator: Any = contender.make(self._tally)
        self._run: Run | None = None

    def open(self) -> None:
        self._run = self._go_on()

    def close(self) -> None:
        if self._run is not None:
            self._run = None
            self._go_on()

    def _go_on(self) -> Any:
        if inspect.isasyncgen(self._generator):
            return self._loop.run_until_complete(anext(self._generator, None))
        return next(self._generator, None)

    def round(self) -> float:
        """Nanoseconds per event."""
        self._tally.expect(self._per_handler)
        gc.collect()
        gc.disable()
        try:
            if inspect.iscoroutinefunction(self._run):
                taken = self._loop.run_until_complete(self._timed_async(self._run))
            else:
                taken = _timed(self._run, self._events)
        finally:
            gc.enable()
        self._tally.check(self.name)
        return taken

    async def _timed_async(self, run: Any) -> float:
        async def timed() -> float:
            begin = time.perf_counter_ns()
            figure = await run(self._events)
            taken = time.perf_counter_ns() - begin
            return taken / self._events if figure is None else figure

        try:
            taken = await asyncio.wait_for(timed(), LIMIT)
        except asyncio.TimeoutError:
            self._tally.check(self.name)  # says what is missing
            raise Miscount(f"{self.name}: no end after {LIMIT} s") from None
        await asyncio.sleep(0)  # a second delivery of the last event would come now
        return taken


def _timed(run: Any, events: int) -> float:
    begin = time.perf_counter_ns()
    figure = run(events)
    taken = time.perf_counter_ns() - begin
    return taken / events if figure is None else figure
