"""The waits of a handler's retries may be any backoff."""

from __future__ import annotations

from typing import Any

import pytest
from tiebeam import EventBus, TransientError
from tiebeam.resilience import Backoff
from tiebeam.testing import TestBus


async def test_a_handler_waits_as_its_backoff_says(
    tiebeam_bus: TestBus, tiebeam_clock: Any
) -> None:
    at: list[float] = []
    waits = Backoff.sequence([1, 5, 20], jitter="none")

    @tiebeam_bus.subscribe("order.made", retry={"max_attempts": 5, "backoff": waits})
    async def send(event: Any) -> None:
        at.append(tiebeam_clock.monotonic())
        raise TransientError("not now")

    await tiebeam_bus.publish("order.made", {})
    await tiebeam_bus.advance(100)
    assert at == [0, 1, 6, 26, 46]


@pytest.mark.parametrize(
    ("retry", "said"),
    [
        ({"backoff": Backoff.constant(1), "jitter": "none"}, "`backoff` has its own jitter"),
        ({"backoff": 3}, "backoff is a tiebeam.resilience.Backoff, got <class 'int'>"),
        ({"back_off": Backoff.constant(1)}, 'did you mean "backoff"'),
    ],
)
def test_what_does_not_go_together_is_refused(bus: EventBus, retry: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        bus.subscribe("order.made", print, retry=retry)
