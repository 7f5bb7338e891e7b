from __future__ import annotations

import random

import pytest

from examples.trading.domain.join import SeqJoin


def test_rows_come_complete_and_in_order_whatever_the_arrival():
    items = [(seq, source) for seq in range(50) for source in "abc"]
    for seed in range(10):
        random.Random(seed).shuffle(items)
        join, rows = SeqJoin("abc"), []
        for seq, source in items:
            join.add(seq, source, f"{source}{seq}")
            rows += [(s, sorted(row.values())) for s, row in join.ready()]
        assert rows == [(s, [f"a{s}", f"b{s}", f"c{s}"]) for s in range(50)]
        assert len(join) == 0


def test_redelivery_changes_nothing():
    join = SeqJoin("a")
    assert join.add(0, "a", 1)
    assert not join.add(0, "a", 2)
    assert list(join.ready()) == [(0, {"a": 1})]
    assert not join.add(0, "a", 3)
    assert list(join.ready()) == []


def test_a_row_can_expect_more():
    join = SeqJoin("a")
    join.expect(0, ["order"])
    join.add(0, "a", 1)
    assert join.missing() == ["order"]
    join.add(0, "order", 2)
    assert list(join.ready()) == [(0, {"a": 1, "order": 2})]
    join.add(1, "a", 3)
    assert join.missing() == []


def test_a_row_whose_handling_fails_is_offered_again():
    join = SeqJoin("a")
    join.add(0, "a", 1)

    def fail_at_the_first() -> None:
        for _ in join.ready():
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_at_the_first()
    assert list(join.ready()) == [(0, {"a": 1})]
