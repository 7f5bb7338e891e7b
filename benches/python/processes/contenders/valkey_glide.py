"""valkey-glide by hand: batches of 100, read and acknowledged by 100."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from processes.envelope import BATCH, GROUP, STREAM, text
from processes.pace import Pace


async def _client(url: str) -> Any:
    from glide import GlideClient, GlideClientConfiguration, NodeAddress

    where = urlsplit(url)
    address = NodeAddress(where.hostname or "127.0.0.1", where.port or 6379)
    return await GlideClient.create(GlideClientConfiguration([address], request_timeout=30_000))


async def publish(url: str, count: int, pace: Pace) -> None:
    """Batches of 100."""
    from glide import Batch

    client = await _client(url)
    pace.begin()
    for first in range(0, count, BATCH):
        batch = Batch(is_atomic=False)
        for n in range(first, min(first + BATCH, count)):
            batch.xadd(STREAM, [("data", text(n))])
        await client.exec(batch, raise_on_error=True)
    await client.close()


async def consume(url: str, ready: Any, handled: Any) -> None:
    """Reads of 100, each acknowledged as a whole."""
    from glide import StreamGroupOptions, StreamReadGroupOptions

    client = await _client(url)
    await client.xgroup_create(STREAM, GROUP, "$", StreamGroupOptions(make_stream=True))
    ready()
    options = StreamReadGroupOptions(count=BATCH, block_ms=5_000)
    over = False
    while not over:
        found = await client.xreadgroup({STREAM: ">"}, GROUP, "one", options)
        for entries in (found or {}).values():
            for fields in entries.values():
                over = handled(json.loads(fields[0][1])["payload"])
            await client.xack(STREAM, GROUP, list(entries))
    await client.close()
