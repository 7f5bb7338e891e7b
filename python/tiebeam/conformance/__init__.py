"""What every transport has to do, as cases that run on any of them.

``tiebeam conformance redis://localhost:6379/0`` runs them against a server of yours, under names
of their own, and cleans up behind them. A case that needs what a transport does not have, by its
declared capabilities, is left out and says so.
"""

from tiebeam.conformance._cases import CASES, Case
from tiebeam.conformance._report import Report, Result, matrix
from tiebeam.conformance._run import check, check_case
from tiebeam.conformance._site import Site

__all__ = ["CASES", "Case", "Report", "Result", "Site", "check", "check_case", "matrix"]
