"""Supervision: a component that is unwell is restarted, and given up in the end."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from tiebeam import Component, ConfigurationError, Framework
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]


class Sick(Component):
    """Its health check fails for as long as it is told to."""

    def __init__(self) -> None:
        self.sick = False
        self.heals_on_restart = True
        self.diary: list[str] = []

    async def start(self) -> None:
        self.diary.append("start")
        if self.heals_on_restart:
            self.sick = False

    async def stop(self) -> None:
        self.diary.append("stop")

    async def health_check(self) -> None:
        if self.sick:
            raise ConnectionError("no heartbeat")


class Leans(Component):
    depends_on = ["sick"]


class Good(Component):
    """Has nothing to do with the others."""


async def test_three_failed_checks_restart_a_component_and_its_dependents_follow(
    tiebeam_framework: Make,
) -> None:
    sick = Sick()
    async with tiebeam_framework(components=[sick, Leans]) as framework:
        await framework.advance(10)
        sick.sick = True
        await framework.advance(20)
        assert sick.diary == ["start"]  # two failures are not three
        assert framework.status("sick")["state"] == "running"
        await framework.advance(15)
        assert sick.diary == ["start", "stop", "start"]
        assert framework.status("sick")["restarts"] == 1
        assert framework.status("sick")["state"] == "running"
        assert framework.status("leans")["state"] == "running"
        (restarting,) = framework.published("system.supervisor.restarting")
        assert restarting.payload["component"] == "sick"
        assert "no heartbeat" in restarting.payload["error"]
        assert framework.published("system.alert") == []


async def test_when_recovery_attempts_are_used_up_it_has_failed_for_good(
    tiebeam_framework: Make,
) -> None:
    sick = Sick()
    sick.heals_on_restart = False
    async with tiebeam_framework(components=[sick, Leans, Good]) as framework:
        sick.sick = True
        await framework.advance(600)
        status = framework.status("sick")
        assert (status["state"], status["given_up"]) == ("failed", True)
        assert "no heartbeat" in status["cause"]
        # Three restarts, and one more try after the cooldown of five minutes.
        assert sick.diary.count("start") == sick.diary.count("stop") == 1 + 3 + 1
        assert len(framework.published("system.supervisor.gave_up")) == 2
        leans = framework.status("leans")
        assert leans["state"] in ("configured", "stopped")
        assert leans["blocked_by"] == "sick"
        assert framework.status("good")["state"] == "running"
        alert, *_ = framework.published("system.alert")
        assert alert.payload["reason"] == "supervisor_gave_up"
        assert alert.payload["component"] == "sick"
        health = framework.health()
        assert health["status"] == "fail"
        assert framework.health("sick")["health"] == "fail"
        assert json.dumps(health)
        # Somebody mends it and starts it by hand.
        sick.sick = False
        await framework.start_component("sick")
        assert framework.status("sick")["given_up"] is False
        assert framework.status("leans")["state"] == "running"


async def test_a_temporary_component_is_not_restarted(tiebeam_framework: Make) -> None:
    class Temporary(Sick):
        restart = "temporary"

    sick = Temporary()
    async with tiebeam_framework(components=[sick]) as framework:
        sick.sick = True
        await framework.advance(200)
        assert sick.diary == ["start", "stop"], "what it has begun ends"
        assert framework.status("temporary")["state"] == "failed"


class Worker(Component):
    """Ends when it is told to."""

    restart = "transient"

    def __init__(self) -> None:
        self.starts = 0

    async def start(self) -> None:
        self.starts += 1


async def test_a_transient_component_that_finishes_is_at_its_end(tiebeam_framework: Make) -> None:
    worker = Worker()
    async with tiebeam_framework(components=[worker]) as framework:
        assert worker.finish_component("all done")
        assert not worker.finish_component()  # it has said so
        await framework.advance(100)
        status = framework.status("worker")
        assert (status["state"], status["cause"]) == ("stopped", "finished")
        assert worker.starts == 1
        assert not worker.finish_component()
        assert framework.published("system.error.#") == []
        await framework.start_component("worker")
        assert worker.starts == 2


async def test_a_component_that_fails_by_its_own_word_is_restarted(tiebeam_framework: Make) -> None:
    worker = Worker()
    async with tiebeam_framework(components=[worker]) as framework:
        with pytest.raises(ConnectionError) as raised:
            raise ConnectionError("the feed is gone")
        assert worker.fail_component(raised.value)
        assert worker.state == "failed"
        assert not worker.fail_component("again")
        await framework.settle()
        assert worker.starts == 2
        (told,) = framework.published("system.error.#")
        assert told.payload["error_type"] == "ConnectionError"
        assert "test_supervision.py" in told.payload["traceback"]


async def test_a_group_goes_down_and_comes_up_together_and_escalates(
    tiebeam_framework: Make,
) -> None:
    class One(Worker):
        restart = "permanent"

    class Two(One): ...

    class Apart(One): ...

    values = {
        "components": {"pair": {"one": {"enabled": True}, "two": {"enabled": True}}},
        "supervision": {
            "cooldown": "1m",
            "groups": {"pair": {"strategy": "one_for_all", "intensity": 1, "period": 10}},
        },
        "health": {"recovery_attempts": 1},
    }
    one, two, apart = One(), Two(), Apart()
    async with tiebeam_framework(values, components=[one, two, apart]) as framework:

        async def crash() -> None:
            one.fail_component("crash")
            await framework.settle()

        await crash()
        assert (one.starts, two.starts, apart.starts) == (2, 2, 1)
        await crash()  # more than the pair bears: the system restarts it as a whole
        (escalated,) = framework.published("system.supervisor.escalated")
        assert escalated.payload["supervisor"] == "pair"
        assert (one.starts, two.starts, apart.starts) == (3, 3, 1)
        await crash()
        await crash()  # more than the system bears of the pair
        assert [framework.status(name)["state"] for name in ("one", "two", "apart")] == [
            "failed",
            "stopped",
            "running",
        ]
        (gave_up,) = framework.published("system.supervisor.gave_up")
        assert gave_up.payload["supervisor"] == "system:pair"
        assert gave_up.payload["retry_in_ms"] == 60_000
        await framework.advance(61)
        assert [framework.status(name)["state"] for name in ("one", "two")] == ["running"] * 2


async def test_who_is_started_by_hand_brings_back_those_stopped_with_it(
    tiebeam_framework: Make,
) -> None:
    class One(Worker): ...

    class Two(Worker): ...

    values = {
        "components": {"pair": {"one": {"enabled": True}, "two": {"enabled": True}}},
        "supervision": {"cooldown": 0, "groups": {"pair": {"intensity": 0}}},
        "health": {"recovery_attempts": 0},
    }
    one, two = One(), Two()
    async with tiebeam_framework(values, components=[one, two]) as framework:
        one.fail_component("crash")
        await framework.advance(7_200)
        assert framework.status("one")["given_up"]
        assert two.state == "stopped"
        await framework.start_component("one")
        assert (one.state, two.state) == ("running", "running")


async def test_a_restart_by_hand_costs_nothing(tiebeam_framework: Make) -> None:
    class Once(Worker):
        restart = "permanent"
        supervision = {"intensity": 1, "period": "1h"}

    once = Once()
    async with tiebeam_framework(components=[once]) as framework:
        for _ in range(5):
            await framework.restart_component("once")
        once.fail_component("the first")
        await framework.settle()
        assert once.state == "running"
        once.fail_component("the second")
        await framework.settle()
        assert framework.status("once")["given_up"]


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"supervision": {"intensty": 3}}, "Wrong has no `intensty`; did you mean `intensity`?"),
        ({"supervision": {"period": 0}}, "Wrong.period must be > 0, got 0"),
        ({"on_loss": {"base": "degrad"}}, "did you mean `degrade`?"),
        ({"on_loss": {"bas": "stop"}}, "nor in its `wants`; did you mean `base`?"),
    ],
)
def test_what_a_class_says_is_checked(
    tiebeam_framework: Make, attributes: dict[str, object], said: str
) -> None:
    class Base(Component): ...

    wrong = type("Wrong", (Component,), {"depends_on": ["base"], **attributes})
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        tiebeam_framework(components=[Base, wrong])


@pytest.mark.parametrize(
    ("supervision", "said"),
    [
        ({"strategy": "one_for_al"}, "one_for_all"),
        ({"groups": {"analysts": {}}}, "there is no group `analysts`"),
        ({"groups": {"agent": {}}}, "did you mean `agents`?"),
        ({"components": {"workr": {}}}, "there is no component `workr`"),
        ({"components": {"worker": {"on_loss": {"x": "stp"}}}}, "stop"),
        ({"groups": {"agents": {"intensity": -1}}}, "must be >= 0"),
        ({"perod": 3}, "supervision.period"),
    ],
)
def test_what_a_file_says_is_checked(supervision: dict[str, object], said: str) -> None:
    components = {"agents": {"other": {"enabled": True}}}
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        Framework(
            {"supervision": supervision, "components": components},
            components=[Worker, type("Other", (Component,), {})],
        )


def test_a_group_that_nobody_is_in_is_refused_where_there_are_no_groups() -> None:
    with pytest.raises(ConfigurationError, match="there is no group `agents`"):
        Framework({"supervision": {"groups": {"agents": {}}}}, components=[Worker])


async def test_who_says_too_early_that_it_has_finished_may_say_so_again(
    tiebeam_framework: Make,
) -> None:
    class Once(Component):
        restart = "temporary"
        early: bool | None = None

        async def start(self) -> None:
            self.early = self.finish_component()

    async with tiebeam_framework(components=[Once]) as framework:
        once = framework.get(Once)
        assert once.early is False
        assert once.state == "running"
        assert once.finish_component("done") is True
        await framework.advance(1)
        assert once.state == "stopped"


async def test_one_that_failed_and_stays_so_ends_what_it_has_begun(
    tiebeam_framework: Make,
) -> None:
    class Trader(Component):
        restart = "temporary"
        stops = 0

        async def stop(self) -> None:
            self.stops += 1

    async with tiebeam_framework(components=[Trader]) as framework:
        trader = framework.get(Trader)
        trader.fail_component("lost its way")
        await framework.advance(1)
        assert (trader.state, trader.stops) == ("failed", 1)
        assert "lost its way" in framework.status("trader")["cause"]
    assert trader.stops == 1
    with pytest.raises(TypeError, match="an exception or a text"):
        trader.fail_component(3)  # type: ignore[arg-type]


async def test_a_start_by_hand_during_a_stop_is_what_somebody_wants(
    tiebeam_framework: Make,
) -> None:
    class Slow(Component):
        async def stop(self) -> None:
            await asyncio.sleep(0.3)

    async with tiebeam_framework(components=[Slow]) as framework:
        slow = framework.get(Slow)
        stopping = asyncio.create_task(framework.stop_component("slow"))
        await framework.advance(0.1)
        starting = asyncio.create_task(framework.start_component("slow"))
        await framework.advance(1)
        await asyncio.gather(stopping, starting)
        assert slow.state == "running"
        slow.fail_component("once")
        await framework.advance(5)
        assert slow.state == "running"
        assert framework.status("slow")["restarts"] == 1


async def test_a_start_by_hand_of_one_that_has_finished_is_not_undone(
    tiebeam_framework: Make,
) -> None:
    class Batch(Component):
        restart = "transient"

    class Reader(Component):
        depends_on = ["batch"]

        async def stop(self) -> None:
            await asyncio.sleep(0.3)

    async with tiebeam_framework(components=[Batch, Reader]) as framework:
        batch = framework.get(Batch)
        batch.finish_component()
        await framework.advance(0.1)
        starting = asyncio.create_task(framework.start_component("batch"))
        await framework.advance(5)
        await starting
        assert batch.state == "running"
        assert framework.status("reader")["state"] == "running"
        assert batch.finish_component() is True
        await framework.advance(5)
        assert batch.state == "stopped"


async def test_members_of_a_group_sit_out_their_backoffs_side_by_side(
    tiebeam_framework: Make,
) -> None:
    class One(Worker):
        restart = "permanent"

    class Two(One): ...

    values = {
        "components": {"pair": {"one": {"enabled": True}, "two": {"enabled": True}}},
        "supervision": {
            "backoff": {"initial_delay": 20, "max_delay": 20, "jitter": "none"},
            "groups": {"pair": {"intensity": 4, "period": 600}},
        },
    }
    one, two = One(), Two()
    async with tiebeam_framework(values, components=[one, two]) as framework:
        one.fail_component("the first does not wait")
        await framework.settle()
        one.fail_component("this one waits")
        await framework.advance(10)
        assert one.state == "stopped"
        two.fail_component("meanwhile")
        await framework.settle()
        told = framework.published("system.supervisor.restarting")
        assert [(e.payload["component"], e.payload["attempt"]) for e in told] == [
            ("one", 1),
            ("one", 2),
            ("two", 3),
        ], "each is decided about at once, and counts"
        assert two.state == "stopped"
        await framework.advance(10)
        assert (one.state, two.state) == ("running", "stopped")
        await framework.advance(10)
        assert (one.state, two.state) == ("running", "running")
        assert (one.starts, two.starts) == (3, 2)
        one.fail_component("the fourth")
        await framework.settle()
        two.fail_component("one more than is borne")
        await framework.advance(1)
        (escalated,) = framework.published("system.supervisor.escalated")
        assert escalated.payload["supervisor"] == "pair"
        assert (one.starts, two.starts) == (4, 3), "the system starts both; nothing starts twice"
        await framework.advance(100)
        assert (one.starts, two.starts) == (4, 3)


async def test_with_rest_for_one_an_earlier_end_takes_the_place_of_a_later_one(
    tiebeam_framework: Make,
) -> None:
    class One(Worker):
        restart = "permanent"

    class Two(One):
        after = ["one"]

    class Three(One):
        after = ["two"]

    members = {name: {"enabled": True} for name in ("one", "two", "three")}
    values = {
        "components": {"row": members},
        "supervision": {
            "backoff": {"initial_delay": 20, "max_delay": 20, "jitter": "none"},
            "groups": {"row": {"strategy": "rest_for_one", "intensity": 9, "period": 600}},
        },
    }
    one, two, three = One(), Two(), Three()
    async with tiebeam_framework(values, components=[one, two, three]) as framework:
        three.fail_component("does not wait")
        await framework.settle()
        three.fail_component("waits")
        await framework.advance(10)
        one.fail_component("meanwhile")
        await framework.settle()
        assert [part.state for part in (one, two, three)] == ["stopped"] * 3
        await framework.advance(15)
        assert three.state == "stopped", "it comes after the one that it started after"
        await framework.advance(10)
        assert [part.state for part in (one, two, three)] == ["running"] * 3
        assert (one.starts, two.starts, three.starts) == (2, 2, 3)


async def test_whom_a_group_is_given_up_with_is_told(tiebeam_framework: Make) -> None:
    class One(Worker):
        restart = "permanent"

    class Two(One): ...

    values = {
        "components": {"pair": {"one": {"enabled": True}, "two": {"enabled": True}}},
        "supervision": {"cooldown": 0, "groups": {"pair": {"intensity": 0}}},
        "health": {"recovery_attempts": 0},
    }
    one, two = One(), Two()
    async with tiebeam_framework(values, components=[one, two]) as framework:
        one.fail_component("crash")
        await framework.settle()
        (gave_up,) = framework.published("system.supervisor.gave_up")
        assert gave_up.payload["with"] == ["two"]


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"supervision": "intensity=3"}, "Wrong.supervision must be a mapping"),
        ({"on_loss": ["base"]}, "got list ['base']"),
        ({"on_loss": {1: "stop"}}, "Wrong.on_loss has names for keys, got int 1"),
        ({"restart": lambda self: None}, "a method goes by another name"),
        ({"missing": 0}, "Wrong.missing would hide what every component has"),
        ({"degraded": False}, "whether it is degraded; give it another name"),
    ],
)
def test_what_a_class_says_wrongly_is_refused_where_it_stands(
    attributes: dict[str, object], said: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(said)):
        type("Wrong", (Component,), attributes)


def test_a_mixin_hides_nothing_either() -> None:
    class Mixin:
        state = "mine"

    with pytest.raises(TypeError, match=r"Wrong\.state would hide"):
        type("Wrong", (Mixin, Component), {})


@pytest.mark.parametrize(
    ("supervision", "said"),
    [
        ({"period": float("nan")}, "Wrong.supervision['period'] must be a number that is finite"),
        ({"backoff": {1: 2}}, "Wrong.supervision['backoff'] has names for keys, got int 1"),
    ],
)
def test_values_of_supervision_are_named_with_their_class(
    supervision: dict[str, object], said: str
) -> None:
    wrong = type("Wrong", (Component,), {"supervision": supervision})
    with pytest.raises(TypeError, match=re.escape(said)):
        Framework(components=[wrong])


def test_what_is_told_cannot_be_set() -> None:
    class Own(Component):
        def __init__(self) -> None:
            self.missing = {"btc"}  # type: ignore[misc, assignment]

    with pytest.raises(AttributeError, match=r"Own.missing cannot be set.*another name"):
        Own()


async def test_durations_may_be_timedeltas(tiebeam_framework: Make) -> None:
    class Patient(Worker):
        restart = "permanent"
        supervision = {
            "intensity": 1,
            "period": timedelta(seconds=5),
            "backoff": {"initial_delay": timedelta(0)},
        }
        recover_after = timedelta(seconds=2)

    patient = Patient()
    async with tiebeam_framework(components=[patient]) as framework:
        for _ in range(3):
            patient.fail_component("crash")
            await framework.advance(6)
        assert patient.state == "running", "not more than one within five seconds"
        patient.supervision = {"period": object()}  # type: ignore[misc]
        with pytest.raises(TypeError, match=r"Patient.supervision\['period'\] must be a number"):
            Framework(components=[patient])
