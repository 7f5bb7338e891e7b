"""Which changes of state there are in the lives of components, and what a system refuses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tiebeam import Health, TiebeamError
from tiebeam.testing import TestFramework
from tiebeam.testing import run as in_virtual_time

from vectors.cases import Areas, Case
from vectors.parts import MANUAL, Part, crash, fall, starts
from vectors.stance import Lacking, compare, settle

__all__ = ["AREAS"]

Pair = tuple[str, str]


def run_guard(case: Case) -> None:
    differences = []
    for operations, result in case["table"]:
        actual = in_virtual_time(_result_of(operations))
        differences += compare(operations, actual, result)
    settle(case, differences)


async def _result_of(operations: str) -> str:
    part = Part("part")
    framework = TestFramework(components=[part])
    do: dict[str, Callable[[], Awaitable[Any]]] = {
        "start": framework.start,
        "stop": framework.stop,
        "start_with_expired_deadline": lambda: _cut_short(framework.start()),
    }
    try:
        for operation in operations.split(","):
            await do[operation]()
    except asyncio.CancelledError:
        await framework.settle()
        return "error:started" if starts(part.diary) else "error:nothing_started"
    except TiebeamError:
        return "error"
    finally:
        await framework.stop()
    return "ok"


async def _cut_short(starting: Coroutine[Any, Any, Any]) -> None:
    """Begin, and be cancelled at the first wait, as by a deadline that is over."""
    task = asyncio.ensure_future(starting)
    asyncio.get_running_loop().call_soon(task.cancel)
    await task


def run_table(case: Case) -> None:
    legal = {(before, after) for before, after in case["legal"]}
    illegal = {(before, after) for before, after in case["illegal_examples"]}
    assert not legal & illegal
    seen: set[Pair] = set()
    for life in LIVES:
        seen |= set(in_virtual_time(life()))
    settle(case, [f"{before} became {after}" for before, after in sorted(seen - legal)])
    assert legal - seen == ONLY_ON_REQUEST
    raise Lacking("a request for one change of state, which may be an illegal one")


ONLY_ON_REQUEST = {("failed", "starting"), ("stopped", "starting")}
"""Legal changes that no life has: a component is configured before each start."""


def _changes(framework: TestFramework) -> list[Pair]:
    told = [event.payload for event in framework.published("system.component.*")]
    return [(change["from"], change["to"]) for change in told]


async def _ordinary() -> list[Pair]:
    async with TestFramework(components=[Part("part")]) as framework:
        await framework.restart_component("part")
    return _changes(framework)


async def _never_started() -> list[Pair]:
    framework = TestFramework(components=[Part("part")])
    await framework.stop()
    return _changes(framework)


async def _does_not_initialize() -> list[Pair]:
    part = Part("part")
    part.fails.add("initialize")
    async with TestFramework(components=[part]) as framework:
        part.fails.clear()
        await framework.start_component("part")
        await fall(framework, part)
    return _changes(framework)


async def _does_not_start_at_first() -> list[Pair]:
    base, top, other = Part("base"), Part("top", depends_on=["base"]), Part("other")
    base.fails.add("start")
    async with TestFramework(components=[base, top, other]) as framework:
        base.fails.clear()
        await framework.start_component("base")
        base.fails.add("start")
        await framework.stop_component("base")
    return _changes(framework)


async def _stops_while_blocked() -> list[Pair]:
    base, top = Part("base"), Part("top", depends_on=["base"])
    base.fails.add("start")
    async with TestFramework(components=[base, top]) as framework:
        pass
    return _changes(framework)


async def _lacks_what_it_wants() -> list[Pair]:
    async with TestFramework(components=[Part("part", wants=["nowhere"])]) as framework:
        pass
    return _changes(framework)


async def _falls_ill_and_recovers() -> list[Pair]:
    part = Part("part")
    async with TestFramework(
        {"health": {"check_interval": 86_400}}, components=[part]
    ) as framework:
        for answer in (Health.warn("slow"), None):
            part.answer = answer
            await framework.check("part")
    return _changes(framework)


async def _crashes() -> list[Pair]:
    part = Part("part")
    async with TestFramework({"health": MANUAL}, components=[part]) as framework:
        await crash(framework, part)
        await framework.advance(60)
    return _changes(framework)


async def _does_not_stop() -> list[Pair]:
    part = Part("part")
    part.fails.add("stop")
    async with TestFramework(components=[part]) as framework:
        pass
    return _changes(framework)


async def _is_stopped_while_it_starts() -> list[Pair]:
    part = Part("part")
    part.takes = 10.0
    framework = TestFramework(components=[part])
    starting = asyncio.ensure_future(framework.start())
    await framework.advance(1)
    await framework.stop_component("part")
    await starting
    await framework.stop()
    return _changes(framework)


async def _cannot_be_configured_again() -> list[Pair]:
    part = Part("part")
    async with TestFramework(components=[part]) as framework:
        await framework.stop_component("part")
        part.fails.add("configure")
        with contextlib.suppress(TiebeamError):
            await framework.start_component("part")
    return _changes(framework)


LIVES = (
    _ordinary,
    _never_started,
    _does_not_initialize,
    _does_not_start_at_first,
    _stops_while_blocked,
    _lacks_what_it_wants,
    _falls_ill_and_recovers,
    _crashes,
    _does_not_stop,
    _is_stopped_while_it_starts,
    _cannot_be_configured_again,
)

AREAS: Areas = {"lifecycle_guard": run_guard, "lifecycle_table": run_table}
