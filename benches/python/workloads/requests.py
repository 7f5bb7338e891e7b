"""Ask and be answered, on one loop: one question at a time, and 64 at once.

The reply is a payload with one field. Peers ask with a whole envelope; most answer with less.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tiebeam import EventBus

from harness.contender import Contenders, Run
from harness.envelope import PAYLOAD, TYPE, envelope
from harness.goal import times
from harness.race import race
from harness.settings import Settings
from harness.tally import Tally
from workloads import Outcome

FUTURE = "Future + asyncio.Queue"
UNIT = "ns per request"
REPLY = {"price": PAYLOAD["price"]}
AT_ONCE = 64

Answer = Callable[[Any], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Shape:
    """How it is asked and answered."""

    title: str
    clients: int
    goal: float | None = None
    reads: bool = False
    suspends: bool = False


SHAPES = [
    Shape("request and reply, one at a time", 1, 4.0),
    Shape("request and reply, one at a time, responder reads", 1, reads=True),
    Shape("request and reply, 64 at once", AT_ONCE, 2.0),
    Shape("request and reply, responder suspends", 1, 1.0, suspends=True),
    Shape("request and reply, 64 at once, suspends", AT_ONCE, 1.0, suspends=True),
]


def measure(settings: Settings) -> Outcome:
    outcome = Outcome()
    settings = replace(settings, events=max(AT_ONCE, settings.events // 5))
    for shape in SHAPES:
        table = race(shape.title, _contenders(shape), settings, unit=UNIT)
        outcome.tables.append(table)
        if shape.goal is not None:
            outcome.goals.append(times(table, FUTURE, shape.goal))
    return outcome


def _contenders(shape: Shape) -> Contenders:
    contenders = Contenders()
    for name, make, how in (
        ("tiebeam", _tiebeam, {}),
        (FUTURE, _future, {}),
        ("Future + Queue + correlation table", _correlated, {}),
        ("nautilus_trader endpoint (inside send)", _nautilus, {"needs": "nautilus_trader"}),
        ("FastStream in memory", _faststream, {"needs": "faststream", "share": 0.005}),
        ("bubus", _bubus, {"needs": "bubus", "share": 0.005}),
    ):
        plain = shape.clients == 1 and not shape.suspends
        if plain or make in (_tiebeam, _future, _correlated):
            contenders.add(name, **how)(partial(make, shape))
    return contenders


async def _clients(shape: Shape, client: Callable[[int], Awaitable[None]], events: int) -> None:
    """The questions of a round: each of ``shape.clients`` tasks asks its part by turns."""
    if shape.clients == 1:
        await client(events)
        return
    each, more = divmod(events, shape.clients)
    await asyncio.gather(*(client(each + (number < more)) for number in range(shape.clients)))


def _answer(shape: Shape) -> Answer:
    """The responder for events that are dicts."""

    async def constant(_event: Any) -> dict[str, Any]:
        return REPLY

    async def reading(event: dict[str, Any]) -> dict[str, Any]:
        return {"price": event["payload"]["price"]}

    async def suspending(_event: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        return REPLY

    return suspending if shape.suspends else reading if shape.reads else constant


def _answer_event(shape: Shape) -> Answer:
    """The responder for events that have a ``payload``."""

    async def reading(event: Any) -> dict[str, Any]:
        return {"price": event.payload["price"]}

    return reading if shape.reads else _answer(shape)


async def _tiebeam(shape: Shape, tally: Tally) -> AsyncGenerator[Run, None]:
    bus = EventBus("bench")
    bus.respond(TYPE, _answer_event(shape))
    seen = tally.replies()

    request = bus.request

    async def client(questions: int) -> None:
        for _ in range(questions):
            seen(await request(TYPE, PAYLOAD))

    yield partial(_clients, shape, client)
    await bus.close(0)


async def _future(shape: Shape, tally: Tally) -> AsyncGenerator[Run, None]:
    queue: asyncio.Queue[tuple[dict[str, Any], asyncio.Future[dict[str, Any]]]]
    queue = asyncio.Queue(10_000)
    loop = asyncio.get_running_loop()
    answer, seen = _answer(shape), tally.replies()

    async def work() -> None:
        while True:
            event, future = await queue.get()
            reply = await answer(event)
            if not future.done():
                future.set_result(reply)

    async def client(questions: int) -> None:
        for _ in range(questions):
            future = loop.create_future()
            await queue.put((envelope(TYPE, PAYLOAD), future))
            seen(await future)

    worker = asyncio.create_task(work())
    yield partial(_clients, shape, client)
    worker.cancel()


async def _correlated(shape: Shape, tally: Tally) -> AsyncGenerator[Run, None]:
    """The reply is an event of its own, and finds its way by the correlation id."""
    questions: asyncio.Queue[dict[str, Any]] = asyncio.Queue(10_000)
    replies: asyncio.Queue[dict[str, Any]] = asyncio.Queue(10_000)
    pending: dict[str, asyncio.Future[dict[str, Any]]] = {}
    loop = asyncio.get_running_loop()
    answer, seen = _answer(shape), tally.replies()

    async def respond() -> None:
        while True:
            event = await questions.get()
            reply = envelope("reply", await answer(event))
            reply["metadata"]["correlation_id"] = event["event_id"]
            await replies.put(reply)

    async def match() -> None:
        while True:
            reply = await replies.get()
            future = pending.pop(reply["metadata"]["correlation_id"], None)
            if future is not None and not future.done():
                future.set_result(reply["payload"])

    async def client(count: int) -> None:
        for _ in range(count):
            event = envelope(TYPE, PAYLOAD)
            pending[event["event_id"]] = future = loop.create_future()
            await questions.put(event)
            seen(await future)

    workers = [asyncio.create_task(respond()), asyncio.create_task(match())]
    yield partial(_clients, shape, client)
    for worker in workers:
        worker.cancel()


async def _nautilus(shape: Shape, tally: Tally) -> AsyncGenerator[Run, None]:
    """An endpoint is a function that send calls; the reply comes back by another one."""
    from peers.nautilus import message_bus

    bus, seen = message_bus(), tally.replies()
    loop = asyncio.get_running_loop()
    pending: dict[str, asyncio.Future[dict[str, Any]]] = {}

    def evaluate(event: dict[str, Any]) -> None:
        price = event["payload"]["price"] if shape.reads else PAYLOAD["price"]
        bus.send("client", (event["event_id"], {"price": price}))

    def take(reply: tuple[str, dict[str, Any]]) -> None:
        pending.pop(reply[0]).set_result(reply[1])

    bus.register("evaluate", evaluate)
    bus.register("client", take)

    async def client(count: int) -> None:
        for _ in range(count):
            event = envelope(TYPE, PAYLOAD)
            pending[event["event_id"]] = future = loop.create_future()
            bus.send("evaluate", event)
            seen(await future)

    yield partial(_clients, shape, client)
    bus.dispose()


async def _faststream(shape: Shape, tally: Tally) -> AsyncGenerator[Run, None]:
    from peers.faststream import broker, in_memory

    nats = broker()
    answer, seen = _answer(shape), tally.replies()

    @nats.subscriber(TYPE)
    async def evaluate(event: dict[str, Any]) -> dict[str, Any]:
        return await answer(event)

    async with in_memory(nats) as started:

        async def client(count: int) -> None:
            for _ in range(count):
                reply = await started.request(envelope(TYPE, PAYLOAD), TYPE)
                seen(await reply.decode())

        yield partial(_clients, shape, client)


async def _bubus(shape: Shape, tally: Tally) -> AsyncGenerator[Run, None]:
    from peers.bubus import PriceUpdate, event, event_bus

    bus = event_bus("requests")
    seen = tally.replies()
    bus.on(PriceUpdate, _answer_event(shape))

    async def client(count: int) -> None:
        for _ in range(count):
            seen(await bus.dispatch(event()).event_result())

    yield partial(_clients, shape, client)
    await bus.stop(clear=True)
