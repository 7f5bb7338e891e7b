"""``tiebeam services``: who is there."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from tiebeam import Configuration, ConfigurationError, Framework, Service
from tiebeam.cli._broker import add_files, files

__all__ = ["add", "run"]

ROW = "{:<24}{:<12}{:<16}{:<20}{:<18}{:>8}  {}"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("services", help="list the components of all processes")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files that say where the bus is")
    parser.add_argument("--url", help="or where the broker is, as redis://localhost:6379/0")
    parser.add_argument(
        "--prefix", metavar="NAME", help="event_bus.channel_prefix, where it is not `tiebeam`"
    )
    parser.add_argument(
        "--partitions",
        type=int,
        metavar="N",
        help="event_bus.partitions of the processes there, where it is not 1 and no file says it",
    )
    parser.add_argument(
        "--wait", type=float, default=1.0, metavar="SECONDS", help="for answers (1 by default)"
    )
    parser.add_argument("--json", action="store_true", help="print all that is known, as JSON")
    add_files(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """List them; returns the exit code."""
    services = asyncio.run(_ask(_bus(options), options.wait))
    if options.json:
        shown = [
            {name: value for name, value in vars(s).items() if not name.startswith("_")}
            for s in services
        ]
        print(json.dumps(shown, indent=2, ensure_ascii=False))
        return 0
    if not services:
        print("nobody announces a service there")
        return 0
    print(ROW.format("service", "state", "health", "system", "host", "pid", "instance"))
    for s in services:
        print(ROW.format(s.name, s.state, s.health, s.framework, s.host, s.pid, s.instance))
    return 0


async def _ask(bus: dict[str, Any], wait: float) -> list[Service]:
    values = {
        "event_bus": bus,
        "service_registry": {"shutdown_timeout": 1},  # nothing here is worth a longer wait
        "logging": {"console": False},
    }
    try:
        # The environment is in `bus` already: it must not overrule what the command line says.
        async with Framework(Configuration(values=values, environ={})) as framework:
            await asyncio.sleep(wait)
            found = framework.services(unhealthy=True)
    except ConfigurationError as error:
        if "partition(s)" not in str(error):
            raise
        hint = "this command takes the number that is on the server as --partitions N"
        raise ConfigurationError(f"{error}\n{hint}") from None
    return sorted(found, key=lambda service: (service.name, service.instance))


def _bus(options: argparse.Namespace) -> dict[str, Any]:
    """Section `event_bus` as the processes there have it, with what the command line says.

    A listing without its broker would be an empty one, so that is always required.
    """
    bus: dict[str, Any] = {**Configuration(*options.paths)["event_bus"], "required": True}
    if options.url is not None:
        # What is neither is refused with what there is, like in a configuration.
        kind = "rabbitmq" if options.url.startswith("amqp") else "redis"
        bus |= {"implementation": kind, "connection_string": options.url}
    if options.prefix is not None:
        bus["channel_prefix"] = options.prefix
    if options.partitions is not None:
        bus["partitions"] = options.partitions
    bus["tls"] |= files(options)
    if bus["implementation"] == "in_memory":
        raise ConfigurationError(
            "a bus in memory reaches no other process; give --url, or files that name a broker"
        )
    return bus
