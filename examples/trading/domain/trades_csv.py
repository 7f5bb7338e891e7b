"""Recorded trades, read as a stream from CSV.

The file has the columns `timestamp` (ms since the epoch), `trade_id`, `side` (buy or sell, the
taker's), `price` and `amount`, and is sorted by time; several trades may share a millisecond.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from .trade import Side, Trade

COLUMNS = ("timestamp", "trade_id", "side", "price", "amount")


class TradesFileError(ValueError):
    """A line that cannot be used: the message says where, what is wrong and what to do."""


def read_trades(path: Path) -> Iterator[Trade]:
    """Yield the file's trades one by one; memory stays constant however long the file."""
    try:
        file = path.open(newline="", encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise TradesFileError(f"{path}: cannot be opened: {reason}; check the path") from error
    with file:
        rows = csv.reader(file)
        header = _next(path, rows)
        if header is None or tuple(header) != COLUMNS:
            found = "nothing" if header is None else repr(",".join(header))
            raise TradesFileError(
                f"{path}:1: the header is {found}; the first line must be {','.join(COLUMNS)!r}"
            )
        last = -1
        while (row := _next(path, rows)) is not None:
            if not row:
                continue
            where = f"{path}:{rows.line_num}"
            trade = _trade(row, where)
            if trade.event_time < last:
                raise TradesFileError(
                    f"{where}: timestamp {trade.event_time} is before {last} on an earlier line; "
                    "sort the file by timestamp"
                )
            last = trade.event_time
            yield trade


def _next(path: Path, rows: Iterator[list[str]]) -> list[str] | None:
    try:
        return next(rows, None)
    except UnicodeDecodeError as error:
        raise TradesFileError(
            f"{path}: not UTF-8 text ({error.reason}); export it again"
        ) from error
    except csv.Error as error:
        raise TradesFileError(f"{path}: not a CSV file ({error}); export it again") from error


def _trade(row: list[str], where: str) -> Trade:
    if len(row) != len(COLUMNS):
        raise TradesFileError(
            f"{where}: {len(row)} fields; write {len(COLUMNS)}: {', '.join(COLUMNS)}"
        )
    timestamp, trade_id, side, price, amount = row
    return Trade(
        _whole(timestamp, "timestamp", where),
        _whole(trade_id, "trade_id", where),
        _side(side, where),
        _positive(price, "price", where),
        _positive(amount, "amount", where),
    )


def _whole(text: str, column: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()):
        hint = "ms since the epoch" if column == "timestamp" else "digits only"
        raise TradesFileError(f"{where}: {column} {text!r} is not a whole number; write {hint}")
    return int(text)


def _side(text: str, where: str) -> Side:
    if text == "buy":
        return "buy"
    if text == "sell":
        return "sell"
    raise TradesFileError(f"{where}: side {text!r} is neither 'buy' nor 'sell'; write the taker's")


def _positive(text: str, column: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0.0 < value < math.inf):
        raise TradesFileError(f"{where}: {column} {text!r} is not a positive number; correct it")
    return value
