"""Requests and responses: replies, faults, time limits, and what is left behind."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from conftest import GUARD, Gate
from tiebeam import Event, EventBus
from tiebeam.exceptions import (
    ClosedError,
    MailboxFull,
    NoResponder,
    PayloadError,
    RequestFault,
    RequestTimeout,
    TimeoutExceeded,
)


def test_a_request_is_answered(bus: EventBus) -> None:
    bus.respond("math.double", lambda event: {"result": event.payload["n"] * 2})
    assert bus.request("math.double", {"n": 21}).wait(GUARD) == {"result": 42}


def test_replies_are_values_of_their_own(bus: EventBus) -> None:
    reply = {"list": [1]}
    bus.respond("r", lambda _event: reply)
    first = bus.request("r").wait(GUARD)
    first["list"].append(2)
    assert bus.request("r").wait(GUARD) == {"list": [1]}


def test_an_async_responder_and_requests_side_by_side(run: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:

            @bus.respond("double", concurrency=100)
            async def double(event: Event) -> Any:
                await asyncio.sleep(0)
                return event.payload["n"] * 2

            replies = await asyncio.gather(
                *(self_await(bus.request("double", {"n": n})) for n in range(300))
            )
            assert replies == [n * 2 for n in range(300)]
            assert bus.books().pending_requests == 0

    async def self_await(request: Any) -> Any:
        return await request

    run(main())


def test_a_request_inside_a_responder(run: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:

            async def outer(event: Event) -> Any:
                return 1 + await bus.request("inner", event.payload)

            bus.respond("outer", outer)
            bus.respond("inner", lambda event: event.payload["n"])
            assert await bus.request("outer", {"n": 1}) == 2

    run(main())


def test_responders_share_the_requests(bus: EventBus) -> None:
    for name in ("one", "two", "three"):
        bus.respond("who", lambda _event, name=name: name, name=name)
    replies = [bus.request("who").wait(GUARD) for _ in range(9)]
    assert sorted(replies) == ["one"] * 3 + ["three"] * 3 + ["two"] * 3


def test_nobody_to_answer(bus: EventBus) -> None:
    with pytest.raises(NoResponder, match=r"nobody responds to `a\.b`"):
        bus.request("a.b")
    bus.subscribe("a.b", print)  # a subscriber is no responder
    bus.handle("a.c", print)  # nor is the handler of a command
    for event_type in ("a.b", "a.c"):
        with pytest.raises(NoResponder):
            bus.request(event_type)
    responder = bus.respond("orders.get", print)
    with pytest.raises(NoResponder, match=r"did you mean `orders\.get`"):
        bus.request("order.get")
    responder.cancel()
    with pytest.raises(NoResponder):
        bus.request("orders.get")
    assert bus.books().pending_requests == 0


def test_the_responders_error_reaches_the_requester(bus: EventBus) -> None:
    calls: list[Event] = []

    def broken(event: Event) -> Any:
        calls.append(event)
        raise ConnectionError("database is down")

    bus.respond("r", broken, name="mine")
    with pytest.raises(RequestFault, match="ConnectionError: database is down") as caught:
        bus.request("r").wait(GUARD)
    fault = caught.value
    assert (fault.remote_type, fault.remote_message) == ("ConnectionError", "database is down")
    assert "in broken" in fault.remote_traceback
    assert fault.category == "transient"
    assert len(calls) == 1  # the requester decides about another attempt
    assert len(bus.dead_letters) == 0


@pytest.mark.parametrize("reply", [object(), float("nan"), {1: 2}, b"x"])
def test_a_reply_that_is_no_payload_is_a_fault(bus: EventBus, reply: Any) -> None:
    bus.respond("r", lambda _event: reply)
    with pytest.raises(RequestFault, match="PayloadError: reply"):
        bus.request("r").wait(GUARD)


def test_a_request_that_is_no_payload_is_refused(bus: EventBus) -> None:
    bus.respond("r", print)
    with pytest.raises(PayloadError):
        bus.request("r", {"x": object()})
    assert bus.books().pending_requests == 0


def test_a_late_reply_is_counted_and_goes_nowhere(bus: EventBus, gate: Gate) -> None:
    def slow(event: Event) -> Any:
        if event.payload["n"] == 0:
            gate.pass_through()
        return event.payload["n"]

    bus.respond("r", slow)
    with pytest.raises(RequestTimeout, match="no reply to `r`") as caught:
        bus.request("r", {"n": 0}, timeout=0.02).wait(GUARD)
    assert isinstance(caught.value, TimeoutError)
    assert bus.books().pending_requests == 0
    gate.open()
    assert bus.request("r", {"n": 1}).wait(GUARD) == 1
    bus.drain_sync(GUARD)
    assert bus.books().late_replies == 1


def test_the_time_limit_is_the_requests_deadline(bus: EventBus, gate: Gate) -> None:
    deadlines: list[int | None] = []
    seen: list[int] = []

    def responder(event: Event) -> None:
        deadlines.append(event.deadline)
        seen.append(event.payload["n"])
        gate.pass_through()

    bus.respond("r", responder, name="mine")
    first = bus.request("r", {"n": 0}, timeout=GUARD)
    gate.wait_entered()
    with pytest.raises(RequestTimeout):
        bus.request("r", {"n": 1}, timeout=0.01).wait()
    gate.open()
    first.wait()
    bus.drain_sync(GUARD)
    assert deadlines[0] is not None
    assert seen == [0]  # nobody waited for the second any more
    assert bus.books()["mine"].expired == 1


def test_giving_up_leaves_nothing_behind(run: Any) -> None:
    async def main() -> None:
        entered = asyncio.Event()
        door = asyncio.Event()
        async with EventBus() as bus:

            async def slow(_event: Event) -> None:
                entered.set()
                await door.wait()

            bus.respond("r", slow, concurrency=3)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(bus.request("r"), 0.01)
            assert bus.books().pending_requests == 0
            entered.clear()
            task = asyncio.ensure_future(wrap(bus.request("r")))
            await asyncio.sleep(0)  # the task waits for the reply
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert bus.books().pending_requests == 0
            dropped = bus.request("r")
            assert bus.books().pending_requests == 1
            del dropped
            assert bus.books().pending_requests == 0
            door.set()
            await bus.drain()
            assert bus.books().late_replies == 3

    async def wrap(request: Any) -> Any:
        return await request

    run(main())


def test_waiting_in_a_thread_has_its_own_limit(bus: EventBus, gate: Gate) -> None:
    bus.respond("r", gate.pass_through)
    with pytest.raises(TimeoutExceeded):
        bus.request("r").wait(0.01)
    assert bus.books().pending_requests == 0


def test_requests_at_a_full_mailbox_wait_in_line(bus: EventBus, gate: Gate) -> None:
    with EventBus(capacity=1) as small:

        def slow(event: Event) -> Any:
            gate.pass_through()
            return event.payload["n"]

        small.respond("r", slow, name="mine")
        requests = [small.request("r", {"n": 0})]
        gate.wait_entered()
        requests += [small.request("r", {"n": n}) for n in (1, 2)]
        with pytest.raises(RequestTimeout):
            small.request("r", {"n": 3}, timeout=0.01).wait()
        gate.open()
        assert [request.wait(GUARD) for request in requests] == [0, 1, 2]
        assert small.books()["mine"].dropped == 1
        assert small.books().balanced


def test_requests_at_a_mailbox_that_fails(gate: Gate) -> None:
    with EventBus(capacity=1, overflow="fail") as bus:
        bus.respond("r", gate.pass_through)
        first = bus.request("r")
        gate.wait_entered()
        second = bus.request("r")
        with pytest.raises(MailboxFull):
            bus.request("r")
        assert bus.books().pending_requests == 2
        gate.open()
        first.wait(GUARD)
        second.wait(GUARD)


def test_the_end_of_a_responder_answers_who_waits(bus: EventBus, gate: Gate) -> None:
    responder = bus.respond("r", gate.pass_through)
    first = bus.request("r")
    gate.wait_entered()
    second = bus.request("r", timeout=GUARD)
    responder.cancel()
    with pytest.raises(RequestFault, match="cancelled before"):
        second.wait()
    gate.open()
    assert first.wait(GUARD) is None  # what had begun goes on


def test_the_end_of_a_bus_answers_who_waits(gate: Gate) -> None:
    bus = EventBus()
    bus.respond("r", gate.pass_through)
    request = bus.request("r", timeout=GUARD)
    gate.wait_entered()
    outcome: list[BaseException] = []

    def wait() -> None:
        try:
            request.wait()
        except BaseException as error:
            outcome.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    bus.close_sync(0)
    waiter.join(GUARD)
    assert isinstance(outcome[0], ClosedError)
    gate.open()
    with pytest.raises(ClosedError):
        bus.request("r")


def test_lineage_of_requests(bus: EventBus) -> None:
    seen: list[Event] = []

    def outer(event: Event) -> Any:
        seen.append(event)
        return bus.request("inner").wait(GUARD)

    bus.respond("outer", outer)
    bus.respond("inner", seen.append)
    bus.request("outer", correlation_id="chain", timeout=100).wait()
    first, second = seen
    assert second.correlation_id == "chain"
    assert second.causation_id == first.event_id
    assert second.deadline is not None
    assert first.deadline is not None
    assert second.deadline <= first.deadline


def test_a_responder_that_is_cancelled_before_its_task_goes_on_with_it(run: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:
            tasks: list[Any] = []
            never, second = asyncio.Event(), asyncio.Event()

            async def stubborn(_event: Event) -> str:
                tasks.append(asyncio.current_task())
                try:
                    await never.wait()
                except asyncio.CancelledError:
                    await second.wait()
                return "went on"

            bus.respond("q", stubborn)
            reply = bus.request("q")
            (task,) = tasks
            assert task is not asyncio.current_task()
            task.cancel()
            await asyncio.sleep(0)
            second.set()
            assert await asyncio.wait_for(reply, GUARD) == "went on"

    run(main())


def test_a_responder_that_leaves_in_the_middle_of_a_request_leaves_no_task(run: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:

            async def leaves(_event: Event) -> None:
                raise SystemExit(3)

            async def answers(_event: Event) -> int:
                return 1

            bus.respond("leave", leaves)
            bus.respond("q", answers)
            assert await bus.request("q") == 1
            before = asyncio.all_tasks()
            for _ in range(3):
                me = asyncio.current_task()
                with pytest.raises(SystemExit):
                    bus.request("leave")
                assert asyncio.current_task() is me
            assert asyncio.all_tasks() == before
            assert await bus.request("q") == 1

    run(main())


def test_requests_in_a_row_leave_the_loop_its_turns(run: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:

            async def answer(event: Event) -> int:
                if event.payload["n"] < 0:
                    raise ValueError("negative")
                return int(event.payload["n"])

            bus.respond("q", answer)
            turns, going = 0, True

            async def other() -> None:
                nonlocal turns
                while going:
                    turns += 1
                    await asyncio.sleep(0)

            task = asyncio.create_task(other())

            async def ask(count: int) -> None:
                for n in range(count):
                    assert await bus.request("q", {"n": n}) == n

            await ask(1_000)
            assert turns >= 10
            # However many ask: all of them together have so many in a row.
            before = turns
            await asyncio.gather(*(ask(100) for _ in range(64)))
            assert turns - before >= 6
            before = turns
            for _ in range(640):
                with pytest.raises(RequestFault):
                    await bus.request("q", {"n": -1})
            assert turns - before >= 6
            going = False
            await task
            assert bus.books().total.published == 1_000 + 6_400 + 640

    run(main())


def test_what_an_inline_responder_publishes_is_handled_by_the_loop(run: Any) -> None:
    async def main() -> None:
        async with EventBus() as bus:
            seen: list[str] = []
            pending: list[Any] = []

            async def listener(event: Event) -> None:
                seen.append(event.event_type)

            async def other(_event: Event) -> int:
                return 2

            def inline(event: Event) -> int:
                bus.publish("x", event.payload)
                pending.append(bus.request("other"))
                bus.publish("x", event.payload)
                return 5

            bus.subscribe("x", listener)
            bus.respond("other", other)
            bus.respond("q", inline, run_in="inline")
            for n in range(3):
                reply = bus.request("q", {"n": n})
                assert seen == ["x"] * (2 * n)  # they have their turn with the loop
                assert await reply == 5
                await bus.drain()
            assert [await reply for reply in pending] == [2] * 3
            assert seen == ["x"] * 6

    run(main())
