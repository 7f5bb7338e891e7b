"""The trading system as four processes that meet on a broker: the same files, four times `--only`.

python -m examples.trading.processes --url redis://localhost:6379/0
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = ["config/integration.yaml", "config/system.yaml"]
PARTS = {
    "collection": ["data_collection"],
    "analysis": ["impact_factor", "analysis_agents"],
    "decision": ["decision_engine"],
    "trading": ["session", "virtual_trading", "authentication", "notification", "dashboard"],
}
"""What runs where: components and groups of `config/system.yaml`."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.trading.processes")
    parser.add_argument("--url", required=True, help="of the broker: redis:// or amqp://")
    parser.add_argument(
        "--prefix",
        default=f"trading_{int(time.time())}_{os.getpid()}",
        help="of all names on the broker; each run needs its own, or it reads what another left",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="override one value, everywhere"
    )
    return parser.parse_args(argv)


def environment(url: str, prefix: str) -> dict[str, str]:
    """What makes a system in one process one of several: three values of its configuration."""
    return {
        **os.environ,
        "TIEBEAM_EVENT_BUS__IMPLEMENTATION": "rabbitmq" if url.startswith("amqp") else "redis",
        "TIEBEAM_EVENT_BUS__CONNECTION_STRING": url,
        "TIEBEAM_EVENT_BUS__CHANNEL_PREFIX": prefix,
    }


def command(part: str, settings: Sequence[str]) -> list[str]:
    """How one part is started."""
    only = [argument for name in PARTS[part] for argument in ("--only", name)]
    own = ["logging.console=false", f"logging.file=logs/{part}.log", *settings]
    sets = [argument for setting in own for argument in ("--set", setting)]
    return [sys.executable, "-m", "tiebeam", "run", *FILES, *only, *sets]


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    env = environment(options.url, options.prefix)
    processes = [subprocess.Popen(command(part, options.set), cwd=ROOT, env=env) for part in PARTS]
    try:
        codes = [process.wait() for process in processes]
    except KeyboardInterrupt:  # they were told, too, and stop in order
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            process.terminate()
    return max(abs(code) for code in codes)


if __name__ == "__main__":
    sys.exit(main())
