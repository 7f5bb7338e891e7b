"""Running the cases."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterable

from tiebeam.bus import EventBus
from tiebeam.conformance._cases import CASES, Case
from tiebeam.conformance._report import Report, Result
from tiebeam.conformance._site import Site

__all__ = ["check", "check_case"]


async def check_case(case: Case, url: str | None = None, *, guard: float = 20.0) -> Result:
    """Run one case.

    Args:
        case: Which one.
        url: Where the broker is; in memory if left out.
        guard: How long anything in it may take, in seconds.
    """
    probe = EventBus("probe", url=url)
    capabilities = probe.capabilities
    await probe.close(0.0)
    lacking = [need for need in case.needs if not capabilities[need]]
    if lacking:
        return Result(case.title, "left out", f"needs {', '.join(lacking)}".replace("_", " "))
    begun = time.monotonic()
    try:
        async with Site(url, guard=guard) as site:
            await asyncio.wait_for(case.run(site), guard * 2)
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
        frames = traceback.extract_tb(error.__traceback__)
        where = next(f for f in reversed(frames) if not f.filename.endswith("_expect.py"))
        said = f"{said} ({where.line})" if where.line else said
        return Result(case.title, "failed", said, time.monotonic() - begun)
    return Result(case.title, "passed", "", time.monotonic() - begun)


async def check(
    url: str | None = None,
    *,
    cases: Iterable[Case] = CASES,
    told: Callable[[Result], None] = lambda _result: None,
) -> Report:
    """Run all cases on one transport.

    Args:
        url: Where the broker is; in memory if left out.
        cases: Which ones.
        told: Called with each result as it comes.

    Raises:
        DependencyError: When the broker is not there.
        ConfigurationError: When it refuses this user, or the URL is none.
    """
    async with EventBus("probe", url=url) as probe:
        capabilities = probe.capabilities
    report = Report(str(capabilities["name"]), capabilities)
    for case in cases:
        result = await check_case(case, url)
        report.results.append(result)
        told(result)
    return report
