"""Stopping: in reverse order, past errors, in time, and from wherever it is asked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tiebeam import Component, Framework
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]


class Part(Component):
    """Writes down when it stops."""

    def __init__(self, name: str, diary: list[str] | None = None, **needs: Any) -> None:
        self.name = name
        self.diary = diary if diary is not None else []
        for key, value in needs.items():
            setattr(self, key, value)

    async def stop(self) -> None:
        self.diary.append(self.name)


async def test_stop_goes_past_one_that_raises_and_one_that_hangs(
    tiebeam_framework: Make, tiebeam_clock: Any
) -> None:
    diary: list[str] = []

    class Raises(Part):
        async def stop(self) -> None:
            raise RuntimeError("no")

    class Hangs(Part):
        async def stop(self) -> None:
            await asyncio.Event().wait()

    parts = [
        Part("base", diary),
        Raises("raises", diary, depends_on=["base"]),
        Hangs("hangs", diary, depends_on=["base"]),
        Part("top", diary, depends_on=["raises", "hangs"]),
    ]
    values = {"service_registry": {"service_timeout": 3}}
    async with tiebeam_framework(values, components=parts) as framework:
        pass
    report = framework.stop_report
    assert report["stopped"] == ["top", "base"]
    assert diary == ["top", "base"]
    failed = dict(report["failed"])
    assert "RuntimeError: no" in failed["raises"]
    assert "did not finish stop within 3 s" in failed["hangs"]
    assert tiebeam_clock.monotonic() == pytest.approx(3)


async def test_stop_is_called_though_a_handler_hangs(tiebeam_framework: Make) -> None:
    """Draining may not use up the time of the stop hook."""

    class Busy(Part):
        async def start(self) -> None:
            self.subscribe_to_events("work.item", self.work)

        async def work(self, _event: Any) -> None:
            await asyncio.Event().wait()

    busy = Busy("busy")
    values = {"service_registry": {"service_timeout": "2s"}}
    async with tiebeam_framework(values, components=[busy]) as framework:
        await framework.bus.publish("work.item")
        await framework.settle()
    assert busy.diary == ["busy"]
    assert framework.stop_report["stopped"] == ["busy"]


async def test_all_stops_share_one_deadline(tiebeam_framework: Make, tiebeam_clock: Any) -> None:
    class Hangs(Part):
        async def stop(self) -> None:
            await asyncio.Event().wait()

    chain = [
        Hangs(f"p{number}", depends_on=[f"p{number - 1}"] if number else []) for number in range(5)
    ]
    registry = {"service_timeout": 30, "shutdown_timeout": 60}
    async with tiebeam_framework({"service_registry": registry}, components=chain) as framework:
        pass
    assert len(framework.stop_report["failed"]) == 5
    assert tiebeam_clock.monotonic() <= 60


async def test_a_start_that_is_cancelled_stops_what_had_started(tiebeam_framework: Make) -> None:
    entered = asyncio.Event()

    class Slow(Part):
        async def start(self) -> None:
            entered.set()
            await asyncio.Event().wait()

    early, slow = Part("early"), Slow("slow", depends_on=["early"])
    framework = tiebeam_framework(components=[early, slow])

    async def enter() -> None:
        async with framework:
            raise AssertionError("it never gets here")

    task = asyncio.ensure_future(enter())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (early.state, slow.state) == ("stopped", "stopped")
    assert early.diary == ["early"]
    assert slow.diary == ["slow"]


async def test_a_start_that_is_cancelled_by_itself_leaves_nothing_running(
    tiebeam_framework: Make,
) -> None:
    opened = asyncio.Event()
    entered = asyncio.Event()

    class Slow(Part):
        async def start(self) -> None:
            entered.set()
            await opened.wait()

    diary: list[str] = []
    base = Part("base", diary)
    early, slow = (
        Part("early", diary, depends_on=["base"]),
        Slow("slow", diary, depends_on=["early"]),
    )
    framework = tiebeam_framework(components=[base, early, slow])
    for _ in range(2):  # it may be made again, and be cancelled again
        entered.clear()
        diary.clear()
        starting = asyncio.ensure_future(framework.start())
        await entered.wait()
        assert (base.state, framework.state) == ("running", "starting")
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert framework.state == "created"
        assert [part.state for part in (base, early, slow)] == ["stopped"] * 3
        assert diary == ["slow", "early", "base"]
        assert not framework.health()["started"]
    opened.set()
    assert (await framework.start())["started"] == ["base", "early", "slow"]
    assert framework.state == "running"
    diary.clear()
    await framework.stop()
    assert diary == ["slow", "early", "base"]


async def test_a_cancelled_start_whose_end_is_cancelled_too_is_stopped_by_stop(
    tiebeam_framework: Make,
) -> None:
    entered, stops = asyncio.Event(), asyncio.Event()

    class Slow(Part):
        async def start(self) -> None:
            entered.set()
            await asyncio.Event().wait()

    class Clings(Slow):
        depends_on = ["base"]

        async def stop(self) -> None:
            stops.set()
            await asyncio.Event().wait()

    base, clings = Part("base"), Clings("clings")
    framework = tiebeam_framework(components=[base, clings])
    starting = asyncio.ensure_future(framework.start())
    await entered.wait()
    starting.cancel()
    await stops.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert (framework.state, base.state) == ("created", "running")
    await framework.stop()
    assert (framework.state, base.state, base.diary) == ("stopped", "stopped", ["base"])


def test_run_that_is_cancelled_stops_what_starts() -> None:
    class Slow(Part):
        entered = asyncio.Event()

        async def start(self) -> None:
            self.entered.set()
            await asyncio.Event().wait()

    base, slow = Part("base"), Slow("slow", depends_on=["base"])
    framework = Framework({"logging": {"console": False}}, components=[base, slow])

    async def main() -> None:
        running = asyncio.ensure_future(framework._run())
        await slow.entered.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (base.state, slow.state, framework.state) == ("stopped",) * 3
        assert (base.diary, slow.diary) == (["base"], ["slow"])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_run_ends_when_a_thread_asks_for_it() -> None:
    class Quits(Component):
        async def start(self) -> None:
            threading.Thread(target=self.quit).start()

        def quit(self) -> None:
            self.framework.request_stop(3)

    framework = Framework({"logging": {"console": False}}, components=[Quits])
    assert framework.run() == 3
    assert framework.state == "stopped"


def test_run_says_when_nothing_could_start() -> None:
    class Broken(Component):
        async def start(self) -> None:
            raise ConnectionError("no route")

    framework = Framework({"logging": {"console": False}}, components=[Broken])
    assert framework.run() == 1
