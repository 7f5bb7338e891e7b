from __future__ import annotations

import re

import pytest

from examples.trading.domain.trade import Trade
from examples.trading.domain.trades_csv import TradesFileError, read_trades

HEADER = "timestamp,trade_id,side,price,amount\n"


@pytest.fixture
def write(tmp_path):
    def make(text, name="trades.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


def test_trades_as_written(write):
    path = write(HEADER + "1000,7,buy,0.00141342,23.0\n1000,8,sell,2,0.5\n")
    assert list(read_trades(path)) == [
        Trade(1000, 7, "buy", 0.00141342, 23.0),
        Trade(1000, 8, "sell", 2.0, 0.5),
    ]


def test_no_trades_is_no_error(write):
    assert list(read_trades(write(HEADER))) == []


def test_it_reads_no_further_than_asked(write):
    trades = read_trades(write(HEADER + "1,1,buy,1,1\nrubbish\n"))
    assert next(trades).event_time == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1,1,buy,1", "4 fields; write 5"),
        ("1.5,1,buy,1,1", "timestamp '1.5' is not a whole number; write ms since the epoch"),
        ("1,x,buy,1,1", "trade_id 'x' is not a whole number"),
        ("1,1,BUY,1,1", "side 'BUY' is neither 'buy' nor 'sell'"),
        ("1,1,buy,-1,1", "price '-1' is not a positive number"),
        ("1,1,buy,1,nan", "amount 'nan' is not a positive number"),
        ("1,1,buy,1,inf", "amount 'inf' is not a positive number"),
    ],
)
def test_a_bad_line_is_named_with_file_and_line(write, line, says):
    path = write(HEADER + "1,1,buy,1,1\n" + line + "\n")
    with pytest.raises(TradesFileError, match=re.escape(f"{path}:3: {says}")):
        list(read_trades(path))


def test_an_unsorted_file_is_refused_where_it_turns_back(write):
    path = write(HEADER + "5,1,buy,1,1\n4,2,buy,1,1\n")
    with pytest.raises(TradesFileError, match=re.escape(f"{path}:3: ") + ".*sort the file"):
        list(read_trades(path))


@pytest.mark.parametrize("text", ["", "time,price\n"])
def test_a_wrong_header_shows_the_right_one(write, text):
    with pytest.raises(TradesFileError, match=r":1: the header is .*timestamp,trade_id"):
        list(read_trades(write(text)))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TradesFileError, match=r"No such file.*check the path"):
        list(read_trades(tmp_path / "none.csv"))


def test_a_file_that_is_not_text(write):
    with pytest.raises(TradesFileError, match=r"not UTF-8"):
        list(read_trades(write(b"\xff\xfe\x00")))
