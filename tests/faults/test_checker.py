"""The checker finds what is wrong: each ledger here was doctored, and each mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.checker import check, percentile, recoveries
from faults.ledger import Entry, Ledger, Reading
from faults.report import Result, together


def offered(*outcomes: str) -> list[Entry]:
    """A producer's ledger: an event for each outcome."""
    ledger = []
    for seq, outcome in enumerate(outcomes):
        ledger.append(Entry("offered", f"e{seq}", seq, "k", seq))
        if outcome:
            ledger.append(Entry(outcome, f"e{seq}", seq, "k", seq + 0.5))
    return ledger


def handled(*calls: tuple[int, float, float | None]) -> list[Entry]:
    """A consumer's ledger: of which event, from when to when; some never end."""
    ledger = []
    for seq, begin, end in calls:
        ledger.append(Entry("begin", f"e{seq}", seq, "k", begin))
        if end is not None:
            ledger.append(Entry("done", f"e{seq}", seq, "k", end))
    return sorted(ledger, key=lambda entry: entry.at)


ALL = handled((0, 1, 2), (1, 3, 4), (2, 5, 6))


def problems(
    producer: list[Entry],
    *consumers: list[Entry],
    dead: tuple[str, ...] = (),
    pending: int = 0,
) -> str:
    named = {f"c{number}": ledger for number, ledger in enumerate(consumers)}
    return "; ".join(Result.of("T", 1, check([producer], named, dead, pending)).problems)


def test_an_honest_ledger_has_no_problems() -> None:
    assert problems(offered("acked", "acked", "acked"), ALL) == ""
    assert problems(offered("acked", "unknown", "failed"), handled((0, 1, 2), (1, 3, 4))) == ""


def test_an_acknowledged_event_that_nobody_handled_is_lost() -> None:
    ledger = offered("acked", "acked", "acked")
    assert problems(ledger, handled((0, 1, 2), (1, 3, None))) == "2 lost: e1, e2"
    assert problems(ledger, handled((0, 1, 2), (1, 3, None)), dead=("e1",)) == "1 lost: e2"


def test_what_the_broker_waits_for_in_the_end_is_a_problem_though_all_was_handled() -> None:
    ledger = offered("acked", "acked", "acked")
    assert problems(ledger, ALL, pending=2) == "2 pending"


def test_an_event_that_was_offered_must_have_an_outcome() -> None:
    found = problems(offered("acked", "", "acked"), ALL)
    assert "1 unexplained: e1" in found
    assert "3 offered, 2 explained" in found


def test_an_event_has_one_outcome_and_somebody_who_offered_it() -> None:
    twice = [*offered("acked", "acked", "acked"), Entry("failed", "e1", 1, "k", 9.0)]
    assert "1 unexplained: e1" in problems(twice, handled((0, 1, 2), (2, 5, 6)), dead=("e1",))
    assert "1 unexplained: e3" in problems(offered("acked"), handled((0, 1, 2), (3, 3, 4)))


def test_a_refused_event_that_was_handled_was_not_refused() -> None:
    assert problems(offered("acked", "acked", "failed"), ALL) == "1 denied: e2"


def test_what_is_handled_to_the_end_twice_is_doubled() -> None:
    ledger = offered("acked", "acked", "acked")
    assert problems(ledger, ALL, handled((1, 7, 8))) == "1 doubled: e1"
    assert problems(ledger, ALL, handled((1, 7, None))) == ""


def test_two_at_work_on_one_event_are_seen() -> None:
    ledger = offered("acked", "acked", "acked")
    assert "1 concurrent: e1" in problems(ledger, ALL, handled((1, 3.5, 8)))
    # One that did not come to its end counts, too, up to the last word of its process.
    assert "1 concurrent: e1" in problems(
        ledger, ALL, handled((1, 2.5, None), (0, 9, None)), dead=()
    )


def test_a_key_whose_events_come_out_of_order_is_seen() -> None:
    ledger = offered("acked", "acked", "acked")
    assert problems(ledger, handled((0, 1, 2), (2, 3, 4), (1, 5, 6))) == "1 disorder: e1"


def test_a_run_in_which_nothing_happened_is_no_success() -> None:
    assert "nothing was offered" in problems([])
    assert "nothing was handled" in problems(offered("failed"))


def test_recovery_counts_from_the_moment_to_the_first_event_that_was_taken() -> None:
    ledger = [Entry("acked", "a", 0, "k", 1.0), Entry("acked", "b", 1, "k", 5.0)]
    assert recoveries([ledger], [0.5, 2.0, 6.0]) == [0.5, 3.0, float("inf")]
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_a_bound_that_is_not_kept_is_a_problem() -> None:
    result = Result("T", 1)
    result.add("recovery_s", 5.5, most=5.0)
    result.add("never_s", float("inf"), most=5.0)
    result.add("fine_s", 5.0, most=5.0)
    assert len(result.problems) == 2
    whole = together([result, Result("T", 2, figures={"recovery_s": 1.0, "lost": 2})])
    assert whole.figures["recovery_s"] == 5.5
    assert whole.problems == [f"seed 1: {problem}" for problem in result.problems]
    assert Result.from_json(result.json()) == result


@pytest.mark.parametrize("cut", [1, 5])
def test_a_line_that_was_cut_off_is_none_until_its_rest_comes(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.ledger"
    ledger, reading = Ledger(path), Reading(path)
    assert reading.refresh() == []
    ledger.note("ready")
    whole = path.read_bytes()
    ledger.note("done", "e1", 1, "k", [1])
    rest = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + rest[:-cut])
    assert reading.words() == {"ready"}
    path.write_bytes(whole + rest)
    assert reading.words() == {"ready", "done"}
    assert reading.entries[-1].more == [1]
