"""The limit: the bytes of batches of 100 over plain sockets, without any client.

Events are encoded beforehand and never decoded: only the server, and the kernel, do anything.
"""

from __future__ import annotations

import re
import socket
from typing import Any
from urllib.parse import urlsplit

from processes.envelope import BATCH, GROUP, STREAM, payload, text
from processes.pace import Pace

_ID = re.compile(rb"\r\n\$\d+\r\n(\d+-\d+)\r\n\*2\r\n\$4\r\ndata")


def _connect(url: str) -> socket.socket:
    where = urlsplit(url)
    link = socket.create_connection((where.hostname or "127.0.0.1", where.port or 6379))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


async def publish(url: str, count: int, pace: Pace) -> None:
    """Batches of 100, one round trip each."""
    del pace
    link = _connect(url)
    stream = STREAM.encode()
    one = b"".join(_command(b"XADD", stream, b"*", b"data", text(n)) for n in range(BATCH))
    for _ in range(count // BATCH):
        link.sendall(one)
        lines = 0
        while lines < BATCH * 2:
            lines += link.recv(1 << 16).count(b"\r\n")
    link.close()


async def consume(url: str, ready: Any, handled: Any) -> None:
    """Reads of 100, acknowledged in the round trip of the next read."""
    link = _connect(url)
    stream, group = STREAM.encode(), GROUP.encode()
    link.sendall(_command(b"XGROUP", b"CREATE", stream, group, b"$", b"MKSTREAM"))
    link.recv(100)
    ready()
    content = payload(0)
    read = _command(
        *(b"XREADGROUP", b"GROUP", group, b"one", b"COUNT", b"%d" % BATCH, b"BLOCK", b"5000"),
        *(b"STREAMS", stream, b">"),
    )
    acknowledge, over = b"", False
    while not over:
        link.sendall(acknowledge + read)
        answer = b""
        expected = 1 if acknowledge else 0
        while True:
            answer += link.recv(1 << 18)
            body = answer.split(b"\r\n", expected)[-1] if expected else answer
            ids = _ID.findall(body)
            if ids and body.endswith(b"\r\n") and _is_whole(body, len(ids)):
                break
        for _ in ids:
            over = handled(content)
        acknowledge = _command(b"XACK", stream, group, *ids)
    link.sendall(acknowledge)
    link.recv(100)
    link.close()


def _is_whole(body: bytes, count: int) -> bool:
    """Whether as many entries are there as the answer says."""
    stated = re.search(rb"\r\n\*(\d+)\r\n\*2\r\n\$\d+\r\n\d+-\d+", body)
    return stated is not None and int(stated[1]) == count and body.endswith(b"}}\r\n")
