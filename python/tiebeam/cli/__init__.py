"""The command line: ``tiebeam --help`` says what it can do, and what its exit codes mean."""

from tiebeam.cli._main import main

__all__ = ["main"]
