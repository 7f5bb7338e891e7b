"""The dashboard's picture: a state in, text out. Nothing here writes to a terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"
MARKS = {"running": "●", "degraded": "◐", "failed": "✗", "stopped": "○"}


@dataclass
class View:
    """What the dashboard knows. Event times in ms since the epoch, delays and rates measured."""

    symbol: str = ""
    event_time: int = 0
    price: float = 0.0
    candles: int = 0
    trades: int = 0
    components: dict[str, str] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    """Events per second, by category."""
    delay_ms: float = 0.0
    """Time from publishing to the dashboard, the worst since the last picture."""
    signals: deque[str] = field(default_factory=lambda: deque(maxlen=5))
    notices: deque[str] = field(default_factory=lambda: deque(maxlen=4))
    equity: deque[float] = field(default_factory=lambda: deque(maxlen=2000))
    quantity: str = "0"
    fills: int = 0
    fees: float = 0.0
    drawdown: float = 0.0
    dead_letters: int = 0
    alerts: int = 0


def render(view: View, width: int = 80) -> str:
    """The picture in lines of at most `width` characters (at least 40 are used)."""
    width = max(40, width)
    head = f" {view.symbol or 'waiting for the market'}  {clock(view.event_time)} "
    lines = [
        f"━━{head}".ljust(width, "━"),
        f"price {view.price:,.8g}   candles {view.candles:,}   trades {view.trades:,}",
        "",
        *_components(view, width),
        "",
        "events/s  " + "  ".join(f"{k} {v:,.0f}" for k, v in sorted(view.rates.items())),
        f"delay {view.delay_ms:,.0f} ms   dead letters {view.dead_letters}   alerts {view.alerts}",
        "",
        *_equity(view, width),
        "",
        *(f"  {line}" for line in view.signals),
        *(f"! {line}" for line in view.notices),
        "━" * width,
    ]
    return "\n".join(clip(line, width) for line in lines)


def sparkline(values: Sequence[float], width: int) -> str:
    """The values as `width` bars at most, each the mean of its share, scaled to their range."""
    if not values or width < 1:
        return ""
    count = min(width, len(values))
    edges = [i * len(values) // count for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    if low == high:
        return BARS[len(BARS) // 2] * count
    scale = (len(BARS) - 1) / (high - low)
    return "".join(BARS[round((mean - low) * scale)] for mean in means)


def progress(view: View) -> str:
    """One plain line, for output that is not a terminal."""
    equity = view.equity[-1] if view.equity else 0.0
    return (
        f"{clock(view.event_time)}  price {view.price:,.8g}  candles {view.candles:,}  "
        f"fills {view.fills}  equity {equity:,.2f}"
    )


def clock(event_time: int) -> str:
    """Event time as UTC; a dash before the first event."""
    if not event_time:
        return "-"
    moment = datetime.fromtimestamp(event_time / 1000, tz=timezone.utc)
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def clip(line: str, width: int) -> str:
    """The line without control characters, which payloads may hold, cut to `width`."""
    safe = "".join(c if c.isprintable() else "�" for c in line)
    return safe if len(safe) <= width else safe[: width - 1] + "…"


def _components(view: View, width: int) -> list[str]:
    cells = [f"{MARKS.get(s, '·')} {n} {s}" for n, s in sorted(view.components.items())]
    if not cells:
        return ["no components yet"]
    cell = max(len(c) for c in cells) + 2
    per_line = max(1, width // cell)
    rows = [cells[i : i + per_line] for i in range(0, len(cells), per_line)]
    return ["".join(c.ljust(cell) for c in row).rstrip() for row in rows]


def _equity(view: View, width: int) -> list[str]:
    if not view.equity:
        return ["equity -"]
    now = view.equity[-1]
    change = now / view.equity[0] - 1.0 if view.equity[0] else 0.0
    figures = f"equity {now:,.2f} ({change:+.2%})   position {view.quantity}   fills {view.fills}"
    costs = f"   fees {view.fees:,.2f}   max drawdown {view.drawdown:.2%}"
    return [figures + costs, sparkline(list(view.equity), width)]
