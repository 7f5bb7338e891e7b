from __future__ import annotations

import random
from decimal import Decimal as D

import pytest

from examples.trading.domain.portfolio import Costs, Portfolio, money, plain

FREE = Costs(D(0), D(0))


def test_a_round_trip_by_hand():
    book = Portfolio(D(1000), Costs(fee_bps=D(10), slippage_bps=D(100)))
    bought = book.execute(D(2), D(100), seq=0, event_time=1)
    assert (bought.price, bought.fee) == (D(101), D("0.202"))
    assert book.cash == D("797.798")
    assert book.average_cost == D(101)
    sold = book.execute(D(-2), D(110), seq=1, event_time=2)
    assert (sold.price, sold.fee, sold.realised) == (D("108.9"), D("0.2178"), D("15.8"))
    assert book.cash == D("1015.3802") == book.equity(D(5))
    assert (book.quantity, book.cost, book.average_cost) == (0, 0, 0)


def test_average_cost_over_purchases_and_a_partial_sale():
    book = Portfolio(D(1000), FREE)
    book.execute(D(1), D(100), seq=0, event_time=0)
    book.execute(D(3), D(120), seq=0, event_time=0)
    assert book.average_cost == D(115)
    fill = book.execute(D(-2), D(130), seq=0, event_time=0)
    assert fill.realised == D(30)
    assert book.average_cost == D(115)
    assert book.unrealised(D(130)) == D(30)


def test_from_long_to_short_in_one_fill():
    book = Portfolio(D(1000), FREE)
    book.execute(D(1), D(100), seq=0, event_time=0)
    fill = book.execute(D(-3), D(90), seq=0, event_time=0)
    assert fill.realised == D(-10)
    assert (book.quantity, book.average_cost) == (D(-2), D(90))
    assert book.execute(D(2), D(80), seq=0, event_time=0).realised == D(20)
    assert book.cash == D(1010)


@pytest.mark.parametrize("seed", range(20))
def test_the_books_balance_to_the_last_digit(seed):
    rng = random.Random(seed)
    book = Portfolio(D(10_000), Costs(D("7.5"), D(3)))
    price = D(100)
    for seq in range(200):
        price = max(D("0.01"), price + D(rng.randint(-300, 300)) / 100)
        quantity = D(rng.randint(-500, 500)) / 1000
        if quantity:
            book.execute(quantity, price, seq=seq, event_time=seq)
        assert book.equity(price) == book.cash + book.quantity * price
        earned = book.realised + book.unrealised(price) - book.fees
        assert book.equity(price) - book.initial_cash == earned
    assert sum(fill.quantity for fill in book.ledger) == book.quantity
    assert sum(fill.fee for fill in book.ledger) == book.fees
    assert sum(fill.realised for fill in book.ledger) == book.realised


def test_drawdown_is_from_the_highest_peak():
    book = Portfolio(D(100), FREE)
    book.execute(D(1), D(100), seq=0, event_time=0)
    for price in (100, 120, 90, 130, 117):
        book.mark(D(price))
    assert book.max_drawdown == D("0.25")


def test_a_full_target_never_overdraws():
    book = Portfolio(D(1000), Costs(D(25), D(50)))
    quantity = book.quantity_for(D(1), D(7), step=D("0.001"))
    book.execute(quantity, D(7), seq=0, event_time=0)
    assert D(0) <= book.cash < D("0.01")


def test_a_target_of_nothing_sells_all_of_it():
    book = Portfolio(D(1000), FREE)
    book.execute(D("1.23456789"), D(10), seq=0, event_time=0)
    assert book.quantity_for(D(0), D(11), step=D("0.01")) == D("-1.23456789")


def test_quantities_are_whole_steps_rounded_towards_nothing():
    book = Portfolio(D(1000), FREE)
    assert book.quantity_for(D("0.5"), D(300), step=D("0.01")) == D("1.66")


def test_digest_tells_ledgers_apart():
    one, other = Portfolio(D(100), FREE), Portfolio(D(100), FREE)
    for book in (one, other):
        book.execute(D(1), D(10), seq=0, event_time=0)
    assert one.digest() == other.digest()
    other.execute(D(-1), D(10), seq=1, event_time=1)
    assert one.digest() != other.digest()


def test_nothing_and_nonsense_are_refused():
    book = Portfolio(D(100), FREE)
    with pytest.raises(ValueError, match="nothing"):
        book.execute(D(0), D(1), seq=0, event_time=0)
    with pytest.raises(ValueError, match="positive price"):
        book.execute(D(1), D(0), seq=0, event_time=0)
    with pytest.raises(ValueError, match="cash"):
        Portfolio(D(0), FREE)


def test_decimals_as_written():
    assert money(0.1) == D("0.1")
    assert [plain(D(x)) for x in ("1.50", "100", "-0.0", "1E+3")] == ["1.5", "100", "0", "1000"]
