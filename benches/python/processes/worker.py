"""One process of one contender: ``processes.worker NAME publish|consume URL COUNT RATE``."""

from __future__ import annotations

import asyncio
import importlib
import json
import resource
import sys
import time
from typing import Any

from processes.pace import Pace


def main() -> None:
    """Do it, and print what was measured as one line of JSON."""
    name, what, url, count, rate = sys.argv[1:]
    contender = importlib.import_module(f"processes.contenders.{name}")
    figures = (
        _publish(contender, url, int(count), float(rate))
        if what == "publish"
        else _consume(contender, url, int(count))
    )
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({**figures, "cpu": used.ru_utime + used.ru_stime}), flush=True)


def _run(done: Any) -> None:
    """Some have a loop, and some do not."""
    if done is not None:
        asyncio.run(done)


def _publish(contender: Any, url: str, count: int, rate: float) -> dict[str, Any]:
    pace = Pace(rate)
    _run(contender.publish(url, count, pace))
    return {"begun": pace.begun, "ended": time.time()}


def _consume(contender: Any, url: str, count: int) -> dict[str, Any]:
    latencies: list[float] = []
    seen = 0
    ended = 0.0

    def handled(payload: dict[str, Any]) -> bool:
        nonlocal seen, ended
        seen += 1
        if payload["sent"]:
            latencies.append(time.time() - payload["sent"])
        if seen >= count:
            ended = time.time()
        return seen >= count

    _run(contender.consume(url, lambda: print("ready", flush=True), handled))
    return {"seen": seen, "ended": ended, "latencies": latencies}


if __name__ == "__main__":
    main()
