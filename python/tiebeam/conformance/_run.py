"""Running the cases."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from tiebeam.bus import TlsOptions
from tiebeam.conformance._cases import CASES, Case
from tiebeam.conformance._report import Report, Result, place
from tiebeam.conformance._site import PREFIX, Site

__all__ = ["check", "check_case", "reach"]


async def reach(
    url: str | None = None, *, prefix: str = PREFIX, tls: TlsOptions | None = None
) -> dict[str, Any]:
    """What a transport says that it can do, once its broker is there.

    Args:
        url: As for :func:`check`.
        prefix: As for :func:`check`.
        tls: As for :func:`check`.

    Raises:
        DependencyError, ConfigurationError: As :func:`check`.
    """
    async with Site(url, prefix=prefix, tls=tls).probe() as probe:
        await probe._wipe()  # to be there is enough to leave something
        return probe.capabilities


async def check_case(
    case: Case,
    url: str | None = None,
    *,
    guard: float = 20.0,
    prefix: str = PREFIX,
    tls: TlsOptions | None = None,
) -> Result:
    """Run one case, and clean up behind it.

    Args:
        case: Which one.
        url: Where the broker is; in memory if left out.
        guard: How long anything in it may take, in seconds.
        prefix: As for :func:`check`.
        tls: As for :func:`check`.
    """
    site = Site(url, guard=guard, prefix=prefix, tls=tls)
    probe = site.probe()
    capabilities = probe.capabilities
    await probe.close(0.0)
    lacking = [need for need in case.needs if not capabilities[need]]
    if lacking:
        return Result(case.title, "left out", f"needs {', '.join(lacking)}".replace("_", " "))
    begun = time.monotonic()
    try:
        async with site:
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
    prefix: str = PREFIX,
    tls: TlsOptions | None = None,
) -> Report:
    """Run all cases on one transport, and clean up behind them.

    Args:
        url: Where the broker is; in memory if left out.
        cases: Which ones.
        told: Called with each result as it comes.
        prefix: What the names on the broker begin with; each case adds something of its own.
        tls: What TLS to the broker needs, as for a bus.

    Raises:
        DependencyError: When the broker is not there.
        ConfigurationError: When it refuses this user, or the URL is none.
    """
    capabilities = await reach(url, prefix=prefix, tls=tls)
    report = Report(str(capabilities["name"]), capabilities, where=place(url))
    for case in cases:
        result = await check_case(case, url, prefix=prefix, tls=tls)
        report.results.append(result)
        told(result)
    return report
