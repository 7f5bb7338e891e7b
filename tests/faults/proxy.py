"""A TCP proxy that does to a connection what networks do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Fault:
    """What is done to everything that passes, while it lasts."""

    name: str = "none"
    delay: float = 0.0
    """Seconds by which each piece is late."""
    jitter: float = 0.0
    """Seconds by which that varies, up and down."""
    rate: float | None = None
    """Bytes in a second, each way."""
    slice: int | None = None
    """The most bytes of one piece."""
    swallow: bool = False
    """Nothing passes any more, and nobody is told: connections of this time stay like that."""
    silent: bool = False
    """New connections are taken, and nobody ever answers on them."""
    garbage: bytes | None = None
    """Answers are replaced by this, and end there."""
    reset: bool = False
    """Each answer is cut in the middle, and the connection reset."""
    flap: bool = False
    """All connections are reset at once, and so is each new one."""


CALM = Fault()


def one_of_each(rng: random.Random) -> list[Fault]:
    """Every kind of fault, in random strength."""
    return [
        Fault("reset", reset=True),
        Fault("half_open", swallow=True),
        Fault("latency", delay=rng.uniform(0.05, 0.5), jitter=rng.uniform(0.0, 0.4)),
        Fault("bandwidth", rate=rng.uniform(5_000, 50_000)),
        Fault("slicing", slice=rng.randint(1, 7)),
        Fault("silent", silent=True),
        Fault("garbage", garbage=rng.choice([HTTP, b"\xff\x00\x13" * 40, b"$99999999999\r\n"])),
        Fault("flap", flap=True),
    ]


class _Connection:
    """One connection through the proxy, both ways."""

    def __init__(
        self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.dead = False
        """It was once in a black hole: nothing passes any more, not even its end."""
        self.asked = b""
        """What the client sent last."""

    async def carry(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, answers: bool
    ) -> None:
        while data := await source.read(65536):
            fault = self.proxy.fault
            if fault.swallow or self.dead:
                self.dead = True
                continue
            if answers and fault.garbage is not None:
                target.write(fault.garbage)
                await target.drain()
                return
            if answers and (fault.reset or self.proxy.cuts(data)):
                target.write(data[: len(data) // 2])
                self.reset()
                return
            if answers:
                await self.proxy.may_pass(self.asked)
            else:
                self.asked = data
            await self.pass_on(data, target, fault)

    async def pass_on(self, data: bytes, target: asyncio.StreamWriter, fault: Fault) -> None:
        if fault.delay or fault.jitter:
            late = fault.delay + self.proxy.rng.uniform(-fault.jitter, fault.jitter)
            await asyncio.sleep(max(0.0, late))
        size = fault.slice or (1024 if fault.rate else len(data))
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            if fault.slice or fault.rate:
                # Its turn ends before each piece, so that it is sent as one.
                await asyncio.sleep(len(piece) / fault.rate if fault.rate else 0)
            target.write(piece)
            await target.drain()
            if self.proxy.fault is not fault:  # it is over: the rest goes as it is
                target.write(data[at + size :])
                await target.drain()
                return

    def reset(self) -> None:
        """End both sides so that the peer sees a reset, not an end."""
        for writer in (self.client, self.server):
            peer = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    """It stands before a server on this machine, in a thread of its own."""

    def __init__(self, url: str, seed: int = 0) -> None:
        self._server_url = urlsplit(url)
        assert self._server_url.port is not None, "the server's port is not said"
        self.to = self._server_url.port
        self.port = 0
        self.rng = random.Random(seed)
        self.fault = CALM
        self.taken = 0
        """How many connections it has taken."""
        self.to_cut: set[int] = set()
        """Which of the long answers from now on are to be cut yet."""
        self._beyond = 0
        self._held: bytes | None = None
        self._let_go = asyncio.Event()
        self._open: set[_Connection] = set()
        self._writers: weakref.WeakSet[asyncio.StreamWriter] = weakref.WeakSet()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where clients find the server behind it: all but the place is as in the server's own."""
        login, at, _ = self._server_url.netloc.rpartition("@")
        return self._server_url._replace(netloc=f"{login}{at}127.0.0.1:{self.port}").geturl()

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._open)

    def set(self, fault: Fault) -> None:
        """From now on it does this."""

        def change() -> None:
            self.fault = fault
            if fault.flap:
                self._reset_all()

        self._loop.call_soon_threadsafe(change)

    def reset_all(self) -> None:
        """Reset every connection there is."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def swallow_all(self) -> None:
        """Nothing passes any more over any connection there is; new ones are well."""

        async def swallow() -> None:
            for connection in self._open:
                connection.dead = True

        self._call(swallow)

    def cut(self, beyond: int, which: Iterable[int]) -> None:
        """Cut answers in the middle, and reset their connections: of those from now on that have
        more than so many bytes, these; 0 is the next."""

        async def cut() -> None:
            self._beyond, self.to_cut = beyond, set(which)

        self._call(cut)

    def hold(self, asked: bytes) -> None:
        """Answers to requests with this in them wait until they are let go."""

        async def hold() -> None:
            self._held = asked
            self._let_go.clear()

        self._call(hold)

    def let_go(self) -> None:
        """What was held, and what comes, passes."""

        async def let_go() -> None:
            self._held = None
            self._let_go.set()

        self._call(let_go)

    async def may_pass(self, asked: bytes) -> None:
        """Wait until the answer to this may pass."""
        if self._held is not None and self._held in asked:
            await self._let_go.wait()

    def cuts(self, answer: bytes) -> bool:
        """Whether this one is to be cut; it counts."""
        if not self.to_cut or len(answer) <= self._beyond:
            return False
        cut = 0 in self.to_cut
        self.to_cut = {number - 1 for number in self.to_cut if number}
        return cut

    def _reset_all(self) -> None:
        for connection in list(self._open):
            connection.reset()

    async def _take(self, source: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.taken += 1
        self._writers.add(client)
        fault = self.fault
        if fault.silent:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                while await source.read(65536):
                    pass  # it listens, and says nothing
            client.close()
            return
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            client.transport.abort()
            return
        self._writers.add(server)
        connection = _Connection(self, client, server)
        if fault.flap:
            connection.reset()
            return
        self._open.add(connection)
        ways = [
            asyncio.ensure_future(connection.carry(source, server, False)),
            asyncio.ensure_future(connection.carry(answers, client, True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if connection.dead:
                await asyncio.wait(ways)  # the other side waits on
        except asyncio.CancelledError:
            pass  # the proxy ends; the stream's own callback would print it
        finally:
            self._open.discard(connection)
            for way in ways:
                way.cancel()
            with contextlib.suppress(asyncio.CancelledError):  # the proxy may end by now, too
                await asyncio.gather(*ways, return_exceptions=True)
            client.close()
            server.close()

    def _call(self, what: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return asyncio.run_coroutine_threadsafe(what(), self._loop).result(10.0)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._server = self._call(lambda: asyncio.start_server(self._take, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        async def close() -> None:
            self._server.close()
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            for writer in list(self._writers):
                writer.transport.abort()
            await asyncio.sleep(0.01)  # until the loop has let go of them

        self._call(close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()
