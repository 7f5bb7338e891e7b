"""One request to many: the first replies, a quorum, and too few."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conftest import GUARD, Gate
from tiebeam import Event, EventBus
from tiebeam.exceptions import (
    ConfigurationError,
    NoResponder,
    RequestFault,
    RequestTimeout,
    TransientError,
    WouldDeadlock,
)
from tiebeam.testing import TestBus, run


def responders(bus: EventBus, *delays: float | Exception) -> None:
    """One for each: it answers its number after so many seconds, or fails."""
    for number, delay in enumerate(delays):

        async def answer(_event: Event, number: int = number, delay: Any = delay) -> int:
            if isinstance(delay, Exception):
                raise delay
            await asyncio.sleep(delay)
            return number

        bus.respond("quote", answer, name=f"r{number}")


def test_the_first_replies_in_the_order_of_arrival() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            responders(bus, 3, 1, 2)
            assert await bus.request("quote", n=3, timeout=10) == [1, 2, 0]
            assert await bus.request("quote", n=2, timeout=10) == [1, 2]
            assert bus.books().late_replies == 0
            await bus.advance(5)
            assert bus.books().late_replies == 1
            assert bus.books().pending_requests == 0
            assert len(bus.published("quote")) == 0  # requests are no broadcasts
            assert bus.books().events == 2

    run(main())


def test_a_quorum_is_enough_at_the_time_limit() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            responders(bus, 1, 20, 2)
            began = asyncio.get_running_loop().time()
            assert await bus.request("quote", n=3, quorum=2, timeout=10) == [0, 2]
            assert asyncio.get_running_loop().time() - began == pytest.approx(10)

    run(main())


def test_too_few_in_time() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            responders(bus, 1, 20, ValueError("no price"))
            with pytest.raises(
                RequestTimeout,
                match=r"1 of the 2 replies that `quote` needs came within 10s, and 1 responder",
            ) as caught:
                await bus.request("quote", n=3, quorum=2, timeout=10)
            assert caught.value.replies == 1
            assert caught.value.__notes__ == ["also: ValueError: no price"]
            await bus.advance(20)
            assert bus.books().late_replies == 1

    run(main())


def test_a_quorum_that_cannot_be_reached_is_a_fault_at_once() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            responders(bus, 9, ValueError("one"), TransientError("two"))
            began = asyncio.get_running_loop().time()
            with pytest.raises(RequestFault, match="ValueError: one") as caught:
                await bus.request("quote", n=2, timeout=10)
            assert asyncio.get_running_loop().time() == began
            assert caught.value.remote_type == "ValueError"
            assert caught.value.category == "permanent"
            assert caught.value.__notes__ == [
                "2 of 3 responders failed; 2 replies were needed, and 0 had come",
                "also: TransientError: two",
            ]

    run(main())


def test_when_all_have_answered_nobody_waits_for_the_time_limit() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            responders(bus, 1, ValueError("one"), 2)
            began = asyncio.get_running_loop().time()
            assert await bus.request("quote", n=3, quorum=1, timeout=10) == [0, 2]
            assert asyncio.get_running_loop().time() - began == pytest.approx(2)

    run(main())


def test_more_than_there_are(bus: EventBus) -> None:
    with pytest.raises(NoResponder, match="nobody responds to `quote`"):
        bus.request("quote", n=2)
    responders(bus, 0)
    with pytest.raises(NoResponder, match=r"n is 2, but `quote` has 1 responder") as caught:
        bus.request("quote", n=2)
    assert (caught.value.context["n"], caught.value.context["responders"]) == ("2", "1")
    assert bus.books().pending_requests == 0


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"n": 0}, ConfigurationError, "n must be at least 1, got 0"),
        ({"n": 2, "quorum": 3}, ConfigurationError, "quorum must be from 1 to n, which is 2"),
        ({"n": 2, "quorum": 0}, ConfigurationError, "quorum must be from 1 to n"),
        ({"quorum": 1}, ValueError, "give `n=` too"),
        ({"n": -1}, ConfigurationError, "n must be at least 1, got -1"),
    ],
)
def test_numbers_that_make_no_sense(bus: EventBus, how: Any, error: Any, said: str) -> None:
    responders(bus, 0, 0)
    with pytest.raises(error, match=said):
        bus.request("quote", **how)
    assert bus.books().pending_requests == 0


def test_giving_up_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            responders(bus, 5, 5)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(bus.request("quote", n=2), 1)
            assert bus.books().pending_requests == 0
            request = bus.request("quote", n=2)
            assert bus.books().pending_requests == 1
            del request
            assert bus.books().pending_requests == 0
            await bus.advance(11)
            assert bus.books().late_replies == 4
            assert bus.books().balanced

    run(main())


def test_a_thread_waits_for_many(bus: EventBus) -> None:
    responders(bus, 0, 0, 0)
    bus.respond("sync", lambda event: event.payload["n"])
    assert sorted(bus.request("quote", n=3).wait(GUARD)) == [0, 1, 2]
    assert bus.request("sync", {"n": 7}, n=1).wait(GUARD) == [7]

    async def main() -> None:
        async with EventBus() as own:
            responders(own, 0, 0)
            with pytest.raises(WouldDeadlock):
                own.request("quote", n=2).wait()

    asyncio.run(main())


def test_a_full_mailbox_waits_in_line(gate: Gate) -> None:
    with EventBus(capacity=1) as bus:
        bus.respond("quote", gate.pass_through, name="slow")
        busy = bus.request("quote", timeout=GUARD)
        gate.wait_entered()
        queued = bus.request("quote", timeout=GUARD)
        bus.respond("quote", lambda _event: "quick", name="quick")
        both = bus.request("quote", n=2, timeout=GUARD)
        given_up = bus.request("quote", n=2, timeout=GUARD)
        del given_up
        gate.open()
        assert sorted(map(str, both.wait())) == ["None", "quick"]
        assert (busy.wait(), queued.wait()) == (None, None)
        bus.drain_sync(GUARD)
        assert bus.books()["slow"].dropped == 1
        assert bus.books().balanced


def test_a_full_mailbox_that_fails_is_a_responder_that_failed(gate: Gate) -> None:
    with EventBus(capacity=1, overflow="fail") as bus:
        bus.respond("quote", gate.pass_through, name="slow")
        busy = bus.request("quote", timeout=GUARD)
        gate.wait_entered()
        queued = bus.request("quote", timeout=GUARD)
        bus.respond("quote", lambda _event: "quick", name="quick")
        assert bus.request("quote", n=2, quorum=1, timeout=GUARD).wait() == ["quick"]
        with pytest.raises(RequestFault, match="MailboxFull: slow: no room"):
            bus.request("quote", n=2).wait(GUARD)
        gate.open()
        assert (busy.wait(), queued.wait()) == (None, None)


def test_the_end_of_responders_is_a_failure(bus: EventBus, gate: Gate) -> None:
    first = bus.respond("quote", gate.pass_through, name="a")
    second = bus.respond("quote", gate.pass_through, name="b")
    busy = bus.request("quote", n=2, timeout=GUARD)
    gate.wait_entered(2)
    request = bus.request("quote", n=2, timeout=GUARD)
    first.cancel()
    second.cancel()
    with pytest.raises(RequestFault, match="cancelled before"):
        request.wait()
    gate.open()
    assert busy.wait() == [None, None]
