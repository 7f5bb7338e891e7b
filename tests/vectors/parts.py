"""Components that do as a case says, and write down what is done to them."""

from __future__ import annotations

import asyncio
from typing import Any

from tiebeam import Component, Health
from tiebeam.testing import TestFramework

__all__ = ["MANUAL", "Part", "crash", "end", "fall", "starts", "stops"]

Diary = list[tuple[float, str, str]]
"""When which hook of whom was called, in order."""

MANUAL = {"check_interval": 86_400, "failure_threshold": 1}
"""Section `health` where a case says itself when a check runs, and each failure counts."""


class Part(Component):
    """A component of any name; it is well, starts and stops unless it is told otherwise."""

    def __init__(self, name: str, diary: Diary | None = None, **needs: Any) -> None:
        self.name = name
        self.diary: Diary = [] if diary is None else diary
        self.answer: Health | None = None
        self.takes = 0.0
        self.fails: set[str] = set()
        for attribute, value in needs.items():
            setattr(self, attribute, value)

    async def initialize(self) -> None:
        self._write("initialize")

    async def configure(self, config: Any) -> None:
        self._write("configure")

    async def start(self) -> None:
        self.answer = None  # a restart mends it
        self._write("start")
        await asyncio.sleep(self.takes)

    async def stop(self) -> None:
        self._write("stop")

    async def health_check(self) -> Health | None:
        return self.answer

    def _write(self, hook: str) -> None:
        self.diary.append((asyncio.get_running_loop().time(), hook, self.name))
        if hook in self.fails:
            raise ConnectionError(f"{hook} of {self.name} fails")


def starts(diary: Diary) -> list[str]:
    """Who was started, in order."""
    return [name for _, hook, name in diary if hook == "start"]


def stops(diary: Diary) -> list[str]:
    """Who was stopped, in order."""
    return [name for _, hook, name in diary if hook == "stop"]


async def end(framework: TestFramework, part: Part) -> None:
    """Have a component come to its end by itself, in good order."""
    assert part.finish_component("its work is done")
    await framework.settle()


async def fall(framework: TestFramework, part: Part) -> None:
    """Have a component fail by its own word, and supervision do what it does at once."""
    assert part.fail_component(f"{part.name} crashed")
    await framework.settle()


async def crash(framework: TestFramework, part: Part) -> None:
    """Have a component fail while it runs, and supervision do what it does at once."""
    part.answer = Health.fail("crashed")
    await framework.check(part.name)
    await framework.settle()
