"""How fast the budget of errors goes, how long it lasts, and who is told."""

from __future__ import annotations

from datetime import timedelta

from tiebeam import Slo
from tiebeam._core import Clock

from vectors.cases import Areas, Case
from vectors.stance import compare, settle

__all__ = ["AREAS"]

UNITS = {"m": 60, "h": 3_600, "d": 86_400}
"""In seconds."""

FEWEST = 1_000_000
"""Events of the shortest window; of so many, each share that a case gives is a whole number."""

MORE = 10_000
"""Times as many are in the next longer window, which can so have any share of its own."""

TARGET = 0.999
"""Where a case has none, since its figures do not depend on it."""

DIGITS = 9
"""After the point; times are whole nanoseconds."""


def run_burn(case: Case) -> None:
    differences = []
    for row in case["table"]:
        given = dict(zip(case["columns"], row, strict=True))
        named = given["error_ratio_by_window"]
        ratios = {int(name[:-1]) * UNITS[name[-1]]: bad for name, bad in named.items()}
        slo = _after(ratios, case["slo"])
        # First that what was recorded is what the row says.
        assert {window: slo.ratio(window) for window in ratios} == ratios
        differences += compare(f"the alert after {named}", slo.alert, given["alert"])
    settle(case, differences)


def _after(ratios: dict[int, float], target: float) -> Slo:
    """An objective after events of which such shares, by window in seconds, are bad.

    Those of the shortest window happen at its end, so that they are all that even shorter ones
    see; what a longer one has besides happens near its beginning. Before the longest there are
    many more, all good: the windows around it never say anything.
    """
    clock = Clock.simulated()
    slo = Slo(target, clock=clock)
    windows = sorted(ratios)
    totals = [FEWEST * MORE**n for n in range(len(windows))]
    bads = [round(total * ratios[window]) for total, window in zip(totals, windows, strict=True)]
    ages = [0, *(window * 9 // 10 for window in windows[1:])]
    now = windows[-1] * 11 // 10
    slo.record(good=totals[-1] * MORE)
    for n in reversed(range(len(windows))):
        total, bad = totals[n], bads[n]
        if n > 0:  # the others are still to come
            total, bad = total - totals[n - 1], bad - bads[n - 1]
        while clock.step((now - ages[n]) * 1_000_000_000):
            pass
        slo.record(good=total - bad, bad=bad)
    return slo


def run_budget(case: Case) -> None:
    slo = Slo(TARGET, period=timedelta(hours=case["period_h"]))
    differences = []
    for row in case["table"]:
        given = dict(zip(case["columns"], row, strict=True))
        burn = given["burn_rate"]
        if "fraction" in given:
            used = slo.consumed(burn, timedelta(hours=given["window_h"]))
            differences += compare(f"used at {burn}", round(used, DIGITS), given["fraction"])
        else:
            seconds = slo.lasts(burn)
            assert seconds is not None
            hours = round(seconds / UNITS["h"], DIGITS)
            differences += compare(f"hours at {burn}", hours, given["hours_to_exhaustion"])
    settle(case, differences)


AREAS: Areas = {"slo_budget": run_budget, "slo_burn": run_burn}
