"""A broker that is killed under buses that are up, and comes back with what it had."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from brokers import rabbitmq_server, redis_server
from brokers.waiting import until
from tiebeam import Event, EventBus, TiebeamError

pytestmark = pytest.mark.broker

SETTLED = 3.0
"""RabbitMQ 3.10 does not start a quorum queue again that is younger than a second when it is
killed, and what it confirmed is gone: they are in use for so long first."""

SHARE = 100
"""So many events are accepted before the kill, and after it."""

BRIEF, LONG = 1.0, 25.0
"""How long requests wait: one that the loss outlasts, and one that outlasts the loss."""

ENDED = 20.0
"""Longer than all that is to come after the loss may take to come."""

GUARD = 90.0
"""Longer than all of it may take."""


@dataclass
class Loss:
    """What became of everything that was under way; times are those of one clock."""

    killed: float = 0.0
    up: float = 0.0
    accepted: list[int] = field(default_factory=list)
    accepted_since: int = 0
    handled: Counter[int] = field(default_factory=Counter)
    handled_later: Counter[int] = field(default_factory=Counter)
    news: list[int] = field(default_factory=list)
    orders: Counter[int] = field(default_factory=Counter)
    due: float = 0.0
    rung: list[tuple[int, float]] = field(default_factory=list)
    asked_before: Any = None
    asked_before_took: float = 0.0
    asked_meanwhile: Any = None
    asked_meanwhile_took: float = 0.0
    asked_after: Any = None
    troubles: list[str | None] = field(default_factory=list)
    noticed: list[str | None] = field(default_factory=list)
    unsent: int = -1


async def at_last(what: Callable[[], Any], end: float) -> None:
    """Wait for it, and leave it to the tests to say what is missing."""
    with contextlib.suppress(AssertionError):
        await until(what, end - time.time())


async def outcome(asking: Awaitable[Any]) -> tuple[Any, float]:
    """The reply, or the typed error, and how long it took."""
    begun = time.monotonic()
    try:
        got = await asyncio.wait_for(asking, LONG + ENDED)
    except TiebeamError as error:
        got = error
    except asyncio.TimeoutError:  # another class than TimeoutError in Python 3.10
        got = "it hangs"
    return got, time.monotonic() - begun


async def endure(server: Any, delay: float, settled: float) -> Loss:
    """Have everything under way, kill the broker, and look what becomes of it."""
    loss, gate, held = Loss(), asyncio.Event(), asyncio.Event()
    over = asyncio.Event()

    async def hold(event: Event) -> dict[str, int]:
        held.set()
        await gate.wait()
        return {"n": event.payload["n"] * 2}

    def order(event: Event) -> None:
        loss.orders[event.payload["n"]] += 1

    def later(event: Event) -> None:
        loss.handled_later[event.payload["n"]] += 1

    def ring(event: Event) -> None:
        loss.rung.append((event.payload["n"], time.time()))

    async with (
        EventBus("serves", url=server.url) as serves,
        EventBus("asks", url=server.url) as asks,
    ):
        serves.respond("price.get", lambda event: {"n": event.payload["n"] * 2})
        serves.respond("price.hold", hold)
        serves.subscribe("job.*", lambda e: loss.handled.update([e.payload["n"]]), group="workers")
        serves.subscribe("news.*", lambda e: loss.news.append(e.payload["n"]), broadcast=True)
        serves.subscribe("alarm.*", ring, group="alarms")
        await serves.ready()
        async with EventBus("clerk", url=server.url) as clerk:
            clerk.handle("order.place", order)
            clerk.subscribe("job.*", later, group="later")
            await clerk.ready()
            await asks.send("order.place", {"n": 0})
            await until(lambda: loss.orders[0])
        # Nobody is there for it now.
        await asks.send("order.place", {"n": 1})
        async with EventBus("gone", url=server.url) as gone:
            loss.due = time.time() + delay
            await gone.publish("alarm.ring", {"n": 1}, delay=delay)
        assert await asks.request("price.get", {"n": 1}, timeout=LONG) == {"n": 2}
        n, there = 0, time.monotonic()
        while time.monotonic() < there + settled:
            n -= 1
            await asks.publish("job.do", {"n": n})
        await until(lambda: len(loss.handled) == -n)

        async def publish_all_the_time() -> None:
            n = 0
            while not over.is_set():
                n += 1
                with contextlib.suppress(TiebeamError):
                    await asks.publish("job.do", {"n": n})
                    loss.accepted.append(n)
                    loss.accepted_since += loss.up > 0

        publishing = asyncio.create_task(publish_all_the_time())
        asked = asyncio.create_task(outcome(asks.request("price.hold", {"n": 2}, timeout=LONG)))
        await held.wait()
        await until(lambda: len(loss.accepted) >= SHARE)

        loss.killed = time.time()
        await asyncio.to_thread(server.kill)
        meanwhile = outcome(asks.request("price.get", {"n": 3}, timeout=BRIEF))
        loss.asked_meanwhile, loss.asked_meanwhile_took = await meanwhile
        await at_last(lambda: serves.trouble and asks.trouble, loss.killed + ENDED)
        loss.noticed = [serves.trouble, asks.trouble]
        await asyncio.to_thread(server.launch)
        loss.up = time.time()
        end = max(loss.up, loss.due) + ENDED

        await at_last(lambda: serves.trouble is None and asks.trouble is None, end)
        gate.set()
        for n in range(10):
            await asks.publish("news.flash", {"n": n})
        loss.asked_after, _ = await outcome(asks.request("price.get", {"n": 4}, timeout=10.0))
        async with EventBus("clerk", url=server.url) as clerk:
            clerk.handle("order.place", order)
            clerk.subscribe("job.*", later, group="later")
            await at_last(lambda: loss.orders[1], end)
            loss.asked_before, loss.asked_before_took = await asked
            await at_last(lambda: loss.accepted_since >= SHARE, end)
            over.set()
            await publishing
            await at_last(lambda: len(loss.news) >= 10, end)
            await at_last(lambda: loss.rung, end)
            # What comes twice would come by the time that something else does.
            await asks.publish("alarm.ring", {"n": 2}, delay=0.1)
            await asks.publish("job.do", {"n": 0})
            await at_last(lambda: (loss.rung or [(0, 0.0)])[-1][0] == 2, end)
            for done in (loss.handled, loss.handled_later):
                await at_last(lambda done=done: {0, *loss.accepted} <= set(done), end)  # type: ignore[misc]
            everybody = (serves, asks, clerk)
            await at_last(lambda: not any(bus.trouble for bus in everybody), end)
            loss.troubles = [bus.trouble for bus in everybody]
            loss.unsent = sum(bus.unsent for bus in everybody)
    return loss


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((redis_server.RedisServer, 3.0, 0.0), id="redis", marks=redis_server.NEEDED),
        pytest.param(
            (rabbitmq_server.RabbitMqServer, 20.0, SETTLED),
            id="rabbitmq",
            marks=rabbitmq_server.NEEDED,
        ),
    ],
)
def loss(request: pytest.FixtureRequest) -> Iterator[Loss]:
    """One loss for all the tests: a broker takes its time to come back."""
    kind, delay, settled = request.param
    with kind() as server:
        yield asyncio.run(asyncio.wait_for(endure(server, delay, settled), GUARD))


def test_it_is_noticed_and_over_in_the_end(loss: Loss) -> None:
    assert all(loss.noticed), loss.noticed
    assert loss.troubles == [None, None, None]
    assert loss.unsent == 0


def test_a_group_gets_all_that_was_accepted_once(loss: Loss) -> None:
    assert len(loss.accepted) >= 2 * SHARE
    assert loss.accepted_since >= SHARE, "nothing is accepted any more"
    assert set(loss.accepted) - set(loss.handled) == set()
    assert {n: times for n, times in loss.handled.items() if times > 1} == {}


def test_a_group_that_was_away_gets_all_of_it_once(loss: Loss) -> None:
    assert set(loss.accepted) - set(loss.handled_later) == set()
    assert {n: times for n, times in loss.handled_later.items() if times > 1} == {}


def test_a_broadcast_goes_on(loss: Loss) -> None:
    assert loss.news == list(range(10))


def test_a_request_after_it_is_answered(loss: Loss) -> None:
    assert loss.asked_after == {"n": 8}


def test_a_request_under_way_ends_in_its_time(loss: Loss) -> None:
    """By its reply, if that finds its way, or by an error that says what it is."""
    assert loss.asked_before_took < LONG + 2.0
    assert loss.asked_before == {"n": 4} or isinstance(loss.asked_before, TiebeamError)


def test_a_request_while_the_broker_is_away_ends_in_its_time(loss: Loss) -> None:
    assert isinstance(loss.asked_meanwhile, TiebeamError), loss.asked_meanwhile
    assert loss.asked_meanwhile_took < BRIEF + 2.0


def test_a_command_waits_for_its_handler(loss: Loss) -> None:
    assert loss.orders == {0: 1, 1: 1}


def test_what_was_delayed_comes_once_and_not_too_early(loss: Loss) -> None:
    assert loss.killed < loss.up < loss.due, "the delay is too short for this machine"
    assert [n for n, _ in loss.rung] == [1, 2]
    assert loss.rung[0][1] >= loss.due
