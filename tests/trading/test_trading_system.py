"""The whole system on the in-memory bus: every agent, every event category, twice the same."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path

import pytest

pytest.importorskip("pydantic")

from tiebeam import Component, Configuration, Framework, subscribe

from examples.trading.__main__ import SHIPPED, arguments, main, overrides
from examples.trading.domain.portfolio import Portfolio


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs `python -m examples.trading` in this process; its exit code and the JSON summary."""
    monkeypatch.chdir(tmp_path)  # logs are written beside the working directory

    def once(*options):
        code = main([*options, "--json"])
        return code, capsys.readouterr().out

    return once


@pytest.fixture
def trades(tmp_path):
    """Writes a file of trades, one a second for `minutes` minutes; its path."""

    def write(minutes):
        path = tmp_path / "trades.csv"
        rows = (
            f"{second * 1000},{second + 1},{'sell' if second % 3 else 'buy'},"
            f"{100 + second // 60 % 7},{1 + second % 4}\n"
            for second in range(minutes * 60)
        )
        path.write_text("timestamp,trade_id,side,price,amount\n" + "".join(rows))
        return path

    return write


def price_updates(summary):
    counts = {name: n["price_updates"] for name, n in summary["agents"].items()}
    return {name: count for name, count in counts.items() if count is not None}


def test_a_simulated_day_runs_to_its_end_and_twice_the_same(run):
    code, out = run("--seed", "7")
    summary = json.loads(out)
    assert code == 0
    assert summary["complete"]
    assert summary["candles"] == sum(summary["signals"].values()) == 1440
    assert summary["trades"] > 0
    assert summary["commands"] == {"accepted": 2, "rejected": 1}
    assert run("--seed", "7") == (code, out)


def test_every_subscriber_handles_every_price_update_and_the_books_balance(run):
    summary = json.loads(run()[1])
    wanted = dict.fromkeys(
        ("data_collection", "impact_factor", "sentiment_analysis"), summary["trades_in"]
    )
    assert price_updates(summary) == wanted
    nothing = {"dropped": 0, "expired": 0, "dead_lettered": 0}
    assert summary["books"] == {"balanced": True, **nothing}


def test_another_seed_is_another_day(run):
    first, second = (json.loads(run("--seed", seed)[1]) for seed in ("1", "2"))
    assert first["ledger_sha256"] != second["ledger_sha256"]


def test_the_speed_changes_nothing(run, trades):
    path = str(trades(minutes=120))
    code, out = run("--replay", path)
    assert code == 0
    assert json.loads(out)["candles"] == 120
    # 7,199 s of trading in 0.7 s: the waits between trades are real, and shorter than a tick.
    assert run("--replay", path, "--speed", "10000") == (code, out)


def test_a_file_that_turns_back_ends_the_run_with_its_line(run, tmp_path):
    path = tmp_path / "trades.csv"
    path.write_text("timestamp,trade_id,side,price,amount\n5,1,buy,1,1\n4,2,buy,1,1\n")
    code, out = run("--replay", str(path))
    assert code == 1
    assert f"{path}:3: timestamp 4 is before 5" in json.loads(out)["error"]


def test_a_file_of_nothing_ends_too(run, tmp_path):
    path = tmp_path / "trades.csv"
    path.write_text("timestamp,trade_id,side,price,amount\n")
    code, out = run("--replay", str(path))
    assert (code, json.loads(out)["trades_in"]) == (0, 0)


def test_a_file_with_a_wrong_header_ends_the_run_with_the_right_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "trades.csv"
    path.write_text("time,price\n")
    assert main(["--replay", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{path}:1: the header is 'time,price'" in err


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("--replay", "none.csv"), "there is no file 'none.csv'; check the path"),
        (("--speed", "0"), "'0' is neither a positive number nor 'max'"),
        (("--speed", "fast"), "'fast' is neither a positive number nor 'max'"),
        (("--speed", "nan"), "'nan' is neither a positive number nor 'max'"),
    ],
)
def test_options_are_checked(run, capsys, option, says):
    with pytest.raises(SystemExit) as refused:
        run(*option)
    assert refused.value.code == 2
    assert says in capsys.readouterr().err


def test_options_arrive_as_they_were_written(tmp_path):
    path = tmp_path / "a: b #c ${d}.csv"
    path.touch()
    options = arguments(["--replay", str(path), "--symbol", "007", "--speed", "2.5", "--seed", "3"])
    configuration = Configuration(*options.config, set=overrides(options), environ={})
    data = configuration["components.data_collection"]
    assert (data["replay"], data["symbol"]) == (str(path), "007")
    assert (data["speed"], data["seed"]) == (2.5, 3)


@pytest.mark.parametrize("name", ["xrp_eth_trades.csv", "eth_usdt_trades.csv"])
def test_recorded_trades_twice_the_same_and_at_any_speed(run, recorded, name):
    path = recorded(name)
    with path.open(newline="") as file:
        rows = sum(1 for _ in csv.reader(file)) - 1
    code, out = run("--replay", str(path))
    summary = json.loads(out)
    assert code == 0
    assert set(price_updates(summary).values()) == {rows}
    assert summary["books"]["balanced"]
    assert run("--replay", str(path)) == (code, out)
    assert run("--replay", str(path), "--speed", "1e6") == (code, out)


def test_an_agent_that_fails_for_good_ends_the_run_with_its_name(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise ZeroDivisionError("the books are torn")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Portfolio, "mark", fail)
    assert main(["--no-live"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("Session summary: BTCUSDT  (so far)\n")
    assert "incomplete: virtual_trading: ZeroDivisionError: the books are torn\n" in err


class Stutter(Component):
    """Says everything that the agents say once more."""

    name = "stutter"
    after = ["session"]

    @subscribe("market_data.*", where="event_type != 'market_data.start_stream'")
    async def on_market(self, event):
        await self.again(event)

    @subscribe("analysis.*", where="event_type != 'analysis.report'")
    async def on_analysis(self, event):
        await self.again(event)

    @subscribe("trading.signal")
    async def on_signal(self, event):
        await self.again(event)

    async def again(self, event):
        if event.producer != self.name:
            await self.publish_event(event.event_type, event.payload)


def test_an_event_may_come_twice(run, trades, capsys):
    options = arguments(["--replay", str(trades(minutes=120)), "--json"])
    plain = json.loads(run("--replay", str(options.replay))[1])
    stutter = Framework.from_config(*SHIPPED, components=[Stutter()], set=overrides(options))
    assert stutter.run() == 0
    twice = json.loads(capsys.readouterr().out)
    for summary in (plain, twice):  # the agents say more, and all the rest stays
        assert set(price_updates(summary).values()) == {7200}
        del summary["agents"]
    assert twice == plain


class Restart(Component):
    """Restarts the technical analysis in the middle of the stream."""

    name = "restart"
    after = ["session"]

    @subscribe("trading.position_update", where={"payload.seq": 60})
    async def on_position(self, event):
        # Not awaited: a stop waits for handlers.
        restart = self.framework.restart_component("technical_analysis")
        self.restarting = asyncio.create_task(restart)


def test_a_restart_in_the_middle_ends_the_run_and_says_so(trades, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = arguments(["--replay", str(trades(minutes=120)), "--speed", "10000", "--no-live"])
    framework = Framework.from_config(*SHIPPED, components=[Restart()], set=overrides(options))
    assert framework.run() == 1
    told = "incomplete: technical_analysis was restarted in the middle of the stream\n"
    assert told in capsys.readouterr().err


def test_the_shipped_secrets_show_nowhere():
    configuration = Configuration(*SHIPPED, environ={})
    assert configuration["components.authentication.script"]
    assert "demo-only" not in str(configuration.as_dict())


def test_no_agent_imports_another():
    from examples.trading import components

    names = {p.stem for p in Path(components.__file__).parent.glob("*.py")} - {"__init__"}
    assert len(names) == 11
    for name in names:
        source = (Path(components.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
        imports = [line for line in source.splitlines() if line.startswith(("from .", "import "))]
        assert not [line for line in imports if line.startswith("from . ") or "components" in line]
        assert not [n for n in names for line in imports if line.startswith(f"from .{n} ")]
