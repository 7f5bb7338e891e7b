"""The dashboard's picture: a state in, text out. Nothing here writes to a terminal."""

from __future__ import annotations

from collections import Counter, deque
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
    """Candles that are settled: the price, the position and the equity are as of the last."""
    components: dict[str, str] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    """Events per second, by category."""
    delay_ms: float = 0.0
    """Time from publishing to the dashboard, the worst since the last picture."""
    signals: deque[str] = field(default_factory=lambda: deque(maxlen=5))
    notices: deque[str] = field(default_factory=lambda: deque(maxlen=4))
    equity: deque[float] = field(default_factory=lambda: deque(maxlen=2000))
    initial_cash: float = 0.0
    quantity: str = "0"
    fills: int = 0
    fees: float = 0.0
    drawdown: float = 0.0
    dead_letters: int = 0
    alerts: int = 0


def render(view: View, width: int = 80, height: int = 24) -> list[str]:
    """The picture, of at most `height` lines of at most `width` characters."""
    lines = _picture(view, width, _components(view))
    if len(lines) > height:  # one line says how many are in which state
        states = Counter(view.components.values())
        lines = _picture(view, width, [f"{n} {state}" for state, n in sorted(states.items())])
    return [clip(line, width) for line in lines[: max(1, height)]]


def _picture(view: View, width: int, components: Sequence[str]) -> list[str]:
    head = f"━━ {view.symbol or 'waiting for the market'}  {clock(view.event_time)} "
    rates = [f"{category} {rate:,.0f}" for category, rate in sorted(view.rates.items())]
    delay = [f"delay {view.delay_ms:,.0f} ms"]
    delay += [f"dead letters {view.dead_letters}", f"alerts {view.alerts}"]
    return [
        head.ljust(width, "━"),
        *fold([f"price {view.price:,.8g}", f"candles {view.candles:,}", *_equity(view)], width),
        sparkline(list(view.equity), width),
        *fold(["events/s", *rates], width),
        *fold(delay, width),
        "",
        *fold(components, width, column=True),
        "",
        *(f"  {line}" for line in view.signals),
        *(f"! {line}" for line in view.notices),
        "━" * width,
    ]


def fold(parts: Sequence[str], width: int, *, column: bool = False) -> list[str]:
    """The parts side by side, in as many lines as they take; below each other with `column`."""
    cell = max(map(len, parts), default=0) if column else 0
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += "  " + part.ljust(cell)
        else:
            lines.append(part.ljust(cell))
    return [line.rstrip() for line in lines]


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


def _components(view: View) -> list[str]:
    states = sorted(view.components.items())
    return [f"{MARKS.get(state, '·')} {name} {state}" for name, state in states]


def _equity(view: View) -> list[str]:
    if not view.equity:
        return ["equity -"]
    now, start = view.equity[-1], view.initial_cash
    change = now / start - 1.0 if start else 0.0
    return [
        f"equity {now:,.2f} ({change:+.2%})",
        f"position {view.quantity}",
        f"fills {view.fills}",
        f"fees {view.fees:,.2f}",
        f"max drawdown {view.drawdown:.2%}",
    ]
