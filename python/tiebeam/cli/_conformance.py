"""``tiebeam conformance``: whether brokers do what tiebeam needs."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from tiebeam.cli._broker import add_files, files
from tiebeam.exceptions import ConfigurationError, DependencyError

if TYPE_CHECKING:
    from tiebeam.conformance import Report, Result

__all__ = ["add", "run"]

ABOUT = """\
Runs every case against each broker, under names of their own, which are gone afterwards. Each case
is told as it ends, on stderr; what came of all is on stdout, a column for each broker: `ok`,
`FAILED`, or `-` where the transport has not what the case needs.
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "conformance",
        help="check that brokers of yours do what tiebeam needs",
        description=ABOUT,
        epilog="Exits with 0 if no case failed, with 1 if one did or a broker is not there, and "
        "with 2 for a wrong URL, user, password or certificate.",
    )
    parser.add_argument(
        "urls",
        nargs="*",
        metavar="URL",
        help="where brokers are, as redis://localhost:6379/0; without any, the bus in memory",
    )
    parser.add_argument(
        "--prefix",
        metavar="NAME",
        help="what the names on the brokers begin with, for a user who may use no others "
        "(tiebeam-conformance by default)",
    )
    parser.add_argument("--json", action="store_true", help="print what came of all as JSON")
    add_files(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Check them all; returns the exit code."""
    reports = asyncio.run(_check(options))
    if options.json:
        shown = [report.as_json() for report in reports]
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        from tiebeam.conformance import matrix

        print(matrix(reports))
    return 1 if any(report.failed for report in reports) else 0


async def _check(options: argparse.Namespace) -> list[Report]:
    from tiebeam.conformance import check  # what nobody asks for is not imported
    from tiebeam.conformance._report import place

    how: dict[str, Any] = {}
    if options.prefix is not None:
        how["prefix"] = options.prefix
    if tls := files(options):
        how["tls"] = tls
    if how and not options.urls:
        raise ConfigurationError(
            "a bus in memory has no names on a broker, and no TLS: give a URL, or leave out "
            "--prefix and the files"
        )
    urls: list[str | None] = options.urls or [None]
    for number, url in enumerate(urls, 1):  # before the first one takes its time
        await _reach(url, place(url) or f"URL {number}", how)
    reports = []
    for url in urls:
        print(place(url) or "in memory", file=sys.stderr)
        reports.append(await check(url, told=_tell, **how))
    return reports


async def _reach(url: str | None, called: str, how: dict[str, Any]) -> None:
    """See whether a broker is there, and say which one is not."""
    from tiebeam.conformance._run import reach

    try:
        await reach(url, **how)
    except (ConfigurationError, DependencyError) as error:
        raise type(error)(f"{called}: {error}") from None


def _tell(result: Result) -> None:
    from tiebeam.conformance._report import MARKS

    said = f": {result.reason}" if result.reason else f" ({result.seconds:.2f} s)"
    print(f"  {MARKS[result.outcome]:6}  {result.case}{said}", file=sys.stderr, flush=True)
