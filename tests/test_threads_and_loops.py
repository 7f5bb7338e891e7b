"""Many threads, several loops, uvloop, and loops that are closed too early."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
import weakref
from typing import Any

import pytest
from conftest import FAST, GUARD, Gate
from tiebeam import Event, EventBus
from tiebeam.exceptions import ClosedError, RequestFault

uvloop = pytest.importorskip("uvloop")


def wait_until(condition: Any) -> None:
    """For what no event tells; the loops it waits for are gone."""
    end = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.001)


def start(*targets: Any) -> None:
    """Run each target on a thread of its own, and wait for all; what one raises is raised."""
    errors: list[BaseException] = []

    def guarded(target: Any) -> None:
        try:
            target()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD * 2)
        assert not thread.is_alive()
    for error in errors:
        raise error


def test_eight_threads_publish_and_nothing_is_missing(run: Any) -> None:
    async def main() -> None:
        seen: dict[str, list[tuple[int, int]]] = {}
        async with EventBus(capacity=100) as bus:

            def listen(name: str) -> None:
                mine: list[tuple[int, int]] = seen.setdefault(name, [])

                def sync_handler(event: Event) -> None:
                    mine.append((event.payload["thread"], event.payload["n"]))

                async def async_handler(event: Event) -> None:
                    sync_handler(event)
                    if event.payload["n"] % 7 == 0:
                        await asyncio.sleep(0)

                is_async = name.startswith("async")
                bus.subscribe("load.#", async_handler if is_async else sync_handler, name=name)

            for n in range(5):
                listen(f"async{n}")
                listen(f"thread{n}")

            def publish(thread: int) -> None:
                for n in range(300):
                    bus.publish(f"load.{n % 3}", {"thread": thread, "n": n}).wait(GUARD)

            await asyncio.to_thread(start, *(lambda t=t: publish(t) for t in range(8)))
            await bus.drain()
            for name, mine in seen.items():
                assert len(mine) == 2400, name
                for thread in range(8):
                    assert [n for t, n in mine if t == thread] == list(range(300)), name
            assert bus.books().balanced
            assert bus.books().total.delivered == 24_000

    run(main())


def test_each_handler_runs_on_the_loop_it_was_subscribed_on() -> None:
    bus = EventBus()
    ready = threading.Barrier(4, timeout=GUARD)
    seen: dict[int, list[tuple[int, int]]] = {}

    def loop_thread(number: int) -> None:
        async def main() -> None:
            done = asyncio.Event()
            mine = seen.setdefault(number, [])

            async def handler(event: Event) -> None:
                await asyncio.sleep(0)
                mine.append((threading.get_ident(), event.payload["n"]))
                if len(mine) == 200:
                    done.set()

            bus.subscribe("a", handler, name=f"loop{number}")
            await asyncio.to_thread(ready.wait)
            await asyncio.wait_for(done.wait(), GUARD)
            assert {thread for thread, _ in mine} == {threading.get_ident()}

        asyncio.run(main())

    def publisher() -> None:
        ready.wait()
        for n in range(200):
            bus.publish("a", {"n": n})

    start(publisher, *(lambda number=number: loop_thread(number) for number in range(3)))
    for mine in seen.values():
        assert [n for _, n in mine] == list(range(200))
    bus.close_sync(0)
    assert bus.books().balanced


def test_requests_from_loop_to_loop() -> None:
    bus = EventBus()
    ready, finished = threading.Event(), threading.Event()

    def server() -> None:
        async def main() -> None:
            async def answer(event: Event) -> Any:
                await asyncio.sleep(0)
                return event.payload["n"] + 1

            bus.respond("r", answer, concurrency=10)
            ready.set()
            await asyncio.to_thread(finished.wait)

        asyncio.run(main())

    def client() -> None:
        async def main() -> None:
            for n in range(100):
                assert await bus.request("r", {"n": n}) == n + 1

        assert ready.wait(GUARD)
        asyncio.run(main())

    def plain_client() -> None:
        assert ready.wait(GUARD)
        for n in range(100):
            assert bus.request("r", {"n": n}).wait(GUARD) == n + 1

    def clients() -> None:
        try:
            start(client, plain_client)
        finally:
            finished.set()

    start(server, clients)
    bus.close_sync(0)


def test_a_bus_without_any_loop(bus: EventBus) -> None:
    seen: list[tuple[str, int]] = []

    async def handler(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append((threading.current_thread().name, event.payload["n"]))

    bus.subscribe("a", handler)
    bus.respond("r", lambda event: event.payload["n"])
    for n in range(50):
        bus.publish("a", {"n": n})
    bus.drain_sync(GUARD)
    assert seen == [("tiebeam-loop", n) for n in range(50)]
    assert bus.request("r", {"n": 1}).wait(GUARD) == 1


def test_the_loop_of_our_own_ends_with_its_bus() -> None:
    async def handler(_event: Event) -> None:
        await asyncio.Event().wait()

    before = set(threading.enumerate())
    bus = EventBus()
    bus.subscribe("a", handler)
    bus.subscribe("a", lambda _event: None)
    bus.publish("a")
    bus.close_sync(0)
    wait_until(lambda: set(threading.enumerate()) <= before)
    assert bus.books().balanced


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_every_kind_of_loop(factory: Any) -> None:
    async def main() -> None:
        seen: list[int] = []
        async with EventBus() as bus:

            async def handler(event: Event) -> None:
                await asyncio.sleep(0.001 if event.payload["n"] % 10 == 0 else 0)
                seen.append(event.payload["n"])
                if event.payload["n"] == 99:
                    raise ConnectionError("once")

            async def hangs(_event: Event) -> None:
                await asyncio.Event().wait()

            bus.subscribe("a", handler, retry=False)
            bus.subscribe("b", hangs, timeout=0.01, retry=False)
            bus.respond("r", lambda event: event.payload["n"])
            for n in range(100):
                await bus.publish("a", {"n": n})
            await bus.publish("b")
            await asyncio.to_thread(lambda: [bus.publish("a", {"n": n}) for n in range(100, 200)])
            assert await bus.request("r", {"n": 5}) == 5
            await bus.drain()
            assert seen == list(range(200))
            assert sorted(letter.error_type for letter in bus.dead_letters.list()) == [
                "ConnectionError",
                "TimeoutError",
            ]

    loop = factory()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), GUARD))
    finally:
        loop.close()


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("from_thread", [False, True])
def test_a_loop_closed_between_subscribe_and_delivery(factory: Any, from_thread: bool) -> None:
    bus = EventBus()
    orphaned: list[dict[str, Any]] = []
    bus.subscribe("system.subscription_orphaned", lambda event: orphaned.append(event.payload))

    async def handler(_event: Event) -> None: ...

    async def main() -> Any:
        return bus.subscribe("a", handler, name="mine")

    loop = factory()
    subscription = loop.run_until_complete(main())
    loop.close()

    def publish() -> None:
        for n in range(3):
            bus.publish("a", {"n": n})

    start(publish) if from_thread else publish()
    wait_until(lambda: len(bus.dead_letters) + bus.books().total.published >= 3)
    bus.drain_sync(GUARD)
    assert subscription.status == "orphaned"
    letters = bus.dead_letters.list()
    kept = [letter.event.payload["n"] for letter in letters]
    assert kept == list(range(len(kept)))  # those published before it was noticed
    assert kept
    assert {letter.reason for letter in letters} == {"orphaned"}
    assert [report["subscription"] for report in orphaned] == ["mine"]
    bus.publish("a")  # nobody is left
    assert bus.dead_letters.replay() == 0
    seen: list[int] = []
    bus.subscribe("a", lambda event: seen.append(event.payload["n"]), name="mine")
    assert bus.dead_letters.replay() == len(kept)
    bus.drain_sync(GUARD)
    assert seen == kept
    bus.close_sync(0)
    assert bus.books().balanced


def test_a_loop_closed_while_busy_and_published_to() -> None:
    """The wake-up comes while the loop is blocked, and it is closed before it looks."""
    bus = EventBus()
    blocked, published = threading.Event(), threading.Event()

    async def handler(_event: Event) -> None: ...

    def owner() -> None:
        loop = asyncio.new_event_loop()

        async def main() -> None:
            bus.subscribe("a", handler, name="mine")
            blocked.set()
            assert published.wait(GUARD)  # blocks the loop on purpose

        loop.run_until_complete(main())
        time.sleep(1.5)  # longer than a wake-up is given before somebody looks at the loop
        loop.close()

    def publisher() -> None:
        assert blocked.wait(GUARD)
        bus.publish("a")
        published.set()

    start(owner, publisher)
    wait_until(lambda: len(bus.dead_letters) == 1)
    bus.drain_sync(GUARD)
    bus.close_sync(0)
    assert bus.books().balanced


def test_handlers_suspended_when_their_loop_closes() -> None:
    bus = EventBus()
    begun: list[int] = []
    cancelled: list[int] = []
    three = asyncio.Event()

    async def handler(event: Event) -> None:
        begun.append(event.payload["n"])
        if len(begun) == 3:
            three.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(event.payload["n"])
            raise

    async def main() -> None:
        bus.subscribe("a", handler, concurrency=3, name="mine", retry=FAST)
        for n in range(5):
            await bus.publish("a", {"n": n})
        await three.wait()

    asyncio.run(main())
    gc.collect()
    assert sorted(cancelled[:3]) == [0, 1, 2]
    wait_until(lambda: bus.books().total.in_flight == 0)
    assert sorted(letter.event.payload["n"] for letter in bus.dead_letters.list()) == list(range(5))
    bus.close_sync(0)
    assert bus.books().balanced


def test_a_retry_that_comes_due_after_its_loop_has_closed() -> None:
    bus = EventBus()
    failed: list[int] = []
    both = asyncio.Event()

    async def handler(event: Event) -> None:
        failed.append(event.payload["n"])
        if len(failed) == 2:
            both.set()
        raise ConnectionError("x")

    async def main() -> None:
        retry = {"max_attempts": 3, "initial_delay": 0.05, "jitter": "none"}
        bus.subscribe("a", handler, name="mine", retry=retry)
        for n in range(2):
            await bus.publish("a", {"n": n})
        await both.wait()

    asyncio.run(main())
    bus.drain_sync(GUARD)
    assert [letter.reason for letter in bus.dead_letters.list()] == ["orphaned", "orphaned"]
    bus.close_sync(0)
    assert bus.books().balanced


def test_a_responder_whose_loop_is_gone_answers(bus: EventBus) -> None:
    async def responder(_event: Event) -> None: ...

    async def main() -> None:
        bus.respond("r", responder)

    asyncio.run(main())
    with pytest.raises(RequestFault, match="loop"):
        bus.request("r", timeout=GUARD).wait()


def test_a_loop_that_runs_again_and_again() -> None:
    bus = EventBus()
    seen: list[int] = []
    loop = asyncio.new_event_loop()

    async def handler(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append(event.payload["n"])

    async def subscribe() -> None:
        bus.subscribe("a", handler)

    async def drain() -> None:
        await bus.drain()

    loop.run_until_complete(subscribe())
    for n in range(20):
        bus.publish("a", {"n": n})  # while it does not run
        start(lambda n=n: bus.publish("b", {"n": n}))
        loop.run_until_complete(asyncio.wait_for(drain(), GUARD))
    assert seen == list(range(20))
    bus.close_sync(0)
    loop.close()


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_loops_leave_no_descriptors_behind() -> None:
    async def main() -> None:
        async with EventBus() as bus:

            async def handler(_event: Event) -> None:
                await asyncio.sleep(0)

            bus.subscribe("a", handler)
            await bus.publish("a")
            await bus.drain()

    def count() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    for _ in range(3):
        asyncio.run(main())
    before = count()
    for _ in range(100):
        asyncio.run(main())
    assert count() <= before + 3


def test_awaiting_from_several_loops(run: Any) -> None:
    """Each publisher waits for room on its own loop; the mailbox belongs to a third."""
    gate = Gate()
    seen: list[int] = []

    def handler(event: Event) -> None:
        gate.pass_through()
        seen.append(event.payload["n"])

    with EventBus() as bus:
        bus.subscribe("a", handler, capacity=1)

        def publisher(base: int) -> Any:
            async def main() -> None:
                for n in range(20):
                    await bus.publish("a", {"n": base + n})

            return lambda: asyncio.run(asyncio.wait_for(main(), GUARD))

        bus.publish("a", {"n": -1})
        gate.wait_entered()
        opener = threading.Timer(0.01, gate.open)
        opener.start()
        start(publisher(100), publisher(200), publisher(300))
        bus.drain_sync(GUARD)
        opener.join()
        assert sorted(seen) == sorted(
            [-1, *(base + n for base in (100, 200, 300) for n in range(20))]
        )
        for base in (100, 200, 300):
            mine = [n for n in seen if base <= n < base + 100]
            assert mine == sorted(mine)


def test_threads_that_do_everything_at_once() -> None:
    """No deadlock between the GIL and the core's locks, and balanced books in the end."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    bus = EventBus(capacity=50, overflow="drop_oldest")
    stop = time.monotonic() + 2.0

    def work(number: int) -> None:
        n = 0
        while time.monotonic() < stop:
            n += 1
            subscription = bus.subscribe("a.*", lambda event: event.payload, name=f"s{number}")
            for _ in range(20):
                bus.publish(f"a.{number}", {"n": n})
            with bus.subscribe("a.#", lambda event: None, run_in="inline"):
                bus.publish("a.inline", {"n": n})
            assert bus.books().balanced, str(bus.books())
            bus.explain("a.b")
            repr(bus)
            subscription.cancel()

    try:
        start(*(lambda number=number: work(number) for number in range(8)))
        bus.drain_sync(GUARD)
    finally:
        sys.setswitchinterval(interval)
    bus.close_sync(0)
    assert bus.books().balanced


def test_closing_while_others_publish() -> None:
    for _ in range(20):
        bus = EventBus()
        bus.subscribe("a", lambda event: None)
        begun = threading.Barrier(4, timeout=GUARD)

        def publish_on(bus: EventBus = bus) -> None:
            while True:
                bus.publish("a").wait(GUARD)

        def publish(begun: threading.Barrier = begun, on: Any = publish_on) -> None:
            begun.wait()
            with pytest.raises(ClosedError):
                on()

        def close(bus: EventBus = bus, begun: threading.Barrier = begun) -> None:
            begun.wait()
            bus.publish("a").wait(GUARD)
            bus.close_sync(GUARD)

        start(publish, publish, publish, close)
        assert bus.books().balanced


@pytest.mark.parametrize("ending", ["bus closed", "bus dropped", "bus kept"])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_is_closed_by_hand_is_not_kept(new_loop: Any, ending: str) -> None:
    """Nobody cancels the tasks that sleep there, as `asyncio.run` would."""

    async def work(bus: EventBus) -> None:
        async def waits(_event: Event) -> int:
            await asyncio.sleep(0)
            return 1

        bus.subscribe("a", waits)
        bus.respond("q", waits)
        await bus.publish("a")
        assert await bus.request("q") == 1
        await bus.drain()
        if ending == "bus closed":
            await bus.close()

    def once() -> tuple[weakref.ref[Any], EventBus]:
        loop, bus = new_loop(), EventBus()
        loop.run_until_complete(work(bus))
        loop.close()
        return weakref.ref(loop), bus

    def dead() -> bool:
        gc.collect()
        return all(reference() is None for reference in references)

    references, buses = [], []
    for _ in range(3):
        reference, bus = once()
        references.append(reference)
        if ending == "bus kept":
            buses.append(bus)
            bus.publish("a")  # whoever publishes next finds the loop closed
        del bus
    wait_until(dead)
    for bus in buses:
        bus.close_sync(0)
