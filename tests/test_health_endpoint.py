"""Probes, health and metrics by HTTP, asked as orchestrators and scrapers ask."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import GUARD
from tiebeam import Component, ConfigurationError, Framework, Health, check
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]
Answer = tuple[int, dict[str, str], str]

ON: dict[str, Any] = {
    "health": {"http": {"enabled": True, "port": 0}},
    "logging": {"console": False},
}
"""An endpoint on any port."""


def where(framework: Framework) -> tuple[str, int]:
    """Host and port of the endpoint."""
    assert framework.health_url is not None
    found = re.fullmatch(r"http://(\[::1\]|[\d.]+):(\d+)", framework.health_url)
    assert found is not None, framework.health_url
    return found[1].strip("[]"), int(found[2])


def ask(
    framework: Framework,
    path: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """One request, as curl would send it."""
    connection = http.client.HTTPConnection(*where(framework), timeout=GUARD)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        said = {name.lower(): value for name, value in response.getheaders()}
        return response.status, said, response.read().decode()
    finally:
        connection.close()


def raw(framework: Framework, sent: bytes) -> bytes:
    """Everything that comes back for these bytes, until the connection ends."""
    with socket.create_connection(where(framework), timeout=GUARD) as connection:
        received = b""
        try:
            connection.sendall(sent)
            while part := connection.recv(65_536):
                received += part
        except (ConnectionResetError, BrokenPipeError):
            pass  # it was told, and the rest was not read
        return received


class Feed(Component):
    """Says what its class is told to."""

    answer: Health = Health.ok()
    critical = True

    @check(kind="dependency")
    async def exchange(self) -> Health:
        return self.answer


async def test_it_is_off_unless_it_is_switched_on(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Feed]) as framework:
        assert framework.health_url is None


def test_probes_follow_the_life_of_the_system(run: Any) -> None:
    seen: dict[str, list[int]] = {}

    def look(when: str, framework: Framework) -> None:
        seen[when] = [ask(framework, path)[0] for path in ("/livez", "/readyz", "/startupz")]

    class Slow(Component):
        async def start(self) -> None:
            look("start", self.framework)
            _, _, text = ask(self.framework, "/readyz")
            assert text.startswith("[-]start is not through\n[-]slow failed: out_of_service: ")
            assert ask(self.framework, "/health")[0] == 503

        async def stop(self) -> None:
            look("stop", self.framework)

    async def main() -> None:
        framework = Framework(ON, components=[Slow])
        assert framework.health_url is None
        async with framework:
            look("run", framework)
            place = where(framework)
        assert framework.health_url is None
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place, timeout=GUARD)

    run(main())
    assert seen == {"start": [200, 503, 503], "run": [200, 200, 200], "stop": [200, 503, 200]}


async def test_a_system_without_components_is_ready_once_it_has_started(
    tiebeam_framework: Make,
) -> None:
    framework = tiebeam_framework(ON)
    assert framework.health()["ready"] is False
    assert framework.health()["live"] is True
    assert framework.health()["status"] == "out_of_service"
    async with framework:
        assert ask(framework, "/readyz")[0] == 200
        assert ask(framework, "/health")[0] == 200
        assert framework.health()["status"] == "unknown"


@pytest.mark.parametrize(
    ("answer", "live", "ready", "health", "word"),
    [
        (Health.ok(), 200, 200, 200, "pass"),
        (Health.warn("slow"), 200, 200, 200, "warn"),
        (Health.fail("gone"), 200, 503, 503, "fail"),
    ],
)
async def test_a_dependency_decides_about_readiness_and_never_about_life(
    tiebeam_framework: Make, answer: Health, live: int, ready: int, health: int, word: str
) -> None:
    feed = Feed()
    feed.answer = answer
    async with tiebeam_framework(ON, components=[feed]) as framework:
        await framework.check("feed")
        assert ask(framework, "/livez")[0] == live
        assert ask(framework, "/readyz")[0] == ready
        status, headers, text = ask(framework, "/health")
        assert status == health
        assert headers["content-type"] == "application/health+json"
        said = json.loads(text)
        assert said["status"] == word
        (entry,) = said["checks"]["feed:exchange"]
        assert (entry["componentId"], entry["status"]) == ("feed", word)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"])
        assert ("output" in said) == (word != "pass")
        assert said["checks"]["process:memory"][0]["observedValue"] > 1
        assert framework.health_json()["checks"].keys() == said["checks"].keys()


async def test_detail_is_given_as_kubernetes_gives_it(tiebeam_framework: Make) -> None:
    feed, other = Feed(), Feed()
    other.name = "other"
    async with tiebeam_framework(ON, components=[feed, other]) as framework:
        assert ask(framework, "/readyz")[2] == "ok\n"
        assert ask(framework, "/readyz?verbose")[2] == (
            "[+]start ok\n[+]feed ok\n[+]other ok\nreadyz check passed\n"
        )
        other.answer = Health.fail("no\nroute to redis://me:hunter2@host")
        for _ in range(3):
            await framework.check("other")
        status, _, text = ask(framework, "/readyz")
        assert status == 503
        assert text == (
            "[+]start ok\n[+]feed ok\n"
            "[-]other failed: fail: exchange: no route to redis://me:******@host\n"
            "readyz check failed\n"
        )
        assert "hunter2" not in ask(framework, "/health")[2]
        assert ask(framework, "/readyz/feed")[0] == 200
        assert ask(framework, "/readyz/other")[0] == 503
        assert ask(framework, "/livez/other?verbose")[2].startswith("[+]other ok: fail: ")
        assert ask(framework, "/readyz/nobody")[0] == 404


async def test_only_what_is_there_and_only_to_read(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(ON, components=[Feed]) as framework:
        for path in ("/", "/healthz/x", "/config", "/health/feed", "/livez/", "/%2e%2e/etc"):
            status, _, text = ask(framework, path)
            assert (status, "/readyz" in text) == (404, True), path
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "ODD"):
            status, headers, text = ask(framework, "/livez", method)
            assert (status, headers["allow"], len(text) < 100) == (405, "GET, HEAD", True)
        assert ask(framework, "/livez", "POST", body=b"x" * 1_000)[0] == 405
        for path in ("/livez", "/health", "/metrics", "/nothing"):
            got, head = ask(framework, path), ask(framework, path, "HEAD")
            assert (head[0], head[2]) == (got[0], "")
            assert head[1]["content-type"] == got[1]["content-type"]
            assert int(head[1]["content-length"]) > 0
            assert got[1]["cache-control"] == "no-store"
            assert "access-control-allow-origin" not in got[1]


MALFORMED = [
    (b"\r\n\r\n\x00\xff\xfe\r\n\r\n", b"400"),
    (b"GET /livez\r\n\r\n", b"400"),
    (b"GET /livez HTTP/9.9\r\n\r\n", b"400"),
    (b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
    (b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", b"400"),
    (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"4"),
    (b"GET /livez HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", b"431"),
    (b"GET /livez HTTP/1.1\r\n" + b"X: a\r\n" * 100 + b"\r\n", b"431"),
]


@pytest.mark.parametrize(("sent", "status"), MALFORMED, ids=range(len(MALFORMED)))
async def test_what_is_no_request_is_refused(
    tiebeam_framework: Make, sent: bytes, status: bytes
) -> None:
    async with tiebeam_framework(ON, components=[Feed]) as framework:
        received = raw(framework, sent)
        assert received == b"" or received.startswith(b"HTTP/1.1 " + status), received
        # Only what is so long that the rest of it was not read may be cut off without an answer.
        assert received or len(sent) > 16_384
        assert ask(framework, "/livez")[0] == 200


async def test_other_protocols_are_no_trouble(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(ON, components=[Feed]) as framework:
        raw(framework, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        raw(framework, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n")
        # HTTP/1.0, an absolute path, two requests at once, and a side that has ended to write.
        assert raw(framework, b"GET /livez HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nok\n")
        assert b"200 OK" in raw(framework, b"GET http://x/livez HTTP/1.1\r\nHost: x\r\n\r\n")
        twice = raw(framework, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        assert twice.count(b"200 OK") == 1
        assert b"connection: close" in twice.lower()
        with socket.create_connection(where(framework), timeout=GUARD) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")


async def test_who_takes_too_long_is_cut_off(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(ON, components=[Feed]) as framework:
        with socket.create_connection(where(framework), timeout=GUARD) as slow:
            slow.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n")
            assert ask(framework, "/livez")[0] == 200  # the slow one was taken before this one
            await framework.advance(9)
            slow.sendall(b"X: a\r\n")
            assert ask(framework, "/livez")[0] == 200
            await framework.advance(1)
            assert slow.recv(1) == b""


def test_a_thousand_silent_connections_keep_no_probe_out(run: Any) -> None:
    async def main() -> None:
        async with Framework(ON, components=[Feed]) as framework:
            place = where(framework)
            silent = [socket.create_connection(place, timeout=GUARD) for _ in range(700)]
            try:
                assert ask(framework, "/readyz")[0] == 200
                for connection in silent[:300]:
                    connection.close()
                silent = silent[300:]
                for _ in range(300):
                    connection = socket.create_connection(place, timeout=GUARD)
                    silent.append(connection)
                    connection.sendall(b"GET /livez HTT")
                assert ask(framework, "/readyz")[0] == 200
            finally:
                for connection in silent:
                    connection.close()

    run(main())


def test_a_thousand_requests_in_a_row_are_all_answered(run: Any) -> None:
    async def main() -> None:
        async with Framework(ON, components=[Feed]) as framework:
            paths = ["/livez", "/readyz", "/health", "/metrics"] * 250
            # Fewer at once than there are places: nobody has to go for being slow.
            with ThreadPoolExecutor(50) as pool:
                answers = list(pool.map(lambda path: ask(framework, path)[0], paths))
            assert answers == [200] * 1_000

    run(main())


CURL = """
import sys, urllib.request
url, write_to = sys.argv[1], int(sys.argv[2])
sys.stdin.readline()
try:
    for path in ("/livez", "/readyz", "/health", "/metrics"):
        print(urllib.request.urlopen(url + path, timeout=20).status, flush=True)
except BaseException as error:
    print(error, flush=True)
finally:
    import os
    os.write(write_to, b"x")
"""


def test_it_answers_while_c_code_holds_the_interpreter(run: Any) -> None:
    reads, writes = os.pipe()

    class Stuck(Component):
        def hold(self) -> None:
            # Without letting the interpreter go, until the other process has its answers.
            ctypes.PyDLL(None).read(reads, ctypes.create_string_buffer(1), 1)

    async def main() -> None:
        async with Framework(ON, components=[Stuck]) as framework:
            assert framework.health_url is not None
            with subprocess.Popen(  # noqa: ASYNC220 (nothing else is to run here)
                [sys.executable, "-c", CURL, framework.health_url, str(writes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[writes],
                text=True,
            ) as curl:
                assert curl.stdin is not None
                assert curl.stdout is not None
                curl.stdin.write("go\n")
                curl.stdin.flush()
                framework.get(Stuck).hold()
                assert curl.stdout.read().split() == ["200"] * 4

    try:
        run(main())
    finally:
        os.close(reads)
        os.close(writes)


def test_a_port_that_is_taken_is_an_error_that_helps(run: Any) -> None:
    async def main() -> None:
        async with Framework(ON, components=[Feed]) as framework:
            _, port = where(framework)
            taken = {"health": {"http": {"enabled": True, "port": port}}}
            second = Framework({**ON, **taken}, components=[Feed])
            with pytest.raises(ConfigurationError, match=r"another socket has that port.*or 0"):
                await second.start()
            assert second.state == "created"
        async with second:  # which is free now
            assert where(second)[1] == port

    run(main())


def test_an_address_that_is_not_here(run: Any) -> None:
    async def main() -> None:
        values = {"health": {"http": {"enabled": True, "host": "192.0.2.1", "port": 0}}}
        with pytest.raises(ConfigurationError, match=r"no such address.*health\.http\.host"):
            await Framework({**ON, **values}).start()

    run(main())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_loopback_in_all_its_forms(run: Any, host: str, capfd: Any) -> None:
    async def main() -> None:
        values = {"health": {"http": {"enabled": True, "host": host, "port": 0}}}
        async with Framework(values, components=[Feed]) as framework:
            assert ask(framework, "/livez")[0] == 200

    if host == "::1" and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    run(main())
    assert "can be reached from elsewhere" not in capfd.readouterr().err


def test_another_address_is_warned_of(run: Any, capfd: Any) -> None:
    async def main() -> None:
        values = {"health": {"http": {"enabled": True, "host": "0.0.0.0", "port": 0}}}
        async with Framework(values) as framework:
            assert ask(framework, "/livez")[0] == 200

    run(main())
    captured = capfd.readouterr()
    assert "0.0.0.0 can be reached from elsewhere" in captured.err + captured.out


@pytest.mark.parametrize(
    ("http", "complaint"),
    [
        ({"prot": 1}, "did you mean `health.http.port`"),
        ({"port": 70_000}, "<= 65535"),
        ({"host": "example.org"}, "an IP address or `localhost`"),
        ({"enabled": "often"}, "true or false"),
    ],
)
def test_settings_that_make_no_sense(http: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(complaint)):
        Framework({"health": {"http": http}})


def test_a_process_ends_with_its_endpoint_open() -> None:
    program = """
        import asyncio, urllib.request
        from tiebeam import Component, Framework

        class Quiet(Component):
            pass

        values = {"health": {"http": {"enabled": True, "port": 0}}, "logging": {"console": False}}

        async def main():
            global framework
            framework = Framework(values, components=[Quiet])
            await framework.start()
            print(urllib.request.urlopen(framework.health_url + "/readyz").status)

        asyncio.run(main())
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "200\n", "")
