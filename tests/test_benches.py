"""The benchmark runs, counts right and says what it measured; how fast is no test's affair."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from brokers import rabbitmq_server, redis_server

BENCHES = Path(__file__).resolve().parents[1] / "benches" / "python"
sys.path.append(str(BENCHES))

from harness.contender import Contender  # noqa: E402
from harness.goal import at_least, at_most, times  # noqa: E402
from harness.race import order, race  # noqa: E402
from harness.settings import Settings  # noqa: E402
from harness.table import Row, Table  # noqa: E402
from harness.tally import Miscount  # noqa: E402
from peers.wrappers import BY_HAND, Way  # noqa: E402
from processes.aims import Aim  # noqa: E402
from processes.brokers import BROKERS  # noqa: E402
from workloads import NAMES  # noqa: E402
from workloads.resilience import prove  # noqa: E402

TINY = Settings(events=200, rounds=2, warm_up=1)


@pytest.mark.parametrize("workload", NAMES)
def test_a_tiny_run_of_each_workload(workload, tmp_path):
    file, page = tmp_path / "figures.json", tmp_path / "figures.md"
    options = ["--only", workload, "--events", "200", "--rounds", "3"]
    options += ["--json", str(file), "--markdown", str(page)]
    command = [sys.executable, "-W", "error", str(BENCHES / "run.py"), *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(file.read_text())
    tables = report["workloads"][workload]
    assert tables
    for table in tables:
        assert table["title"] in ended.stdout
        ours = next(iter(table["contenders"].values()))
        assert ours["times"] == 1.0
        for name, figure in table["contenders"].items():
            assert name in ended.stdout
            if "rounds" in figure:
                assert 0 < figure["min"] <= figure["median"] <= figure["max"]
            else:
                assert figure["note"]
    assert report["goals"]
    for goal in report["goals"]:
        assert goal["what"] in ended.stdout
        assert goal["what"] in page.read_text()


def test_without_the_peers(tmp_path):
    options = ["--only", "fan_out_async", "--only", "threads", "--events", "200", "--rounds", "1"]
    options += ["--alone", "--json", str(tmp_path / "figures.json")]
    command = [sys.executable, "-W", "error", str(BENCHES / "run.py"), *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    report = json.loads((tmp_path / "figures.json").read_text())
    for tables in report["workloads"].values():
        assert all(name.startswith("tiebeam") for table in tables for name in table["contenders"])
        assert len(tables) == 2
    assert {goal["measured"] for goal in report["goals"][:1]} == {None}


def test_an_unknown_workload_is_refused():
    command = [sys.executable, str(BENCHES / "run.py"), "--only", "nothing"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "sync_inline" in ended.stderr


def _good(tally):
    handler = tally.handler()

    def run(events):
        for _ in range(events):
            handler({"payload": {"price": 38245.5}})

    yield run


def _loses_one(tally):
    handler = tally.handler()
    yield lambda events: [handler(None) for _ in range(events - 1)]


def _doubles_one(tally):
    handler = tally.handler()
    yield lambda events: [handler(None) for _ in range(events + 1)]


def _forgets_a_handler(tally):
    handler, _forgotten = tally.handler(), tally.handler()
    yield lambda events: [handler(None) for _ in range(events)]


async def _doubles_the_last(tally):
    handler = tally.async_handler()

    async def run(events):
        for _ in range(events + 1):
            await handler(None)

    yield run


async def _loses_one_async(tally):
    handler = tally.async_handler()

    async def run(events):
        for _ in range(events - 1):
            await handler(None)
        await tally.over()

    yield run


@pytest.mark.parametrize(
    "cheat", [_loses_one, _doubles_one, _forgets_a_handler, _doubles_the_last, _loses_one_async]
)
def test_a_miscount_ends_the_race(cheat, monkeypatch):
    monkeypatch.setattr("harness.race.LIMIT", 0.2)
    with pytest.raises(Miscount, match="cheat: a handler saw"):
        race("cheating", [Contender("good", _good), Contender("cheat", cheat)], TINY)


def _changes_a_payload(tally):
    handler = tally.handler()
    yield lambda events: [handler({"payload": {"price": 1.0}}) for _ in range(events)]


def test_a_changed_payload_ends_the_race():
    with pytest.raises(Miscount, match="payloads add up"):
        race("cheating", [Contender("cheat", _changes_a_payload)], TINY, reads=True)


def _calls_with_another(function):
    return lambda _argument: function(object())


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(
    ("wrap", "what"),
    [
        (_calls_with_another, {}),
        (BY_HAND.wrap, {"breaks": True}),
        (BY_HAND.wrap, {"retries": True}),
        (BY_HAND.wrap, {"breaks": True, "retries": True}),
    ],
)
def test_a_wrapper_that_does_nothing_ends_the_race(wrap, what, mode, run):
    run(prove(BY_HAND, mode))
    with pytest.raises(Miscount, match=f"cheat, {mode}"):
        run(prove(Way("cheat", wrap, **what), mode))


def test_a_peer_that_is_missing_is_listed():
    missing = Contender("elsewhere", _good, needs="no_such_module")
    table = race("with a gap", [Contender("good", _good), missing], TINY)
    assert "not installed" in table.as_text()
    assert table.as_json()["contenders"]["elsewhere"] == {"note": "not installed"}


def test_goals_are_measured_round_by_round():
    ours, peer = Row("ours", [1.0, 10.0, 2.0]), Row("peer", [3.0, 20.0, 8.0])
    table = Table("speed", "ns", [ours, peer, Row("gone", note="not installed")])
    goals = [times(table, "peer", 3.0), times(table, "peer", 3.5), times(table, "gone", 1.0)]
    assert [goal.measured for goal in goals] == [3.0, 3.0, None]
    assert [goal.met for goal in goals] == [True, False, None]
    assert table.times(ours, than=peer) == pytest.approx(1 / 3)
    words = [goal.as_text().split("   ")[-1].strip() for goal in goals]
    assert words == ["met", "not met", "not measured"]
    assert at_most("bytes", 10, "B", 10.5).met is False
    assert at_least("rate", 10, "a second", 10.5).met is True


AIMS = {
    "redis": [
        ("tiebeam_redis", "rate", 0.6, {"bare_redis"}),
        ("tiebeam_redis", "rate", 2, {"redis_py", "redis_py_single", "valkey_glide"}),
        ("tiebeam_redis", "rate", 30, {"faststream_redis"}),
        ("tiebeam_redis_tasks", "rate", 0.3, {"bare_redis"}),
        ("tiebeam_redis", "p50", 3, {"bare_redis"}),
        ("tiebeam_redis", "p99", 3, {"bare_redis"}),
    ],
    "rabbitmq": [
        ("tiebeam_rabbitmq", "rate", 0.6, {"bare_rabbitmq"}),
        ("tiebeam_rabbitmq", "rate", 4, {"aio_pika"}),
        ("tiebeam_rabbitmq", "p50", 1.5, {"bare_rabbitmq"}),
    ],
}


@pytest.mark.parametrize("name", sorted(BROKERS))
def test_what_is_aimed_at_on_a_server(name):
    broker = BROKERS[name]
    aims = [(aim.who, aim.figure, aim.bound, set(aim.beside)) for aim in broker.aims]
    assert aims == AIMS[name]
    named = {who for aim in broker.aims for who in (aim.who, *aim.beside)}
    assert named <= set(broker.contenders)


def test_aims_are_judged_by_the_figures_of_one_run():
    rates = {"ours": [60.0, 50.0, 10.0], "limit": [100.0, 50.0, 10.0], "slow": [1.0, 1.0, 1.0]}
    # Of each round, because 60, 50 and 10 have another median than the rounds.
    assert Aim("ours", "rate", 0.6, ("limit",)).judge(rates, {}).measured == 1.0
    best = Aim("ours", "rate", 2, ("slow", "limit", "absent")).judge(rates, {})
    assert (best.measured, best.unit, best.met) == (1.0, "x limit", False)
    assert Aim("ours", "rate", 2, ("slow",)).judge(rates, {}).met is True

    waits = {"ours": [0.003] * 90 + [0.3] * 10, "limit": [0.001] * 100}
    middle, high = (Aim("ours", which, 3, ("limit",)).judge({}, waits) for which in ("p50", "p99"))
    assert (middle.sign, middle.measured, middle.met) == ("<=", pytest.approx(3.0), True)
    assert (high.measured, high.met) == (pytest.approx(300.0), False)

    for aim in (Aim("ours", "p50", 3, ("one", "other")), Aim("absent", "p50", 3, ("limit",))):
        goal = aim.judge(rates, waits)
        assert (goal.measured, goal.met) == (None, None)
    assert "x one or other" in Aim("ours", "p50", 3, ("one", "other")).judge({}, waits).as_text()


def test_everybody_gets_each_place_of_a_round():
    rounds = [list(order(number, 3)) for number in range(6)]
    assert all(sorted(places) == [0, 1, 2] for places in rounds)
    assert {places[0] for places in rounds} == {0, 1, 2}
    followers = {(a, b) for places in rounds for a, b in itertools.pairwise(places)}
    assert len(followers) == 6  # each one follows each other one


@pytest.mark.broker
@pytest.mark.parametrize(
    ("broker", "paced", "others", "unmeasured"),
    [
        pytest.param(
            "redis",
            ["bare_redis", "tiebeam_redis", "redis_py_single"],
            ["tiebeam_redis_tasks", "redis_py", "tiebeam_redis_alone", "redis_benchmark"],
            ["tiebeam_redis: events per second"],
            marks=redis_server.NEEDED,
        ),
        pytest.param(
            "rabbitmq",
            ["bare_rabbitmq", "tiebeam_rabbitmq", "pika_single"],
            ["tiebeam_rabbitmq_tasks", "tiebeam_rabbitmq_alone"],
            ["tiebeam_rabbitmq: events per second"],
            marks=rabbitmq_server.NEEDED,
        ),
    ],
)
def test_a_tiny_run_on_a_server(broker, paced, others, unmeasured, tmp_path):
    file = tmp_path / "figures.json"
    options = [word for name in [*paced, *others] for word in ("--only", name)]
    command = [sys.executable, "-m", "processes", broker, "--rounds", "1", "--events", "200"]
    ended = subprocess.run(
        [*command, *options, "--json", str(file)],
        cwd=BENCHES,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    report = json.loads(file.read_text())
    words = {True: "   met", False: "   not met", None: "not measured"}
    lines = [line for line in ended.stdout.splitlines() if line.startswith("  tiebeam_")]
    for line, goal in zip(lines, report["goals"], strict=True):
        assert line.startswith(f"  {goal['what']} ")
        assert f" {goal['goal']} " in line
        assert line.endswith(words[goal["met"]])
    assert [goal["what"] for goal in report["goals"] if goal["measured"] is None] == unmeasured
    assert sorted(report["rates"]) == sorted([*paced, *others])
    assert all(rate > 0 for rates in report["rates"].values() for rate in rates)
    assert {name: len(seen) for name, seen in report["latencies"].items()} == dict.fromkeys(
        paced, 200
    )
    assert all(0 < wait < 60 for waits in report["latencies"].values() for wait in waits)
