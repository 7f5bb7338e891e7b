"""The testing tools: virtual time, what happened, stand-ins, and the pytest plugin."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tiebeam import Component, ConfigurationError, Event, TransientError, respond, subscribe
from tiebeam.testing import Deadlock, TestBus, TestFramework, mock_component, run
from tiebeam.testing import _loop as loop_module

Make = Callable[..., TestFramework]


def test_an_hour_takes_no_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(3600)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 1800)
        return loop.time() - before

    begun = time.monotonic()
    assert run(main()) == pytest.approx(5400)
    assert time.monotonic() - begun < 60


def test_timers_of_the_loop_and_of_the_core_fire_in_one_order() -> None:
    order: list[str] = []

    async def main() -> None:
        async with TestBus() as bus:
            bus.subscribe("t.tick", lambda event: order.append("core 2"), run_in="inline")
            loop = asyncio.get_running_loop()
            loop.call_later(3, order.append, "loop 3")
            loop.call_later(1, order.append, "loop 1")
            bus.publish("t.tick", delay=2)
            await bus.advance(timedelta(seconds=2).total_seconds())
            assert order == ["loop 1", "core 2"]
            await bus.advance(1)

    run(main())
    assert order == ["loop 1", "core 2", "loop 3"]


def test_advance_stops_at_each_timer() -> None:
    """What a timer begins is done before the next one fires."""
    seen: list[tuple[float, int]] = []

    async def main() -> None:
        async with TestBus() as bus:
            loop = asyncio.get_running_loop()

            @bus.subscribe("t.tick")
            async def on_tick(event: Event) -> None:
                seen.append((loop.time(), len(seen)))
                await asyncio.sleep(0.5)
                seen.append((loop.time(), len(seen)))

            begun = loop.time()
            bus.every(10, "t.tick")
            await bus.advance(25)
            assert [round(at - begun, 3) for at, _ in seen] == [10, 10.5, 20, 20.5]
            assert loop.time() - begun == pytest.approx(25)
            assert len(bus.published("t.tick")) == 2

    run(main())


def test_settle_waits_for_everything_and_moves_no_time() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            loop = asyncio.get_running_loop()
            done: list[str] = []

            @bus.subscribe("a.x")
            async def on_x(_event: Event) -> None:
                for _ in range(10):
                    await asyncio.sleep(0)
                await bus.publish("a.y")

            @bus.subscribe("a.y")
            def on_y(_event: Event) -> None:  # on a thread
                done.append(threading.current_thread().name)

            before = loop.time()
            await bus.publish("a.x")
            await bus.settle()
            assert len(done) == 1
            assert loop.time() == before
            assert bus.books().total.in_flight == 0

    run(main())


def test_retries_and_breakers_are_driven_by_the_clock() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            attempts: list[float] = []
            loop = asyncio.get_running_loop()

            @bus.subscribe(
                "a.x",
                name="fails",
                retry={"max_attempts": 3, "initial_delay": 60, "max_delay": 600, "jitter": "none"},
            )
            async def fails(_event: Event) -> None:
                attempts.append(loop.time())
                raise TransientError("no")

            await bus.publish("a.x")
            await bus.settle()
            assert len(attempts) == 1
            await bus.advance(59)
            assert len(attempts) == 1
            await bus.advance(1)
            assert len(attempts) == 2
            await bus.advance(120)
            assert [round(at - attempts[0]) for at in attempts] == [0, 60, 180]
            assert [letter.subscription for letter in bus.dead_letters.list()] == ["fails"]
            assert bus.handled("fails") == 0

    run(main())


def test_each_run_is_the_same_run() -> None:
    def once() -> list[Any]:
        async def main() -> list[Any]:
            async with TestBus() as bus:

                @bus.subscribe("a.x", retry={"max_attempts": 4, "jitter": "full"})
                async def fails(_event: Event) -> None:
                    raise TransientError("no")

                await bus.publish("a.x")
                await bus.advance(60)
                return [
                    (event.event_id, event.event_type, event.timestamp) for event in bus.published()
                ]

        return run(main())

    first = once()
    assert len(first) > 3
    assert once() == first


def test_waiting_for_nothing_is_a_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "PATIENCE", 0.1)

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="nothing is queued, running or scheduled"):
        run(main())


def test_waiting_for_what_only_time_brings_for_ever_is_a_deadlock() -> None:
    async def main() -> None:
        async with TestBus() as bus:
            bus.every(60, "t.tick")
            await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="24 hours of virtual time"):
        run(main())


def test_a_handler_that_never_leaves_its_thread_is_a_deadlock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop_module, "PATIENCE", 0.1)
    release = threading.Event()

    async def main() -> None:
        async with TestBus() as bus:
            bus.subscribe("a.x", lambda _event: release.wait(30) and None)
            await bus.publish("a.x")
            await bus.settle()

    try:
        with pytest.raises(Deadlock, match="on other threads"):
            run(main())
    finally:
        release.set()


def test_virtual_time_needs_its_loop() -> None:
    async def main() -> None:
        TestBus()

    with pytest.raises(RuntimeError, match=r"tiebeam\.testing\.run"):
        asyncio.run(main())


def test_run_gives_results_and_errors_and_leaves_no_task() -> None:
    left: list[str] = []

    async def forgotten() -> None:
        try:
            await asyncio.sleep(10_000)
        finally:
            left.append("ended")

    async def main() -> int:
        task = asyncio.ensure_future(forgotten())
        await asyncio.sleep(0)
        assert not task.done()
        return 3

    assert run(main()) == 3
    assert left == ["ended"]

    async def fails() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        run(fails())


# -- frameworks ---------------------------------------------------------------------------


class Prices(Component):
    def __init__(self) -> None:
        self.last: dict[str, float] = {}

    @subscribe("market_data.price_update")
    async def on_price(self, event: Event) -> None:
        self.last[event.payload["symbol"]] = event.payload["price"]

    @respond("prices.last")
    async def answer(self, event: Event) -> Any:
        return {"price": await self.look_up(event.payload["symbol"])}

    async def look_up(self, symbol: str) -> float:
        return self.last[symbol]

    def symbols(self) -> list[str]:
        return list(self.last)


async def test_what_happened(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Prices]) as framework:
        await framework.bus.publish("market_data.price_update", {"symbol": "A", "price": 1})
        await framework.bus.publish("market_data.price_update", {"symbol": "A"})
        await framework.settle()
        assert [e.payload for e in framework.published("market_data.*")] == [
            {"symbol": "A", "price": 1},
            {"symbol": "A"},
        ]
        assert framework.handled("prices.on_price") == 1
        (letter,) = framework.dead_letters.list()
        assert letter.error_type == "KeyError"
        with pytest.raises(KeyError):
            framework.handled("prices.nothing")


def test_handlers_are_methods_that_a_test_can_call() -> None:
    prices = Prices()
    run(prices.on_price(Event("market_data.price_update", {"symbol": "A", "price": 2})))
    assert prices.last == {"A": 2}


async def test_the_environment_of_the_process_does_not_matter(
    tiebeam_framework: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIEBEAM_EVENT_BUS__BATCH_SIZE", "61")
    assert tiebeam_framework().configuration["event_bus.batch_size"] == 100
    file = tmp_path / "system.yaml"
    file.write_text("system:\n  name: demo\n")
    framework = TestFramework.from_config(file, set=["event_bus.capacity=7"])
    assert framework.configuration["event_bus.batch_size"] == 100
    assert framework.configuration["event_bus.capacity"] == 7
    assert framework.configuration["system.name"] == "demo"
    given = {"TIEBEAM_EVENT_BUS__BATCH_SIZE": "62"}
    framework = TestFramework.from_config(file, environ=given)
    assert framework.configuration["event_bus.batch_size"] == 62


async def test_a_framework_from_files_lives_in_virtual_time(
    tiebeam_clock: Any, tiebeam_framework: Make, tmp_path: Path
) -> None:
    file = tmp_path / "system.yaml"
    file.write_text("health:\n  check_interval: 7\n")
    async with TestFramework.from_config(file, components=[Prices]) as framework:
        await framework.advance(8)
        assert framework.health("prices")["last_checked"] == tiebeam_clock.unix_ms() - 1_000


async def test_a_mock_has_the_name_and_the_methods_and_does_nothing(
    tiebeam_framework: Make,
) -> None:
    class Trader(Component):
        prices: Prices

        @subscribe("trade.now")
        async def on_now(self, _event: Event) -> None:
            await self.publish_event("trade.done", {"at": await self.prices.look_up("A")})

    prices = mock_component(Prices)
    prices.look_up.return_value = 9.5
    prices.symbols.return_value = ["A"]
    async with tiebeam_framework(components=[Trader, prices]) as framework:
        await framework.bus.publish("market_data.price_update", {"symbol": "A"})  # no handler
        await framework.bus.publish("trade.now")
        await framework.settle()
        assert framework.published("trade.done")[0].payload == {"at": 9.5}
        assert prices.symbols() == ["A"]
        prices.on_price.assert_not_called()
        assert len(framework.dead_letters) == 0
        assert isinstance(prices, Prices)
        assert prices.name == "prices"


async def test_a_mock_of_a_component_with_needs_has_none(tiebeam_framework: Make) -> None:
    class Needy(Component):
        depends_on = ["somebody"]
        config_schema = {"type": "object", "required": ["url"]}
        prices: Prices

        def __init__(self, url: str) -> None:
            raise AssertionError("a mock is not made like the real one")

        async def start(self) -> None:
            raise AssertionError("nor started")

    async with tiebeam_framework(components=[mock_component(Needy)]) as framework:
        assert framework.status("needy")["state"] == "running"


async def test_overrides_are_not_depended_on(tiebeam_framework: Make) -> None:
    class Trader(Component):
        prices: Prices

    with pytest.raises(ConfigurationError, match="`prices`"):
        tiebeam_framework(components=[Trader])
    stand_in = object()
    async with tiebeam_framework(components=[Trader], overrides={Prices: stand_in}) as framework:
        assert framework.get(Trader).prices is stand_in


# -- the pytest plugin --------------------------------------------------------------------

PLUGIN_TESTS = """
import asyncio
import pytest
from tiebeam.testing import _loop

_loop.PATIENCE = 0.1


async def test_bus(tiebeam_bus, tiebeam_clock):
    seen = []
    tiebeam_bus.subscribe("a.x", seen.append)
    await tiebeam_bus.publish("a.x", delay=3600)
    await tiebeam_bus.advance(3600)
    assert len(seen) == 1
    assert tiebeam_clock.monotonic() == 3600


@pytest.mark.parametrize("number", [1, 2])
async def test_framework(tiebeam_framework, number, tmp_path):
    async with tiebeam_framework() as framework:
        await asyncio.sleep(number)
        assert framework.state == "running"


def test_sync(tiebeam_bus):
    seen = []
    tiebeam_bus.subscribe("a.x", seen.append)
    tiebeam_bus.publish("a.x")
    tiebeam_bus.drain_sync(30)
    assert len(seen) == 1


async def test_that_fails(tiebeam_bus):
    assert tiebeam_bus.published("nothing") == ["something"]


async def test_that_hangs(tiebeam_clock):
    await asyncio.Event().wait()


async def test_with_a_handler_left_waiting(tiebeam_bus):
    async def waits(event):
        await asyncio.Event().wait()

    tiebeam_bus.subscribe("a.x", waits)
    await tiebeam_bus.publish("a.x")
    await tiebeam_bus.settle()


class TestClass:
    async def test_method(self, tiebeam_bus):
        await asyncio.sleep(10)
"""


def test_the_plugin_runs_async_tests_in_virtual_time(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(PLUGIN_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "."]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "2 failed, 6 passed" in ran.stdout, ran.stdout + ran.stderr
    assert "FAILED test_sample.py::test_that_fails - AssertionError" in ran.stdout
    assert "FAILED test_sample.py::test_that_hangs - tiebeam.testing._loop.Deadlock" in ran.stdout
