"""The command line: ``tiebeam run``, ``check``, ``conformance``, ``config``, ``graph``.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 and 143 forced by a second
SIGINT or SIGTERM.
"""

from tiebeam.cli._main import main

__all__ = ["main"]
