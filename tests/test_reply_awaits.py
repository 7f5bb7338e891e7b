"""How the reply to a request is awaited: once, as what it is, on whichever loop waits."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import Event, EventBus


def test_a_request_is_awaited_once(run: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:
            bus.respond("r", lambda _event: 1)
            request = bus.request("r")
            assert await request == 1
            with pytest.raises(RuntimeError, match="awaited already"):
                await request

    run(main())


@pytest.mark.parametrize("reply", [None, False, 0, "", "text", [], [1], {"a": [None]}, 2.5])
def test_a_reply_is_what_the_responder_returned(run: Any, reply: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:

            async def quick(_event: Event) -> Any:
                return reply

            async def slow(_event: Event) -> Any:
                await asyncio.sleep(0)
                return reply

            bus.respond("quick", quick)
            bus.respond("slow", slow)
            kept = []
            for kind in ["quick", "slow"] * 3:
                pending = bus.request(kind)
                kept.append(pending)
                came = await pending
                assert came == reply
                assert type(came) is type(reply)
                with pytest.raises(RuntimeError, match="awaited already"):
                    await pending
            assert len({pending.event_id for pending in kept}) == len(kept)

    run(main())


def test_the_iterator_of_an_await_ends_once(run: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:

            async def answer(_event: Event) -> str:
                return "here"

            bus.respond("q", answer)
            first, second = (bus.request("q").__await__() for _ in range(2))
            with pytest.raises(StopIteration) as ended:
                next(second)
            assert ended.value.value == "here"
            with pytest.raises(StopIteration) as ended:
                next(first)
            assert ended.value.value == "here"
            with pytest.raises(RuntimeError, match="awaited already"):
                next(first)

    run(main())


def test_an_await_that_is_ended_from_outside_forgets_its_request(run: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:
            door = asyncio.Event()

            async def slow(_event: Event) -> int:
                await door.wait()
                return 1

            bus.respond("r", slow, concurrency=4)
            pending = bus.request("r")
            with pytest.raises(TypeError, match="to be awaited"):
                next(pending)
            awaiting = pending.__await__()
            assert asyncio.isfuture(next(awaiting))
            assert bus.books().pending_requests == 1
            with pytest.raises(KeyError, match="outside"):
                awaiting.throw(KeyError("outside"))
            assert bus.books().pending_requests == 0
            with pytest.raises(RuntimeError, match="awaited already"):
                next(awaiting)

            closed = bus.request("r").__await__()
            next(closed)
            closed.close()
            closed.close()
            assert bus.books().pending_requests == 0
            door.set()
            await bus.drain()
            assert bus.books().late_replies == 2
            assert await bus.request("r") == 1

    run(main())


def test_replies_that_an_exception_would_take_apart(run: Any) -> None:
    """``StopIteration`` takes a tuple for its arguments, and an exception for itself."""

    async def main() -> None:
        async with EventBus() as bus:

            async def slow(_event: Event) -> tuple[int, int]:
                await asyncio.sleep(0)
                return (1, 2)

            bus.respond("slow", slow)
            bus.respond("quick", lambda _event: (1, 2))
            for kind in ["slow", "quick", "slow"]:
                assert await bus.request(kind) == [1, 2]  # tuples travel as lists

    run(main())


def test_replies_reach_whichever_loop_waits() -> None:
    """Loops come and go on a thread, and others are in the middle of a step meanwhile."""
    bus = EventBus()

    def answer(event: Event) -> int:
        return event.payload["n"] + 1

    bus.respond("r", answer, run_in="thread")

    async def ask(n: int) -> list[int]:
        return [await bus.request("r", {"n": n + turn}) for turn in range(20)]

    blocked, go_on = threading.Event(), threading.Event()

    async def block() -> list[int]:
        before = await ask(100)
        blocked.set()
        assert go_on.wait(GUARD)  # in the middle of a step, with the GIL let go
        return before + await ask(200)

    with ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            blocked.clear()
            go_on.clear()
            other = pool.submit(asyncio.run, block())
            assert blocked.wait(GUARD)
            for n in range(3):
                assert asyncio.run(ask(n)) == list(range(n + 1, n + 21))
            awaiting = bus.request("r", {"n": 0}).__await__()
            with pytest.raises(RuntimeError, match="no running event loop"):
                next(awaiting)
            go_on.set()
            assert other.result(GUARD) == [*range(101, 121), *range(201, 221)]
    bus.close_sync(1)


def test_a_loop_that_moved_to_another_thread_does_not_run_here() -> None:
    bus = EventBus()
    bus.respond("r", lambda _event: 1, run_in="thread")
    entered, go_on = threading.Event(), threading.Event()

    async def ask() -> int:
        return int(await bus.request("r"))

    async def block() -> None:
        entered.set()
        assert go_on.wait(GUARD)  # in the middle of a step, with the GIL let go

    event_loop = asyncio.new_event_loop()
    assert event_loop.run_until_complete(ask()) == 1  # here
    with ThreadPoolExecutor(1) as pool:
        moved = pool.submit(event_loop.run_until_complete, block())
        assert entered.wait(GUARD)
        with pytest.raises(RuntimeError, match="no running event loop"):
            next(bus.request("r").__await__())
        go_on.set()
        moved.result(GUARD)
    assert event_loop.run_until_complete(ask()) == 1
    event_loop.close()
    bus.close_sync(1)
