"""The bus as one component has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from weakref import WeakSet

from tiebeam import _core
from tiebeam._core import PendingEvent, Periodic, Stream, Subscription
from tiebeam.bus import EventBus

__all__ = ["ComponentBus", "Made"]

Made = Subscription | Periodic
MadeT = TypeVar("MadeT", bound=Made)


class ComponentBus(EventBus):
    """What a component makes here ends with it."""

    made: list[Made]
    """What goes on, in the order in which it was made; some may have ended."""
    lasting: list[tuple[Made, Callable[[], Made]]] | None
    """While the component initializes: what is made, and how to make it again."""

    waits: WeakSet[PendingEvent | Stream]
    """What waits for events, as long as somebody holds it."""

    def __new__(cls, view: _core.EventBus, home: EventBus) -> ComponentBus:
        self: ComponentBus = super().__new__(cls, upcasters=home._upcasters, _view=view)
        self._chain = home._chain
        self._chain.join(self)
        self.made = []
        self.lasting = None
        self.waits = WeakSet()
        return self

    def keep(self, make: Callable[[], MadeT]) -> MadeT:
        """What ``make`` makes, remembered."""
        made = make()
        if len(self.made) >= 64 and len(self.made).bit_count() == 1:
            # Now and then: whoever subscribes and cancels all the time leaves no trail.
            self.made = [earlier for earlier in self.made if earlier.status != "cancelled"]
        self.made.append(made)
        if self.lasting is not None:
            self.lasting.append((made, make))
        return made

    def _subscribe(self, *what: Any, **how: Any) -> Subscription:
        return self.keep(lambda: super(ComponentBus, self)._subscribe(*what, **how))

    def _respond(self, *what: Any, **how: Any) -> Subscription:
        return self.keep(lambda: super(ComponentBus, self)._respond(*what, **how))

    def _handle(self, *what: Any, **how: Any) -> Subscription:
        return self.keep(lambda: super(ComponentBus, self)._handle(*what, **how))

    def _wait_for(self, *what: Any, **how: Any) -> PendingEvent:
        wait = super()._wait_for(*what, **how)
        self.waits.add(wait)
        return wait

    def _stream(self, *what: Any, **how: Any) -> Stream:
        stream = super()._stream(*what, **how)
        self.waits.add(stream)
        return stream

    def every(self, *what: Any, **how: Any) -> Periodic:
        return self.keep(lambda: super(ComponentBus, self).every(*what, **how))

    def end(self, which: Iterable[Made]) -> None:
        """End what goes on of ``which``."""
        which = list(which)
        for made in which:
            made.cancel()
        self.made = [made for made in self.made if made not in which]
