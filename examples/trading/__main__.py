"""`python -m trading`: one simulated day, or recorded trades, through all ten agents."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tiebeam import Framework, TiebeamError

from .components.session import Session
from .summary import as_json, as_text

CONFIG = Path(__file__).resolve().parents[2] / "config"
COMPLETE, INCOMPLETE, REFUSED, INTERRUPTED = 0, 1, 2, 130


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trading", description=__doc__)
    parser.add_argument("--replay", type=Path, metavar="FILE", help="CSV file of recorded trades")
    parser.add_argument("--symbol", help="what the file's trades are of, such as ETHUSDT")
    speed = "N times real time, or 'max'"
    parser.add_argument("--speed", type=pace, default="max", metavar="N", help=speed)
    parser.add_argument("--seed", type=int, metavar="N", help="of the simulated day")
    files = "files to merge, later wins"
    parser.add_argument("--config", type=Path, nargs="+", metavar="PATH", help=files)
    parser.add_argument("--json", action="store_true", help="write the summary as JSON")
    parser.add_argument("--no-live", action="store_true", help="no dashboard, no progress lines")
    return parser.parse_args(argv)


def pace(text: str) -> str:
    """A speed as it goes into the configuration."""
    if text != "max":
        try:
            valid = 0.0 < float(text) < float("inf")
        except ValueError:
            valid = False
        if not valid:
            raise argparse.ArgumentTypeError(f"{text!r} is neither a positive number nor 'max'")
    return text


def environment(options: argparse.Namespace) -> dict[str, str]:
    """The options as environment variables, the configuration's source above the files."""
    collection = "TIEBEAM_COMPONENTS__DATA_COLLECTION__"
    settings = {
        collection + "AUTOSTART": "false",  # the stream begins when the session watches
        collection + "SPEED": options.speed,
        "TIEBEAM_LOGGING__CONSOLE": "false",  # the terminal is the dashboard's
    }
    if options.replay is not None:
        settings[collection + "REPLAY"] = str(options.replay.resolve())
        settings[collection + "SYMBOL"] = options.symbol or options.replay.stem
    elif options.symbol:
        settings[collection + "SYMBOL"] = options.symbol
    if options.seed is not None:
        settings[collection + "SEED"] = str(options.seed)
    if options.no_live or options.json:
        settings["TIEBEAM_COMPONENTS__DASHBOARD__LIVE"] = "false"
    return settings


def config_files(options: argparse.Namespace) -> list[str]:
    if options.config:
        return [str(path) for path in options.config]
    shipped = (CONFIG / "integration.yaml", CONFIG / "system.yaml")
    return [str(path) for path in shipped if path.exists()]


async def run(options: argparse.Namespace) -> int:
    """Run to the end of the stream, to an error for good, or to Ctrl-C; then the summary."""
    session, interrupted = Session(), asyncio.Event()
    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels instead
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    os.environ.update(environment(options))
    started = time.perf_counter()
    try:
        async with Framework.from_config(*config_files(options), components=[session]) as framework:
            await framework.bus.send("market_data.start_stream", {})
            await first_of(session.over, interrupted)
    finally:
        if session.tally.candles or session.over.is_set():
            print(as_json(session.tally) if options.json else as_text(session.tally))
    print(f"wall clock: {time.perf_counter() - started:.2f} s", file=sys.stderr)
    if interrupted.is_set():
        return INTERRUPTED
    problem = session.failure or session.tally.error
    if problem:
        print(f"incomplete: {problem}", file=sys.stderr)
    return INCOMPLETE if problem else COMPLETE


async def first_of(*events: asyncio.Event) -> None:
    """Return once one of `events` is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    try:
        return asyncio.run(run(options))
    except TiebeamError as error:
        print(f"trading: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
