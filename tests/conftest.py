"""What every test file uses: a bounded ``asyncio.run``, small buses, the unraisable caught."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from brokers import rabbitmq_server, redis_server
from tiebeam import Event, EventBus

GUARD = 30.0
"""Seconds after which a test is taken to hang; no test depends on its length."""

FAST = {"max_attempts": 3, "initial_delay": 0.001, "jitter": "none"}
"""A retry policy that waits for almost nothing."""


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """``asyncio.run``, but a hang becomes a failure."""

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            return await asyncio.wait_for(main, GUARD)

        return asyncio.run(bounded())

    return run


@pytest.fixture
def bus() -> Iterator[EventBus]:
    """A bus for sync tests; its books must balance at the end."""
    with EventBus("test") as bus:
        yield bus
        assert bus.books().balanced, str(bus.books())
    assert bus.books().balanced, str(bus.books())


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Collects what Python could only print; an exception meant to end up there is no failure."""
    seen: list[BaseException] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: seen.append(args.exc_value))
    return seen


@pytest.fixture(scope="module")
def redis() -> Iterator[redis_server.RedisServer]:
    """A server for the tests of a file."""
    with redis_server.RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[rabbitmq_server.RabbitMqServer]:
    """A broker for the tests of a file."""
    with rabbitmq_server.RabbitMqServer() as server:
        yield server


@pytest.fixture(
    params=[
        pytest.param("redis", marks=redis_server.NEEDED),
        pytest.param("rabbitmq", marks=rabbitmq_server.NEEDED),
    ]
)
def server(request: pytest.FixtureRequest) -> Any:
    """Each of both."""
    return request.getfixturevalue(request.param)


class Gate:
    """A handler's door: it says that somebody stands before it, and opens for all."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._open = threading.Event()

    def pass_through(self, _event: object = None) -> None:
        """What a sync handler calls."""
        self.entered.release()
        assert self._open.wait(GUARD), "the gate was never opened"

    def wait_entered(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.entered.acquire(timeout=GUARD), "no handler came"

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


PLACES = ["thread", "inline", "loop", "async"]


class Bench:
    """A bus whose handlers run in one of the four places; ``go`` publishes and drains."""

    def __init__(self, place: str) -> None:
        self.place = place

    def subscribe(self, bus: EventBus, pattern: str, function: Any, **how: Any) -> Any:
        if self.place != "async":
            return bus.subscribe(pattern, function, run_in=self.place, **how)

        async def handler(event: Event) -> Any:
            await asyncio.sleep(0)
            return function(event)

        return bus.subscribe(pattern, handler, **how)


@pytest.fixture(params=PLACES)
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)
