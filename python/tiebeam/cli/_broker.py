"""What commands that go to a broker are told of it on the command line."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_files", "files"]


def add_files(parser: Any) -> None:
    """Add the files that TLS needs, in the words of `event_bus.tls`."""
    group = parser.add_argument_group(
        "TLS", "for URLs that ask for it (rediss://, amqps://): PEM files, as in event_bus.tls"
    )
    group.add_argument(
        "--ca-file", metavar="FILE", help="CAs that are trusted instead of those of the system"
    )
    group.add_argument(
        "--cert-file", metavar="FILE", help="the certificate that is shown to the broker"
    )
    group.add_argument("--key-file", metavar="FILE", help="its key, unless it is in --cert-file")


def files(options: argparse.Namespace) -> dict[str, str]:
    """Those that were given, as `tls` takes them."""
    given = {name: getattr(options, name) for name in ("ca_file", "cert_file", "key_file")}
    return {name: file for name, file in given.items() if file is not None}
