"""What Redis' own program measures: entries that are added, and read by nobody."""

from __future__ import annotations

import re
import subprocess
from urllib.parse import urlsplit

from processes.envelope import BATCH, STREAM, text

__all__ = ["benchmark"]

# The program tells time in whole milliseconds, and of a run that ended within the first one it
# says ``inf``: this many take it some tens of them.
FEWEST = 20_000


def benchmark(url: str, count: int) -> float:
    """``XADD`` of ``count`` events, at least ``FEWEST``, a hundred at a time; per second."""
    where = urlsplit(url)
    command = ["redis-benchmark", "-h", str(where.hostname), "-p", str(where.port), "-q", "-c", "1"]
    command += [
        "-P",
        str(BATCH),
        "-n",
        str(max(count, FEWEST)),
        "XADD",
        STREAM,
        "*",
        "data",
        text(1).decode(),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures = re.findall(r"([\d.]+) requests per second", said)
    if not figures:
        raise SystemExit(f"redis-benchmark: no figure in {said!r}")
    return float(figures[-1])
