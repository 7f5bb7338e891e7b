"""The example as its user starts it: in a process of its own, ended by itself or by Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pydantic")

ROOT = Path(__file__).resolve().parents[2]
FILES = ["config/integration.yaml", "config/system.yaml"]
DEMO = [sys.executable, "-m", "examples.trading"]
RUN = [sys.executable, "-m", "tiebeam", "run", *FILES]


def setting(*values):
    return [argument for value in values for argument in ("--set", value)]


@pytest.fixture
def environ(tmp_path):
    return {**os.environ, "TIEBEAM_LOGGING__FILE": str(tmp_path / "system.log")}


def test_tiebeam_run_starts_it_from_its_yaml_and_it_ends_by_itself(environ):
    ended = [
        subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False
        )
        for command in (RUN, DEMO)
    ]
    assert [e.returncode for e in ended] == [0, 0], ended
    assert ended[0].stdout == ended[1].stdout
    assert ended[0].stdout.startswith("Session summary: BTCUSDT\n")
    assert "books            balanced; dropped 0; expired 0; dead-lettered 0\n" in ended[0].stdout
    assert "started from=starting to=running" in ended[0].stderr
    page = (ROOT / "docs" / "trading.md").read_text(encoding="utf-8")
    assert f"```text\n{ended[0].stdout}```" in page, "docs/trading.md shows another summary"


@pytest.mark.parametrize(
    "command",
    [
        [*RUN, *setting("components.data_collection.speed=1000")],
        [*DEMO, "--speed", "1000"],
    ],
    ids=["tiebeam run", "demo"],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_in_order_and_sums_up_so_far(command, number, environ):
    environ["TIEBEAM_COMPONENTS__DASHBOARD__PROGRESS_EVERY"] = "1"
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "equity" in line:  # a progress line: candles are settled
                    break
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert out.startswith("Session summary: BTCUSDT  (so far)\n")
    assert re.search(r"^  candles +[1-9]", out, re.MULTILINE)
    assert re.search(r"^  virtual_trading +[1-9]", out, re.MULTILINE)
    assert "  books            balanced" in out
    assert f"{number.name}: stopping in order" in err
    log = Path(environ["TIEBEAM_LOGGING__FILE"]).read_text(encoding="utf-8")
    stopped = re.findall(r'"component":"(\w+)","message":"shutdown".*"to":"stopped"', log)
    chain = ["virtual_trading", "decision_engine", "data_collection", "session"]
    assert [name for name in stopped if name in chain] == chain


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", "●"), ("ascii", "?")])
def test_on_a_terminal_it_paints_and_sums_up_below(encoding, mark, environ):
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    environ["PYTHONIOENCODING"] = encoding
    for name in ("COLUMNS", "LINES"):
        environ.pop(name, None)
    with subprocess.Popen(
        DEMO, cwd=ROOT, env=environ, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 65_536):
                seen += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
        finally:
            os.close(ours)
        assert process.wait(timeout=60) == 0
    pictures, _, below = seen.decode().rpartition("\x1b[J")
    assert f"{mark} decision_engine running" in pictures
    assert "events/s" in pictures
    assert below.lstrip().startswith("Session summary: BTCUSDT")
    assert "\x1b" not in below
    lines = re.sub(r"\x1b\[\d*[A-Z]", "", pictures).splitlines()
    assert max(map(len, lines)) <= 100
