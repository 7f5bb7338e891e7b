"""Parsing and dispatch."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from tiebeam import Configuration, ConfigurationError, Framework, TiebeamError, __version__
from tiebeam._core import ConfigStore
from tiebeam.cli import _conformance, _services

__all__ = ["main"]

FAILED = 1
REFUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    # As with `python -m`: modules named by `class:` are looked for here first.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return int(options.command(options))
    except ConfigurationError as error:
        print(f"tiebeam: the configuration is wrong:\n{error}", file=sys.stderr)
        return REFUSED
    except TiebeamError as error:
        print(f"tiebeam: {error}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tiebeam",
        description="Runs systems of components, and looks into them.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or configuration; 130 and 143 forced "
        "by a second SIGINT or SIGTERM.",
    )
    parser.add_argument("--version", action="version", version=f"tiebeam {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a system until SIGINT or SIGTERM")
    _files(run)
    _part(run)
    run.add_argument(
        "--fail-fast", action="store_true", help="stop if any component does not start"
    )
    run.set_defaults(command=_run)

    check = commands.add_parser("check", help="load and validate; start nothing")
    _files(check)
    _part(check)
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    check.set_defaults(command=_check)

    _conformance.add(commands)
    _services.add(commands)

    config = commands.add_parser("config", help="ask the configuration")
    asked = config.add_subparsers(required=True, metavar="WHAT")
    show = asked.add_parser("show", help="print the configuration in effect, secrets masked")
    _files(show)
    show.add_argument("--origin", action="store_true", help="say where each value comes from")
    show.add_argument("--path", metavar="A.B", help="only what is at or below this path")
    show.set_defaults(command=_show)

    graph = commands.add_parser("graph", help="print the dependency graph")
    _files(graph)
    _part(graph)
    graph.add_argument("--mermaid", action="store_true", help="as a Mermaid diagram")
    graph.set_defaults(command=_graph)
    return parser


def _part(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="a component or group to run here, the others run elsewhere; may be given several "
        "times",
    )


def _files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files to merge; later ones win")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=C",
        help="override one value; may be given several times",
    )


def _framework(options: argparse.Namespace) -> Framework:
    return Framework.from_config(
        *options.paths,
        set=options.set,
        fail_fast=getattr(options, "fail_fast", False),
        only=options.only,
    )


def _run(options: argparse.Namespace) -> int:
    return _framework(options).run()


def _check(options: argparse.Namespace) -> int:
    try:
        framework = _framework(options)
    except TiebeamError as error:
        if options.json:
            print(json.dumps({"ok": False, "problems": str(error).splitlines()}))
        raise
    order = framework._core._start_order()
    if options.json:
        print(
            json.dumps({"ok": True, "order": order, "warnings": framework.configuration.warnings})
        )
        return 0
    for warning in framework.configuration.warnings:
        print(f"warning: {warning}")
    print(f"ok: {len(order)} components, starting in this order: {', '.join(order)}")
    return 0


def _show(options: argparse.Namespace) -> int:
    from tiebeam.configuration import _leaves

    configuration = Configuration(*options.paths, set=options.set)
    shown = configuration.as_dict()
    if options.path is not None:
        # Masked by its whole path: what is secret above is secret below.
        shown = ConfigStore.redact(options.path, configuration[options.path])
    if not options.origin:
        print(json.dumps(shown, indent=2, ensure_ascii=False))
        return 0
    for path, _ in _leaves(options.path or "", shown):
        print(configuration.explain(path))
    return 0


def _graph(options: argparse.Namespace) -> int:
    print(_framework(options).graph("mermaid" if options.mermaid else "text"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
