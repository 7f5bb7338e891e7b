"""Accounting of a paper portfolio in exact decimals.

Money is in quote currency. The cost of what is held is kept as a sum, never as a price times a
quantity, and a partial sale takes an exact share of it, so these hold to the last digit:

    equity = cash + quantity * price
    equity - initial cash = realised + unrealised - fees
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Context, Decimal, localcontext

QUANTUM = Decimal("1e-12")
"""The step that quotients (a partial sale's cost, a fill's price) are rounded to."""
ZERO = Decimal(0)
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)


def money(value: float | str) -> Decimal:
    """A decimal with the digits that `value` shows, not those of its binary neighbour."""
    return Decimal(str(value))


@dataclass(frozen=True, slots=True)
class Fill:
    """One line of the ledger; `quantity` is in base currency, negative for a sale."""

    number: int
    seq: int
    event_time: int
    quantity: Decimal
    price: Decimal
    fee: Decimal
    realised: Decimal
    """Profit of what this fill closed, before fees."""

    def line(self) -> str:
        """The fill in one form, for digests and diffs."""
        numbers = (plain(x) for x in (self.quantity, self.price, self.fee, self.realised))
        return ",".join((str(self.number), str(self.seq), str(self.event_time), *numbers))


@dataclass(frozen=True, slots=True)
class Costs:
    """What trading costs, in basis points (0.01 %) of price and of turnover."""

    fee_bps: Decimal
    slippage_bps: Decimal

    def fill_price(self, price: Decimal, *, buying: bool) -> Decimal:
        """The price after slippage, which is always to the trader's disadvantage."""
        with localcontext(_EXACT):
            shift = price * self.slippage_bps / 10_000
            return (price + shift if buying else price - shift).quantize(QUANTUM)

    def fee(self, quantity: Decimal, price: Decimal) -> Decimal:
        with localcontext(_EXACT):
            return (abs(quantity) * price * self.fee_bps / 10_000).quantize(QUANTUM)


class Portfolio:
    """Cash and one position, long or short, at average cost."""

    def __init__(self, cash: Decimal, costs: Costs) -> None:
        if cash <= 0:
            raise ValueError(f"a portfolio starts with cash, not with {cash}")
        self.initial_cash = cash
        self.cash = cash
        self.costs = costs
        self.quantity = ZERO
        self.cost = ZERO
        """What the position cost, signed like the quantity."""
        self.realised = ZERO
        self.fees = ZERO
        self.ledger: list[Fill] = []
        self.max_drawdown = ZERO
        """The deepest fall from a peak so far, as a fraction of the peak."""
        self._peak = cash

    @property
    def average_cost(self) -> Decimal:
        """Mean price paid per unit held; 0 without a position."""
        with localcontext(_EXACT):
            return (self.cost / self.quantity).quantize(QUANTUM) if self.quantity else ZERO

    def equity(self, price: Decimal) -> Decimal:
        with localcontext(_EXACT):
            return self.cash + self.quantity * price

    def unrealised(self, price: Decimal) -> Decimal:
        """Profit of the open position at `price`, before fees."""
        with localcontext(_EXACT):
            return self.quantity * price - self.cost

    def quantity_for(self, target: Decimal, price: Decimal, *, step: Decimal) -> Decimal:
        """What to trade to have `target` of the equity in the position, in whole `step`s.

        A purchase leaves room for slippage and fee, so a target of 1 never overdraws the cash.
        """
        with localcontext(_EXACT):
            wanted = self.equity(price) * target / price
            delta = wanted - self.quantity
            if delta > 0 and target > 0:
                paid = self.costs.fill_price(price, buying=True)
                affordable = self.cash / (paid * (1 + self.costs.fee_bps / 10_000))
                delta = min(delta, max(affordable, ZERO))
            if target == 0:
                return -self.quantity
            return (delta / step).to_integral_value(rounding=ROUND_DOWN) * step

    def execute(self, quantity: Decimal, price: Decimal, *, seq: int, event_time: int) -> Fill:
        """Trade `quantity` (negative sells) at the market price `price`, with slippage and fee."""
        if quantity == 0:
            raise ValueError("a fill of nothing: ask `quantity_for` first and skip zero")
        if price <= 0:
            raise ValueError(f"a fill needs a positive price, not {price}")
        paid = self.costs.fill_price(price, buying=quantity > 0)
        fee = self.costs.fee(quantity, paid)
        with localcontext(_EXACT):
            realised = self._book(quantity, paid)
            self.cash -= quantity * paid + fee
            self.fees += fee
            self.realised += realised
        fill = Fill(len(self.ledger) + 1, seq, event_time, quantity, paid, fee, realised)
        self.ledger.append(fill)
        return fill

    def mark(self, price: Decimal) -> None:
        """Note the equity at `price`, for the drawdown."""
        equity = self.equity(price)
        self._peak = max(self._peak, equity)
        with localcontext(_EXACT):
            fall = ((self._peak - equity) / self._peak).quantize(QUANTUM)
        self.max_drawdown = max(self.max_drawdown, fall)

    def digest(self) -> str:
        """SHA-256 of the ledger, in hexadecimal: equal runs have equal digests."""
        text = "".join(f"{fill.line()}\n" for fill in self.ledger)
        return hashlib.sha256(text.encode()).hexdigest()

    def _book(self, quantity: Decimal, price: Decimal) -> Decimal:
        """Change quantity and cost; the profit of the part that was closed."""
        held = self.quantity
        if held * quantity >= 0:
            self.quantity += quantity
            self.cost += quantity * price
            return ZERO
        closed = max(-held, quantity) if held > 0 else min(-held, quantity)
        share = self.cost if closed == -held else (self.cost * -closed / held).quantize(QUANTUM)
        opened = quantity - closed
        self.quantity += quantity
        self.cost += opened * price - share
        return -closed * price - share


def plain(value: Decimal) -> str:
    """A decimal without exponent and trailing zeros: `-0.5`, `100`, `0`."""
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text
