"""User commands: obeyed with a token that holds, refused aloud without one."""

from __future__ import annotations

import pytest

pytest.importorskip("pydantic")

from tiebeam import Component

from examples.trading.components.authentication import Authentication
from examples.trading.components.decision_engine import DecisionEngine
from examples.trading.components.virtual_trading import VirtualTrading

SECRET = "a secret of the test"
MINUTE = 60_000


class Stub(Component):
    """Stands for what the agents under test depend on."""

    name = "stub"

    def __init__(self, name):
        super().__init__()
        self.name = name


@pytest.fixture
def desk(tiebeam_framework):
    """A desk where one agent, `oracle`, decides: score 1 enters at once."""

    def open_desk(**authentication):
        users = {"olga": {"password": "her password"}}
        settings = {"token_secret": SECRET, "users": users, **authentication}
        engine = {"weights": {"oracle": 1.0}, "min_hold": 0, "smoothing": 1}
        components = {"authentication": settings, "decision_engine": engine}
        stubs = [Stub(name) for name in ("data_collection", "impact_factor", "analysis_agents")]
        agents = [Authentication(), DecisionEngine(), VirtualTrading()]
        return tiebeam_framework({"components": components}, components=[*stubs, *agents])

    return open_desk


async def candle(framework, seq, score=1.0):
    """One candle and what the oracle says of it; the action that was decided."""
    about = {"seq": seq, "symbol": "X", "close": 10.0}
    times = {"open_time": seq * MINUTE, "close_time": (seq + 1) * MINUTE}
    await framework.bus.publish("market_data.candle_closed", about | times)
    said = {"agent": "oracle", "seq": seq, "score": score}
    await framework.bus.publish("analysis.pattern", said)
    await framework.settle()
    return framework.published("trading.signal")[-1].payload["action"]


async def login(framework, password="her password"):
    return await framework.bus.request("user.login", {"user": "olga", "password": password})


def notices(framework):
    return [
        (e.payload["level"], e.payload["text"])
        for e in framework.published("user.#")
        if e.event_type == "user.notification"
    ]


async def test_a_command_with_a_token_is_obeyed(desk):
    async with desk() as framework:
        assert await candle(framework, 0) == "enter"
        token = (await login(framework))["token"]
        await framework.bus.publish("user.command", {"action": "flatten", "token": token})
        assert await candle(framework, 1) == "flatten"
        assert notices(framework) == [("info", "flatten by olga accepted at a target of 0.9")]
        assert framework.published("trading.position_update")[-1].payload["quantity"] == "0"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ({"action": "flatten"}, "malformed token"),
        ({"action": "flatten", "token": None}, "malformed token"),
        ({"action": "flatten", "token": "b2xnYQ.99999999.AAAA"}, "signature does not match"),
        (["flatten"], "malformed token"),
        (None, "malformed token"),
    ],
)
async def test_a_command_without_a_token_is_refused_with_a_user_event(desk, command, reason):
    async with desk() as framework:
        await candle(framework, 0)
        await framework.bus.publish("user.command", command)
        assert await candle(framework, 1) == "hold"
        ((level, text),) = notices(framework)
        assert level == "warning"
        assert "rejected" in text
        assert reason in text
        assert not framework.dead_letters


async def test_a_token_ends_in_event_time(desk):
    async with desk(token_lifetime=120) as framework:
        await candle(framework, 0)
        token = (await login(framework))["token"]
        for seq in (1, 2):  # issued at 1:00, so it holds at 2:00 and no longer at 3:00
            command = {"action": "status", "token": token}
            await framework.bus.publish("user.command", command)
            await candle(framework, seq)
        (_, first), (_, second) = notices(framework)
        assert "accepted" in first
        assert "status rejected: the token has expired" in second


async def test_an_unknown_command_is_refused_whoever_gives_it(desk):
    async with desk() as framework:
        await candle(framework, 0)
        token = (await login(framework))["token"]
        await framework.bus.publish("user.command", {"action": "buy", "token": token})
        assert await candle(framework, 1) == "hold"
        ((_, text),) = notices(framework)
        assert "use one of pause, resume, flatten, status" in text


async def test_nobody_takes_the_place_of_the_scripted_user(desk):
    script = [{"at": 1.5, "action": "pause"}]
    async with desk(script=script, users={"operator": {"password": "p"}}) as framework:
        await candle(framework, 0)
        fake = {"seq": 1, "number": 0, "action": "flatten", "token": "none"}
        await framework.bus.publish("user.command", fake)
        assert await candle(framework, 1) == "paused"
        texts = sorted(text for _, text in notices(framework))
        assert texts[0].startswith("flatten rejected: malformed token")
        assert texts[1] == "pause by operator accepted at a target of 0.9"


async def test_login(desk):
    async with desk() as framework:
        assert (await login(framework))["user"] == "olga"
        refused = {"ok": False, "reason": "unknown user or wrong password"}
        assert await login(framework, "another") == refused
        assert await login(framework, "") == refused
        for user in ("olaf", ""):
            question = {"user": user, "password": ""}
            assert await framework.bus.request("user.login", question) == refused


async def test_an_account_without_a_password_lets_nobody_in(desk):
    async with desk(users={"olga": {"password": ""}}) as framework:
        assert not (await login(framework, ""))["ok"]
