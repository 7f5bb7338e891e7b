"""``tiebeam services``: who is there."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from tiebeam import Configuration, ConfigurationError, Framework, Service

__all__ = ["add", "run"]

ROW = "{:<24}{:<12}{:<16}{:<20}{:<18}{:>8}  {}"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("services", help="list the components of all processes")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files that say where the bus is")
    parser.add_argument("--url", help="or where the broker is, as redis://localhost:6379/0")
    parser.add_argument("--prefix", help="event_bus.channel_prefix, where it is not `tiebeam`")
    parser.add_argument(
        "--wait", type=float, default=1.0, metavar="SECONDS", help="for answers (1 by default)"
    )
    parser.add_argument("--json", action="store_true", help="print all that is known, as JSON")
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
    async with Framework({"event_bus": bus, "logging": {"console": False}}) as framework:
        await asyncio.sleep(wait)
        found = framework.services(unhealthy=True)
    return sorted(found, key=lambda service: (service.name, service.instance))


def _bus(options: argparse.Namespace) -> dict[str, Any]:
    bus: dict[str, Any] = {}
    if options.paths:
        section = Configuration(*options.paths)
        for key in ("implementation", "connection_string", "channel_prefix", "tls"):
            bus[key] = section[f"event_bus.{key}"]
    if options.url is not None:
        # What is neither is refused with what there is, like in a configuration.
        kind = "rabbitmq" if options.url.startswith("amqp") else "redis"
        bus |= {"implementation": kind, "connection_string": options.url}
    if options.prefix is not None:
        bus["channel_prefix"] = options.prefix
    if bus.get("implementation", "in_memory") == "in_memory":
        raise ConfigurationError(
            "a bus in memory reaches no other process; give --url, or files that name a broker"
        )
    return bus
