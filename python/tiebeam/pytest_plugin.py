"""The pytest plugin: async tests in virtual time.

An ``async def`` test that uses one of these fixtures runs on the virtual event loop of
:mod:`tiebeam.testing`; no other plugin is needed, and other tests are left alone.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tiebeam._core import Clock
    from tiebeam.testing import TestBus, TestFramework

_CLOCK = "tiebeam_clock"


@pytest.fixture
def tiebeam_clock() -> Iterator[Clock]:
    """The simulated clock of this test; retries and breakers that have no clock of their own go
    by it."""
    # Not at the top: a plugin is imported by every pytest run of the environment.
    from tiebeam import _core

    clock = _core.Clock.simulated()
    before = _core._stand_in(clock)
    yield clock
    _core._stand_in(before)


@pytest.fixture
def tiebeam_bus(tiebeam_clock: Clock) -> Iterator[TestBus]:
    """A bus in virtual time; closed after the test."""
    from tiebeam.testing import TestBus

    bus = TestBus(clock=tiebeam_clock)
    yield bus
    if not bus.closed:
        bus.close_sync(0)


@pytest.fixture
def tiebeam_framework(tiebeam_clock: Clock) -> Callable[..., TestFramework]:
    """Makes frameworks in virtual time: ``async with tiebeam_framework(components=[...])``."""
    from tiebeam.testing import TestFramework

    def make(*arguments: Any, **options: Any) -> TestFramework:
        return TestFramework(*arguments, clock=tiebeam_clock, **options)

    return make


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run async tests that use our fixtures."""
    test = pyfuncitem.obj
    if _CLOCK not in pyfuncitem.fixturenames or not inspect.iscoroutinefunction(test):
        return None
    from tiebeam.testing import run

    wanted = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}

    async def main() -> None:
        await test(**arguments)
        bus: Any = pyfuncitem.funcargs.get("tiebeam_bus")
        if bus is not None and not bus.closed:
            # Handlers that still wait are ended on the loop they run on.
            await asyncio.wait_for(bus.close(0), timeout=1)

    clock: Any = pyfuncitem.funcargs[_CLOCK]
    run(main(), clock=clock)
    return True
