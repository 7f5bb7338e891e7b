"""Several processes of one system: who is there, who is gone, and what follows from that."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import redis_server
from brokers.waiting import until
from tiebeam import (
    Component,
    DependencyError,
    Event,
    EventBus,
    Framework,
    NoResponder,
    RequestTimeout,
    respond,
    subscribe,
)
from tiebeam.cli import main as command_line

pytestmark = pytest.mark.broker

LEASE, INTERVAL = 1.5, 0.5


@pytest.fixture
def site(server: Any, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A configuration under names of its own."""
    kind = "redis" if server.url.startswith("redis") else "rabbitmq"
    prefix = "".join(c if c.isalnum() else "_" for c in request.node.name)[5:45]
    return {
        "event_bus": {
            "implementation": kind,
            "connection_string": server.url,
            "channel_prefix": f"{prefix}_{os.getpid()}",
        },
        "service_registry": {
            "presence": {"lease": LEASE, "interval": INTERVAL},
            "service_timeout": 10,
        },
        "logging": {"console": False},
    }


class Feed(Component):
    capabilities = ("prices",)

    async def initialize(self) -> None:
        self.well = True

    @respond("feed.last")
    async def last(self, event: Event) -> dict[str, Any]:
        return {"price": 9.5, "pid": os.getpid()}


class Engine(Component):
    depends_on = ("feed",)

    async def initialize(self) -> None:
        self.heard: list[tuple[str, str]] = []

    @subscribe("system.service_discovered")
    async def on_found(self, event: Event) -> None:
        self.heard.append(("found", event.payload["name"]))

    @subscribe("system.service_lost")
    async def on_lost(self, event: Event) -> None:
        self.heard.append(("lost", event.payload["reason"]))


def part(site: dict[str, Any], *only: str, **registry: Any) -> Framework:
    settings = {**site, "service_registry": {**site["service_registry"], **registry}}
    return Framework(settings, components=[Feed, Engine], only=only)


def state(framework: Framework, name: str) -> str:
    return str(framework.status(name)["state"])


# -- discovery ----------------------------------------------------------------------------


def test_a_start_waits_for_what_runs_elsewhere_and_finds_it(site: dict[str, Any], run: Any) -> None:
    async def main() -> None:
        engine, feed = part(site, "engine"), part(site, "feed")
        starting = asyncio.ensure_future(engine.start())
        await until(lambda: "waiting for `feed`" in str(engine.status("engine")["cause"]))
        assert state(engine, "engine") == "configured"
        async with feed:
            report = await starting
            assert report["started"] == ["engine"]
            (found,) = engine.services("feed")
            assert (found.remote, found.pid, found.state) == (True, os.getpid(), "running")
            assert (found.framework, found.capabilities) == ("tiebeam", ("prices",))
            assert found.responds == ("feed.last",)
            assert engine.services(Feed) == engine.services(capability="prices") == [found]
            (here,) = engine.services("engine")
            assert not here.remote
            # A service elsewhere is asked as one that is here would be.
            reply = await engine.bus.request("feed.last", {}, timeout=5)
            assert reply["price"] == 9.5
            assert 0.0 < await found.ping() < 5.0
            assert (await found.info())["handles"] == ["feed.last"]
            stats = await found.stats()
            assert stats["handlers"][0]["name"] == "feed.last"
            assert stats["handlers"][0]["delivered"] == 1
            (remote,) = engine.health()["remote"]
            assert (remote["component_id"], remote["status"]) == ("feed", "running")
            assert (remote["needed_by"], remote["lives"]["pid"]) == (["engine"], os.getpid())
            async with part(site, "feed"):
                await until(lambda: ("found", "feed") in engine.get(Engine).heard)
            await engine.stop()

    run(main())


def test_who_is_new_is_told_of_all_at_once(site: dict[str, Any], run: Any) -> None:
    async def main() -> None:
        slow = {"presence": {"lease": 600, "interval": 300}}
        async with part(site, "feed", **slow), part(site, "feed", **slow):
            begun = asyncio.get_running_loop().time()
            async with part(site, "engine", **slow) as engine:
                await until(lambda: len(engine.services("feed")) == 2)
                assert asyncio.get_running_loop().time() - begun < 60, "not an interval"

    run(main())


def test_who_stops_says_goodbye_and_the_dependent_is_unhealthy_until_somebody_is_back(
    site: dict[str, Any], run: Any
) -> None:
    async def main() -> None:
        slow = {"presence": {"lease": 600, "interval": INTERVAL}}
        async with part(site, "feed", **slow) as feed:
            engine = part(site, "engine", **slow)
            await engine.start()
            await feed.stop()
            await until(lambda: state(engine, "engine") == "degraded")
            reason = engine.status("engine")["degradations"]["needs:feed"]
            assert reason == "without feed: no process announces `feed`"
            report = engine.health("engine")
            assert (report["health"], report["ready"], report["live"]) == ("fail", False, True)
            assert engine.health()["status"] == "fail"
            (remote,) = engine.health()["remote"]
            assert (remote["status"], remote["lives"], remote["ready"]) == (None, None, False)
            assert engine.services("feed") == []
            await until(lambda: ("lost", "goodbye") in engine.get(Engine).heard)
        async with part(site, "feed", **slow):
            await until(lambda: state(engine, "engine") == "running")
            assert engine.health()["status"] == "pass"
            assert engine.status("engine")["restarts"] == 0, "nobody here was restarted for it"
        await engine.stop()

    run(main())


def test_without_anybody_it_stays_configured_says_why_and_starts_when_somebody_comes(
    site: dict[str, Any], run: Any
) -> None:
    async def main() -> None:
        async with part(site, "engine", service_timeout=0.3) as engine:
            ((name, why),) = engine.start_report["blocked"]
            assert name == "engine"
            assert "no process announces `feed`" in why
            assert "--only feed" in why
            with pytest.raises(DependencyError, match="no process announces `feed`"):
                await engine.start_component("engine")
            assert state(engine, "engine") == "configured"
            async with part(site, "feed"):
                await until(lambda: state(engine, "engine") == "running")

    run(main())


def test_auto_discovery_false_announces_nothing_and_hears_nothing(
    site: dict[str, Any], run: Any
) -> None:
    async def main() -> None:
        silent = {"auto_discovery": False}
        async with (
            part(site, "feed", **silent) as alone,
            part(site, "feed") as other,
            part(site, "feed") as third,
        ):
            await until(lambda: len(third.services("feed")) == 2)
            await until(lambda: len(other.services("feed")) == 2)
            assert len(alone.services("feed")) == 1

    run(main())


def test_wildcards_do_not_hear_announcements_and_names_do(site: dict[str, Any], run: Any) -> None:
    async def main() -> None:
        bus = site["event_bus"]
        every: list[str] = []
        named: list[str] = []
        async with EventBus(
            "listener", url=bus["connection_string"], prefix=bus["channel_prefix"]
        ) as listener:
            listener.subscribe("system.#", lambda event: every.append(event.event_type))
            listener.subscribe("#", lambda event: every.append(event.event_type), group="all")
            listener.subscribe("system.presence.*", lambda event: named.append(event.event_type))
            await listener.ready()
            async with part(site, "feed"):
                await until(lambda: len(named) > 3)
            await until(lambda: every.count("system.component.stopped") == 2)
            assert set(named) == {"system.presence.announcement"}
            assert not [topic for topic in every if "presence" in topic]

    run(main())


def test_what_is_no_announcement_is_ignored(site: dict[str, Any], run: Any) -> None:
    async def main() -> None:
        bus = site["event_bus"]
        async with (
            part(site, "feed") as feed,
            EventBus(
                "stranger", url=bus["connection_string"], prefix=bus["channel_prefix"]
            ) as stranger,
        ):
            for payload in [{}, {"instance": 7}, {"x": "y" * 100_000}]:
                await stranger.publish("system.presence.announcement", payload)
            await stranger.publish("system.presence.question", {"instance": "somebody"})
            async with part(site, "feed"):
                await until(lambda: len(feed.services("feed")) == 2)
            await until(lambda: len(feed.services("feed")) == 1)

    run(main())


# -- processes that end as processes do -----------------------------------------------------

CHILD = """
import json, sys
from test_presence import part
sys.exit(part(json.loads(sys.argv[1]), "feed").run())
"""


@contextlib.contextmanager
def child(site: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the feed alone."""
    tests = str(Path(__file__).parent)
    with subprocess.Popen([sys.executable, "-c", CHILD, json.dumps(site)], cwd=tests) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_killed_process_is_gone_after_its_lease(site: dict[str, Any], run: Any) -> None:
    async def main() -> None:
        with child(site) as process:
            async with part(site, "engine") as engine:
                (feed,) = engine.services("feed")
                assert feed.pid == process.pid
                process.kill()
                await until(lambda: engine.services("feed", unhealthy=True) == [])
                await until(lambda: ("lost", "lease") in engine.get(Engine).heard)
                assert state(engine, "engine") == "degraded"
                with pytest.raises(NoResponder, match="it is not there any more"):
                    await feed.ping()
                with child(site):
                    await until(lambda: state(engine, "engine") == "running")

    run(main())


def test_a_process_that_stands_still_is_gone_and_comes_back(site: dict[str, Any], run: Any) -> None:
    async def main() -> None:
        with child(site) as process:
            async with part(site, "engine") as engine:
                (feed,) = engine.services("feed")
                os.kill(process.pid, signal.SIGSTOP)
                with pytest.raises(RequestTimeout):
                    await feed.ping(timeout=0.2)
                await until(lambda: state(engine, "engine") == "degraded")
                assert engine.services("feed", unhealthy=True) == []
                os.kill(process.pid, signal.SIGCONT)
                await until(lambda: state(engine, "engine") == "running")
                (again,) = engine.services("feed")
                assert again.instance == feed.instance

    run(main())


def test_one_that_starts_anew_under_its_name_replaces_the_old_one_at_once(
    site: dict[str, Any], run: Any
) -> None:
    async def main() -> None:
        lasting = {"presence": {"lease": 600, "interval": INTERVAL, "instance": "node-1"}}
        named = {**site, "service_registry": lasting}
        with child(named) as process:
            async with part(site, "engine") as engine:
                process.kill()
                process.wait()
                with child(named) as successor:
                    await until(lambda: [s.pid for s in engine.services("feed")] == [successor.pid])
                    assert {s.instance for s in engine.services("feed")} == {"node-1"}

    run(main())


@redis_server.NEEDED
def test_while_the_broker_is_away_nobody_counts_as_gone(
    request: pytest.FixtureRequest, run: Any
) -> None:
    with redis_server.RedisServer() as server:
        site = {
            "event_bus": {"implementation": "redis", "connection_string": server.url},
            "service_registry": {"presence": {"lease": LEASE, "interval": INTERVAL}},
            "logging": {"console": False},
        }

        async def main() -> None:
            async with part(site, "feed") as feed, part(site, "engine") as engine:
                server.kill()
                await until(lambda: engine.bus.trouble is not None)
                await asyncio.sleep(2 * LEASE)  # the time itself is what is tried here
                # The broker is missed, and nobody else.
                assert list(engine.status("engine")["degradations"]) == ["broker"]
                assert engine.services("feed") != []
                server.launch()
                await until(lambda: engine.bus.trouble is None)
                await until(lambda: state(engine, "engine") == "running")
                await asyncio.sleep(LEASE + INTERVAL)  # a lease after it is back, too
                assert state(engine, "engine") == "running"
                assert engine.get(Engine).heard.count(("lost", "lease")) == 0
                await feed.stop()
                await until(lambda: state(engine, "engine") == "degraded")

        run(main())


# -- the command line ---------------------------------------------------------------------


def test_the_command_line_lists_who_is_there(
    site: dict[str, Any], run: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async def main() -> list[str]:
        bus = site["event_bus"]
        where = ["--wait", "3", "--url", bus["connection_string"]]
        where += ["--prefix", bus["channel_prefix"]]
        async with part(site, "feed"):
            file = tmp_path / "system.json"
            file.write_text(json.dumps(site))
            assert (
                await asyncio.to_thread(command_line, ["services", str(file), "--wait", "3"]) == 0
            )
            assert "feed" in capsys.readouterr().out
            codes = [
                await asyncio.to_thread(command_line, ["services", *where]),
                await asyncio.to_thread(command_line, ["services", *where, "--json"]),
            ]
            assert codes == [0, 0]
        assert await asyncio.to_thread(command_line, ["services", *where]) == 0
        return capsys.readouterr().out.splitlines()

    assert command_line(["services"]) == 2
    assert "a bus in memory reaches no other process" in capsys.readouterr().err
    head, line, *rest = run(main())
    assert head.split() == ["service", "state", "health", "system", "host", "pid", "instance"]
    assert line.split()[:4] == ["feed", "running", "pass", "tiebeam"]
    *listed, nobody = rest
    (found,) = json.loads("\n".join(listed))
    assert (found["name"], found["pid"], found["capabilities"]) == ("feed", os.getpid(), ["prices"])
    assert nobody == "nobody announces a service there"
