"""What docs/brokers.md has accounts of a broker allowed is enough for all that is done there."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from brokers import rabbitmq_server, redis_server
from tiebeam.conformance import check

pytestmark = pytest.mark.broker

PAGE = (Path(__file__).parents[1] / "docs" / "brokers.md").read_text()


def shown(command: str) -> list[str]:
    """The words of the line that begins with it."""
    (line,) = re.findall(rf"^{command} .*$", PAGE, re.MULTILINE)
    return shlex.split(line)


async def all_cases(url: str) -> None:
    report = await check(url, prefix="tiebeam")
    assert report.failed == []
    assert report.count("passed") > 30


@redis_server.NEEDED
def test_on_redis() -> None:
    with redis_server.RedisServer() as server:
        client: Any = server.client()
        client.execute_command(*shown("ACL SETUSER"))
        asyncio.run(all_cases(server.url.replace("//", "//trader:secret@")))
        refused = [entry["object"] for entry in client.acl_log() if entry["object"] != "config|get"]
        assert refused == [], "what was asked for nevertheless"


@rabbitmq_server.NEEDED
def test_on_rabbitmq() -> None:
    with rabbitmq_server.RabbitMqServer() as server:
        server.ctl("add_user", "trader", "secret")
        server.ctl(*shown("rabbitmqctl set_permissions")[1:])
        asyncio.run(all_cases(server.url.replace("guest:guest", "trader:secret")))
