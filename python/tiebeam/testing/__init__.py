"""Tests without waiting: the real engine on a clock that the test moves.

>>> async def test():
...     async with TestBus() as bus:
...         bus.every(10.0, "system.tick")
...         await bus.advance(25.0)
...         assert len(bus.published("system.tick")) == 2
>>> run(test())

Inside :func:`run`, the event loop's own time is the same clock: ``asyncio.sleep`` and
``asyncio.timeout`` obey it too, and a test that sleeps an hour takes no time.
"""

from tiebeam._core import Clock
from tiebeam.testing._doubles import TestBus, TestFramework
from tiebeam.testing._loop import Deadlock, VirtualLoop, run
from tiebeam.testing._mocks import mock_component

__all__ = ["Clock", "Deadlock", "TestBus", "TestFramework", "VirtualLoop", "mock_component", "run"]
