"""What Redis' own program measures: entries that are added, and read by nobody."""

from __future__ import annotations

import re
import subprocess
from urllib.parse import urlsplit

from processes.envelope import BATCH, STREAM, text

__all__ = ["benchmark"]


def benchmark(url: str, count: int) -> float:
    """``XADD`` of ``count`` events over one connection, by 100; events per second."""
    where = urlsplit(url)
    command = ["redis-benchmark", "-h", str(where.hostname), "-p", str(where.port), "-q", "-c", "1"]
    command += ["-P", str(BATCH), "-n", str(count), "XADD", STREAM, "*", "data", text(1).decode()]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures = re.findall(r"([\d.]+) requests per second", said)
    if not figures:
        raise SystemExit(f"redis-benchmark: no figure in {said!r}")
    return float(figures[-1])
