from __future__ import annotations

import pytest

from examples.trading.domain.policy import Decision, Policy, Rules


def policy(**changes):
    rules = {"weights": {"a": 1.0}, "enter": 0.5, "exit": -0.5, "min_hold": 0, "smoothing": 1}
    return Policy(Rules(**(rules | changes)))


def actions(policy, scores):
    return [policy.decide({"a": score}).action for score in scores]


def test_it_enters_above_and_leaves_below():
    scores = [0.4, 0.6, 0.0, -0.4, -0.6, 0.0]
    assert actions(policy(), scores) == ["hold", "enter", "hold", "hold", "exit", "hold"]


def test_nothing_is_decided_until_all_weighted_agents_are_warm():
    p = policy(weights={"a": 1.0, "b": 1.0, "c": 0.0})
    assert p.decide({"a": 1.0, "b": None, "c": 1.0}).action == "warm_up"
    assert p.decide({"a": 1.0, "b": 0.5, "c": None}) == Decision("enter", 0.75, 0.9, True)


def test_the_score_is_smoothed():
    p = policy(smoothing=3)
    assert [p.decide({"a": x}).score for x in (0.0, 1.0, 1.0)] == [0.0, 0.5, 0.75]


def test_a_position_is_held_for_a_while():
    p = policy(min_hold=2)
    assert actions(p, [1.0, -1.0, -1.0, -1.0]) == ["enter", "hold", "hold", "exit"]


def test_the_volatility_scales_a_new_position():
    assert policy().decide({"a": 1.0}, risk_scale=0.5).target == 0.45


def test_flatten_sells_and_pauses_until_resume():
    p = policy()
    assert p.decide({"a": 1.0}).target == 0.9
    p.command("flatten")
    assert p.decide({"a": 1.0}) == Decision("flatten", 1.0, 0.0, True)
    assert actions(p, [1.0, 1.0]) == ["paused", "paused"]
    p.command("resume")
    assert actions(p, [1.0]) == ["enter"]


def test_flatten_without_a_position_orders_nothing():
    p = policy()
    p.command("flatten")
    assert not p.decide({"a": None}).changed


def test_pause_keeps_the_position():
    p = policy()
    p.decide({"a": 1.0})
    p.command("pause")
    assert p.decide({"a": -1.0}) == Decision("paused", -1.0, 0.9, False)


@pytest.mark.parametrize("bad", [{"enter": -0.6}, {"weights": {}}, {"weights": {"a": -1.0}}])
def test_rules_that_cannot_work_are_refused(bad):
    with pytest.raises(ValueError, match="must be"):
        policy(**bad)
