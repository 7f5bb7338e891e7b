"""The proxy does what its faults say: else a run through it would show nothing."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from faults.processes import until
from faults.proxy import CALM, Fault, Proxy

pytestmark = pytest.mark.broker

SAID = b"what was said, " * 20


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(4096):
                self.request.sendall(data)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """One before a server that says everything back."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        with Proxy(f"tcp://127.0.0.1:{server.server_address[1]}", seed=1) as proxy:
            yield proxy
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def connection(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5.0) as peer:
        yield peer


def answer(peer: socket.socket, within: float = 5.0) -> bytes:
    """Say something; all that comes back in time, or until the end."""
    peer.settimeout(within)
    peer.sendall(SAID)
    heard = b""
    with contextlib.suppress(TimeoutError):
        while len(heard) < len(SAID) and (data := peer.recv(4096)):
            heard += data
    return heard


def _all(peer: socket.socket) -> bytes:
    """All that comes, to the end."""
    return b"".join(iter(lambda: peer.recv(16), b""))


@pytest.mark.parametrize(
    ("fault", "least"),
    [
        (CALM, 0.0),
        (Fault("slicing", slice=1), 0.0),
        (Fault("latency", delay=0.1, jitter=0.0), 0.2),
        (Fault("bandwidth", rate=3_000.0), 2 * len(SAID) / 3_000.0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_all_comes_through_and_takes_its_time(proxy: Proxy, fault: Fault, least: float) -> None:
    proxy.set(fault)
    with connection(proxy) as peer:
        began = time.monotonic()
        assert answer(peer) == SAID
        assert time.monotonic() - began >= least * 0.9


def test_a_reset_comes_in_the_middle_of_the_answer(proxy: Proxy) -> None:
    proxy.set(Fault("reset", reset=True))

    def ask_on(peer: socket.socket) -> None:
        assert len(answer(peer)) < len(SAID)
        peer.recv(1)
        peer.sendall(SAID)
        heard = b""
        with pytest.raises(ConnectionResetError):
            heard = _all(peer)
        assert len(heard) < len(SAID)

    with connection(proxy) as peer, pytest.raises(ConnectionResetError):
        ask_on(peer)


def test_only_long_answers_are_cut_and_only_so_many(proxy: Proxy) -> None:
    proxy.cut(len(SAID), {0})
    with connection(proxy) as peer:
        assert answer(peer) == SAID
    proxy.cut(len(SAID) - 1, {1})
    with connection(proxy) as peer:
        assert answer(peer) == SAID
        with pytest.raises((ConnectionResetError, AssertionError)):
            assert answer(peer) == SAID
    assert not proxy.to_cut
    with connection(proxy) as peer:
        assert answer(peer) == SAID


def test_what_was_once_half_open_stays_so_and_new_connections_are_well(proxy: Proxy) -> None:
    with connection(proxy) as peer:
        assert answer(peer) == SAID
        proxy.set(Fault("half_open", swallow=True))
        assert answer(peer, 0.2) == b""
        proxy.set(CALM)
        assert answer(peer, 0.2) == b""
        with connection(proxy) as other:
            assert answer(other) == SAID


def test_what_was_swallowed_ends_for_nobody_and_new_connections_are_well(proxy: Proxy) -> None:
    with connection(proxy) as peer:
        assert answer(peer) == SAID
        proxy.swallow_all()
        assert answer(peer, 0.2) == b""
    with connection(proxy) as other:
        assert answer(other) == SAID
        assert proxy.open == 2
    until(lambda: proxy.open < 2, 5.0, "the end of the other one is passed on")
    assert proxy.open == 1


def test_clients_are_sent_to_the_proxy_and_all_else_is_as_with_the_server() -> None:
    with Proxy("amqp://guest:a%40b@localhost:5672/v?heartbeat=1") as proxy:
        assert proxy.url == f"amqp://guest:a%40b@127.0.0.1:{proxy.port}/v?heartbeat=1"
    with Proxy("redis://localhost:6379/0") as proxy:
        assert proxy.url == f"redis://127.0.0.1:{proxy.port}/0"


def test_silence_is_a_connection_and_no_answer(proxy: Proxy) -> None:
    proxy.set(Fault("silent", silent=True))
    with connection(proxy) as peer:
        assert answer(peer, 0.2) == b""


def test_garbage_comes_instead_of_the_answer(proxy: Proxy) -> None:
    proxy.set(Fault("garbage", garbage=b"garbage"))
    with connection(proxy) as peer:
        assert answer(peer) == b"garbage"


def test_flapping_ends_what_is_there_and_what_comes(proxy: Proxy) -> None:
    with connection(proxy) as peer:
        assert answer(peer) == SAID
        proxy.set(Fault("flap", flap=True))
        with pytest.raises((ConnectionError, AssertionError)):
            assert answer(peer) == SAID
        with pytest.raises((ConnectionError, AssertionError)), connection(proxy) as other:
            assert answer(other) == SAID
        proxy.set(CALM)
        with connection(proxy) as other:
            assert answer(other) == SAID
