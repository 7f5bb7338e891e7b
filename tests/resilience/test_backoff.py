"""Backoffs: each curve and jitter by its formula, their bounds, and what is refused."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiebeam import ConfigurationError
from tiebeam.resilience import Backoff, Retry


def upper(backoff: Backoff, count: int = 5) -> list[float | None]:
    """The waits when every draw is the greatest there is."""
    return backoff.delays(count, random=1)


def lower(backoff: Backoff, count: int = 5) -> list[float | None]:
    return backoff.delays(count, random=0)


def near(values: list[float]) -> Any:
    return pytest.approx(values, abs=1e-9)


# -- curves -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (Backoff.constant(2, jitter="none"), [2, 2, 2, 2, 2]),
        (Backoff.linear(1, 0.5, jitter="none"), [1, 1.5, 2, 2.5, 3]),
        (Backoff.linear(1, -0.4, jitter="none"), [1, 0.6, 0.2, 0, 0]),
        (Backoff.exponential(0.1, jitter="none"), [0.1, 0.2, 0.4, 0.8, 1.6]),
        (Backoff.exponential(8, 0.5, jitter="none"), [8, 4, 2, 1, 0.5]),
        (Backoff.fibonacci(2, jitter="none"), [2, 2, 4, 6, 10]),
        (Backoff.sequence([5, 1, 3], jitter="none"), [5, 1, 3, 3, 3]),
        (Backoff.geometric(1, 16, 4, jitter="none"), [1, 2, 4, 8, 16]),
        (Backoff.geometric(0.1, 10, 2, jitter="none"), [0.1, 1, 10, 10, 10]),
    ],
)
def test_curves(backoff: Backoff, waits: list[float]) -> None:
    assert backoff.delays(5) == near(waits)
    assert [backoff.delay(attempt) for attempt in range(1, 6)] == near(waits)


def test_decorrelated_goes_by_the_wait_before() -> None:
    """s = min(cap, b + R * (3 s - b)), and s begins with b."""
    expected, before = [], 1.0
    for _ in range(5):
        before = min(20.0, 1.0 + 0.5 * (3 * before - 1.0))
        expected.append(before)
    assert Backoff.decorrelated(1, max_delay=20).delays(5, random=0.5) == near(expected)
    assert upper(Backoff.decorrelated(1, max_delay=20)) == near([3, 9, 20, 20, 20])
    assert lower(Backoff.decorrelated(1, max_delay=20)) == near([1, 1, 1, 1, 1])


@pytest.mark.parametrize("draw", [0, 0.25, 0.5, 1])
def test_smooth_is_the_formula_of_polly(draw: float) -> None:
    expected, before = [], 0.0
    for attempt in range(5):
        t = attempt + draw
        x = 2**t * math.tanh(math.sqrt(4 * t))
        expected.append((x - before) * 3 / 1.4)
        before = x
    assert Backoff.smooth(3).delays(5, random=draw) == near(expected)


# -- jitter -----------------------------------------------------------------------------------


def test_full_jitter_is_the_default() -> None:
    backoff = Backoff.exponential(1)
    assert (lower(backoff, 3), upper(backoff, 3)) == (near([0, 0, 0]), near([1, 2, 4]))
    assert backoff == Backoff.exponential(1, jitter="full")


@pytest.mark.parametrize(
    ("options", "lows", "highs"),
    [
        ({"jitter": "none"}, [4, 8, 10], [4, 8, 10]),
        ({"jitter": "full"}, [0, 0, 0], [4, 8, 10]),
        ({"jitter": "equal"}, [2, 4, 5], [4, 8, 10]),
        ({"jitter": "down", "jitter_amount": 0.25}, [4, 8, 10], [3, 6, 7.5]),
        ({"jitter": "factor", "jitter_amount": 0.25}, [3, 6, 7.5], [5, 10, 10]),
        (
            {"jitter": "factor", "jitter_amount": 0.25, "hard_cap": False},
            [3, 6, 7.5],
            [5, 10, 12.5],
        ),
        ({"jitter": "factor", "jitter_amount": 0.25, "min_delay": 5}, [5, 6, 7.5], [5, 10, 10]),
    ],
)
def test_jitter_within_its_edges(
    options: dict[str, Any], lows: list[float], highs: list[float]
) -> None:
    backoff = Backoff.exponential(4, max_delay=10, **options)
    assert lower(backoff, 3) == near(lows)
    if options.get("hard_cap") is False:
        # The cap is on the wait, and the jitter goes above it.
        assert backoff.delay(3, random=1) == pytest.approx(highs[2])
    assert upper(backoff, 3) == near(highs)


def test_at_the_cap_clients_do_not_coincide() -> None:
    """A plain minimum would bring the upper half of them together again."""
    backoff = Backoff.constant(10, max_delay=10, jitter="factor", jitter_amount=0.5)
    waits = [backoff.delay(1, seed=seed) for seed in range(1000)]
    assert all(wait is not None and 5 <= wait <= 10 for wait in waits)
    assert len(set(waits)) > 990


def test_the_floor_comes_after_the_jitter() -> None:
    backoff = Backoff.exponential(1, min_delay=0.5, max_delay=3)
    assert (lower(backoff, 3), upper(backoff, 3)) == (near([0.5] * 3), near([1, 2, 3]))


def test_a_seed_repeats_the_waits() -> None:
    backoff = Backoff.exponential(1, max_delay=100)
    assert backoff.delays(20, seed=7) == backoff.delays(20, seed=7)
    assert backoff.delays(20, seed=7) != backoff.delays(20, seed=8)
    assert backoff.delays(20) != backoff.delays(20)


# -- bounds -----------------------------------------------------------------------------------


@given(
    kind=st.sampled_from(["exponential", "fibonacci", "linear", "decorrelated", "smooth"]),
    initial=st.floats(0, 1e6),
    cap=st.floats(0, 1e9),
    attempt=st.integers(1, 2**32 - 1),
    seed=st.integers(0, 2**64 - 1),
)
def test_no_wait_is_below_nothing_or_above_the_cap(
    kind: str, initial: float, cap: float, attempt: int, seed: int
) -> None:
    arguments = (initial, 2.0) if kind in ("exponential", "linear") else (initial,)
    backoff = getattr(Backoff, kind)(*arguments, max_delay=cap)
    wait = backoff.delay(attempt, seed=seed)
    assert 0 <= wait <= cap + 1e-9


def test_what_outgrows_all_bounds_is_the_cap_or_nothing() -> None:
    assert Backoff.exponential(1, 1e300, jitter="none").delays(3) == [1.0, None, None]
    assert Backoff.exponential(1, 1e300, max_delay=60, jitter="none").delays(3) == [1, 60, 60]
    assert Backoff.fibonacci(1, jitter="none").delay(2**32 - 1) is None
    assert Backoff.fibonacci(1, jitter="none", max_delay=9).delay(2**32 - 1) == 9


# -- hints ------------------------------------------------------------------------------------


def test_a_hint_takes_the_place_of_the_wait() -> None:
    backoff = Backoff.constant(5, max_delay=10, min_delay=2, max_server_delay=60, jitter="none")
    assert backoff.delay(1, hint=30) == 30, "the cap is for computed waits"
    assert backoff.delay(1, hint=timedelta(seconds=30)) == 30
    assert backoff.delay(1, hint=0) == 0
    assert backoff.delay(1, hint=3600) == 60
    assert Backoff.constant(5).delay(1, hint=3600) == 300, "five minutes unless given"


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Backoff.constant(-1),
        lambda: Backoff.constant(float("nan")),
        lambda: Backoff.constant("soon"),  # type: ignore[arg-type]
        lambda: Backoff.constant(True),
        lambda: Backoff.linear(1, float("inf")),
        lambda: Backoff.linear(1, "more"),  # type: ignore[arg-type]
        lambda: Backoff.exponential(1, 0),
        lambda: Backoff.exponential(1, -2),
        lambda: Backoff.exponential(1, float("nan")),
        lambda: Backoff.exponential(1, max_delay=-1),
        lambda: Backoff.exponential(1, max_delay=1, min_delay=2),
        lambda: Backoff.exponential(1, jitter="lots"),
        lambda: Backoff.exponential(1, jitter=True),
        lambda: Backoff.exponential(1, jitter="factor", jitter_amount=2),
        lambda: Backoff.exponential(1, jitter="factor", jitter_amount=-1),
        lambda: Backoff.exponential(1, jitter="full", jitter_amount=0.5),
        lambda: Backoff.exponential(1, hard_cap=True),
        lambda: Backoff.sequence([]),
        lambda: Backoff.sequence([1, -1]),
        lambda: Backoff.sequence(5),  # type: ignore[arg-type]
        lambda: Backoff.decorrelated(1, jitter="full"),
        lambda: Backoff.smooth(1, jitter="equal"),
        lambda: Backoff.geometric(0, 1, 3),
        lambda: Backoff.geometric(1, 10, 0),
        lambda: Backoff.constant(1).delays(-1),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)) as caught:
        make()
    assert str(caught.value)


def test_a_name_that_is_nearly_right_is_suggested() -> None:
    with pytest.raises(TypeError, match="did you mean `max_delay`"):
        Backoff.exponential(1, max_dely=5)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Backoff.exponential(1, 0), "multiplier"),
        (lambda: Backoff.geometric(0, 1, 3), "initial_delay"),
        (lambda: Backoff.exponential(1, max_delay=1, min_delay=2), "min_delay"),
        (lambda: Backoff.sequence([]), "delays"),
        (lambda: Retry(multiplier=0), "multiplier"),
    ],
)
def test_a_refusal_names_the_option_as_it_was_given(make: Any, field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert field in f"{caught.value} {caught.value.context}"


def test_equal_backoffs_are_equal() -> None:
    assert Backoff.exponential(1) == Backoff.exponential(timedelta(seconds=1), 2.0)
    assert Backoff.exponential(1) != Backoff.exponential(2)
    assert Backoff.constant(1) != "constant"
    assert "exponential" in repr(Backoff.exponential(1))
