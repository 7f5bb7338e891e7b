"""One simulated day, or recorded trades, through all ten agents of the trading example."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tiebeam import Framework, TiebeamError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [ROOT / "config" / "integration.yaml", ROOT / "config" / "system.yaml"]
REFUSED = 2
"""The exit code where nothing could start; the others are those of the session."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.trading", description=__doc__)
    parser.add_argument("--replay", type=trades_file, metavar="FILE", help="recorded trades, CSV")
    parser.add_argument("--symbol", help="what the file's trades are of, such as ETHUSDT")
    speed = "N times real time, or 'max' (the default)"
    parser.add_argument("--speed", type=pace, default="max", metavar="N", help=speed)
    parser.add_argument("--seed", type=int, metavar="N", help="of the simulated day")
    files = "configuration files to merge, later wins"
    parser.add_argument(
        "--config", type=Path, nargs="+", metavar="PATH", default=SHIPPED, help=files
    )
    parser.add_argument("--json", action="store_true", help="write the summary as JSON")
    parser.add_argument("--no-live", action="store_true", help="no dashboard, no progress lines")
    return parser.parse_args(argv)


def trades_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}; check the path")
    return path.resolve()


def pace(text: str) -> float | str:
    """A speed as it goes into the configuration."""
    if text == "max":
        return text
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0.0 < speed < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a positive number nor 'max'")
    return speed


def overrides(options: argparse.Namespace) -> list[str]:
    """The options as `tiebeam run --set` takes them."""
    data: dict[str, object] = {"speed": options.speed}
    if options.replay is not None:
        data |= {"replay": str(options.replay), "symbol": options.replay.stem}
    if options.symbol is not None:
        data["symbol"] = options.symbol
    if options.seed is not None:
        data["seed"] = options.seed
    settings = [f"components.data_collection.{k}={json.dumps(v)}" for k, v in data.items()]
    settings.append("logging.console=false")  # the terminal is the dashboard's
    if options.json:
        settings.append("components.session.summary=json")
    if options.json or options.no_live:
        settings.append("components.dashboard.live=false")
    return settings


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))  # the configuration names classes of `examples.trading`
    started = time.perf_counter()
    try:
        code = Framework.from_config(*options.config, set=overrides(options)).run()
    except TiebeamError as error:
        print(f"trading: {error}", file=sys.stderr)
        return REFUSED
    print(f"wall clock: {time.perf_counter() - started:.2f} s", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
