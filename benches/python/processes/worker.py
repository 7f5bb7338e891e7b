"""One process of one contender: ``processes.worker NAME publish|consume|both URL COUNT RATE``."""

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
    figures = {"publish": _publish, "consume": _consume, "both": _both}[what](
        contender, url, int(count), float(rate)
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


def _consume(contender: Any, url: str, count: int, _rate: float) -> dict[str, Any]:
    seen, handled = _counting(count)
    _run(contender.consume(url, lambda: print("ready", flush=True), handled))
    return seen


def _both(contender: Any, url: str, count: int, rate: float) -> dict[str, Any]:
    """On one event loop, side by side."""
    pace = Pace(rate)
    seen, handled = _counting(count)

    async def main() -> None:
        ready = asyncio.Event()
        consuming = asyncio.create_task(contender.consume(url, ready.set, handled))
        await ready.wait()
        await contender.publish(url, count, pace)
        await consuming

    asyncio.run(main())
    return {**seen, "begun": pace.begun}


def _counting(count: int) -> tuple[dict[str, Any], Any]:
    """What was seen, and a handler that counts it; it is true with the last."""
    figures: dict[str, Any] = {"seen": 0, "ended": 0.0, "latencies": []}
    seen = 0

    def handled(payload: dict[str, Any]) -> bool:
        nonlocal seen
        seen += 1
        if payload["sent"]:
            figures["latencies"].append(time.time() - payload["sent"])
        if seen >= count:
            figures["ended"], figures["seen"] = time.time(), seen
        return seen >= count

    return figures, handled


if __name__ == "__main__":
    main()
