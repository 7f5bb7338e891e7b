"""What the policies of a system decide, as events on its bus."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from tiebeam import _core
from tiebeam._core import Clock
from tiebeam.exceptions import ClosedError, TiebeamError
from tiebeam.resilience import Decision, Pipeline, Stage, listen

__all__ = ["Decided"]

INTERVAL = 1.0
"""Seconds in which at most one event tells of decisions of one kind and policy. A dependency that
is away makes thousands a second; how many were left out, the next event says."""


class Decided:
    """Publishes decisions as ``system.<kind>``: ``system.retry.scheduled`` and the like.

    On the core's own view of the bus: middleware stands around what users publish, and one that
    uses a policy itself would come back to itself.
    """

    def __init__(self, bus: _core.EventBus, policies: Iterable[Pipeline], clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._ours: dict[Stage, str] = {
            stage: policy.name for policy in policies for stage in policy.stages
        }
        self._lock = threading.Lock()
        self._told: dict[tuple[str, str], tuple[float, int]] = {}
        self._end = listen(self._decided) if self._ours else None

    def end(self) -> None:
        """Publish no more."""
        if self._end is not None:
            self._end()
            self._end = None

    def _decided(self, decision: Decision) -> None:
        policy = self._ours.get(decision.stage)
        if policy is None:
            return
        omitted = 0 if decision.changes else self._omitted(decision)
        if omitted is None:
            return
        told = {"policy": policy, **decision.facts}
        if decision.changes:
            # The breakers of subscriptions tell the same under the same topic.
            told |= {"state": decision.facts["to"], "subscription": None, "component": None}
        if omitted:
            told["omitted"] = omitted
        try:
            self._bus.publish(f"system.{decision.kind}", told)
        except ClosedError:
            self.end()  # the system has stopped, and somebody still calls
        except TiebeamError:
            self._left_out(decision)  # a listener that is full must not fail the call

    def _left_out(self, decision: Decision) -> None:
        key = (decision.kind, decision.name)
        with self._lock:
            last, omitted = self._told.get(key, (self._clock.monotonic(), 0))
            self._told[key] = (last, omitted + 1)

    def _omitted(self, decision: Decision) -> int | None:
        """How many were left out before this one; ``None`` if this one is, too."""
        now = self._clock.monotonic()
        key = (decision.kind, decision.name)
        with self._lock:
            last, omitted = self._told.get(key, (None, 0))
            if last is not None and now - last < INTERVAL:
                self._told[key] = (last, omitted + 1)
                return None
            self._told[key] = (now, 0)
            return omitted
