"""Who publishes what, who listens, and where the two do not meet."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tiebeam import _core
from tiebeam._html import table
from tiebeam._logging import LOGGER
from tiebeam._published import How, published

if TYPE_CHECKING:
    from tiebeam._inquiries import Inquiries

__all__ = ["Finding", "Wiring", "tell", "wiring"]

KNOWN_CATEGORIES = ("system", "market_data", "analysis", "trading", "user")
NEAR = 0.85
"""How much alike two topics must be for one to be taken for a slip of the other."""

_ROLES = {"subscribe": "publish", "respond": "request", "command": "send"}


@dataclass(frozen=True)
class Finding:
    """One place where what is sent and what is handled do not meet."""

    kind: str
    """``unhandled``, ``no_responder``, ``no_handler``, ``unfed`` or ``category``."""
    topic: str
    """The topic or pattern."""
    who: tuple[str, ...]
    """The components, or handlers, that it is about."""
    suggestion: str | None = None
    """A near topic or pattern that would fit."""

    @property
    def is_warning(self) -> bool:
        """Whether something is lost, or most likely a slip."""
        return self.kind not in ("unfed", "category") or self.suggestion is not None

    def __str__(self) -> str:
        who = ", ".join(self.who)
        said = {
            "unhandled": f"`{self.topic}` is published by {who}, and nobody handles it",
            "no_responder": f"`{self.topic}` is requested by {who}, and nobody responds to it",
            "no_handler": f"the command `{self.topic}` is sent by {who}, and nobody handles it",
            "unfed": f"`{self.topic}` is handled by {who}, and no component publishes it",
            "category": f"`{self.topic}` is no known category; {who} publish in it",
        }[self.kind]
        return f"{said}; did you mean `{self.suggestion}`?" if self.suggestion else said


class Wiring:
    """What the components of a system send and handle, and what does not meet.

    What the outside publishes on the framework's bus, or a component puts together at run time,
    is not known here: what a handler waits for may come from there.
    """

    def __init__(
        self,
        published: dict[tuple[How, str], tuple[str, ...]],
        handled: list[tuple[How, str, str]],
        open: tuple[str, ...],
    ) -> None:
        self.published = [(who, how, topic) for (how, topic), who in published.items()]
        """What is known to be sent: the components, ``publish``, ``request`` or ``send``, and
        the topic."""
        self.handled = handled
        """What is handled: how it is sent, the pattern, and the handler's name."""
        self.open = open
        """The components that also publish what their source does not tell."""
        self.findings = list(_findings(published, handled, bool(open)))
        """Where the two do not meet."""

    @property
    def warnings(self) -> list[Finding]:
        """The findings of which a start warns."""
        return [finding for finding in self.findings if finding.is_warning]

    def __str__(self) -> str:
        lines = [f"{len(self.published)} topics sent, {len(self.handled)} handlers"]
        lines += [f"  {'!' if f.is_warning else '-'} {f}" for f in self.findings]
        if self.open:
            lines.append(f"  what {', '.join(self.open)} publish is not all known")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Wiring {self}>"

    def _repr_html_(self) -> str:
        rows = [[f.kind, f.topic, ", ".join(f.who), f.suggestion or ""] for f in self.findings]
        title = escape(str(self).partition("\n")[0])
        return f"<b>{title}</b>" + table(["finding", "topic", "who", "did you mean"], rows)


def wiring(framework: Inquiries) -> Wiring:
    """What is known of a system now: of all its components, started or not."""
    sent: dict[tuple[How, str], tuple[str, ...]] = {}
    handled: dict[tuple[How, str, str], None] = {}
    open_ones = []
    for name, host in framework._hosts.items():
        found = published(host.component)
        for key in found.topics:
            sent[key] = (*sent.get(key, ()), name)
        if found.open:
            open_ones.append(name)
        for method, mark in host.handlers:
            how: How = _ROLES[mark.role]  # type: ignore[assignment]
            own = str(mark.options.get("name", method.__name__))
            handled[how, mark.pattern, f"{name}.{own}"] = None
    for how, pattern, handler in _subscribed(framework):
        handled[how, pattern, handler] = None
    return Wiring(sent, list(handled), tuple(open_ones))


def _subscribed(framework: Inquiries) -> Iterable[tuple[How, str, str]]:
    """What is subscribed now, by whichever way."""
    roles: dict[str, How] = {"responder": "request", "command_handler": "send"}
    for line in framework.bus.subscriptions:
        name, _, pattern = line.rpartition(" <- ")
        if pattern.startswith("system."):
            continue  # the core's own, or somebody who watches the system
        literal = "*" not in pattern and "#" not in pattern
        receivers = framework.bus.explain(pattern).receivers if literal else []
        found = [r["role"] for r in receivers if r["name"] == name and r["pattern"] == pattern]
        yield roles.get(found[0] if found else "", "publish"), pattern, name


def _findings(
    published: dict[tuple[How, str], tuple[str, ...]],
    handled: list[tuple[How, str, str]],
    open: bool,
) -> Iterable[Finding]:
    kinds = {"publish": "unhandled", "request": "no_responder", "send": "no_handler"}
    lost: set[tuple[How, str]] = set()
    everything = any(how == "publish" and pattern == "#" for how, pattern, _ in handled)
    unfed = {
        (how, pattern): tuple(n for h, p, n in handled if (h, p) == (how, pattern))
        for how, pattern, _ in handled
        if pattern != "#"
        and not pattern.startswith("system.")  # the core publishes there
        and not any(h == how and _core._matches(pattern, topic) for h, topic in published)
    }
    for (how, topic), who in published.items():
        # Who listens to everything hides no slip: a log, a recorder.
        if any(h == how and p != "#" and _core._matches(p, topic) for h, p, _ in handled):
            continue
        lost.add((how, topic))
        near = _near(topic, [pattern for h, pattern in unfed if h == how])
        if near is not None or how != "publish" or not everything:
            yield Finding(kinds[how], topic, who, near)
    for (how, pattern), handlers in unfed.items():
        near = _near(pattern, [topic for h, topic in lost if h == how])
        if near is not None or not open:
            yield Finding("unfed", pattern, handlers, near)
    categories: dict[str, dict[str, None]] = {}
    for (_, topic), who in published.items():
        category = topic.partition(".")[0]
        if category not in KNOWN_CATEGORIES:
            categories.setdefault(category, {}).update(dict.fromkeys(who))
    for category, components in categories.items():
        near = _near(category, KNOWN_CATEGORIES)
        yield Finding("category", category, tuple(components), near)


def _near(topic: str, others: Iterable[str]) -> str | None:
    literal = [other for other in others if "*" not in other and "#" not in other]
    found = difflib.get_close_matches(topic, literal, n=1, cutoff=NEAR)
    return found[0] if found else None


def tell(framework: Inquiries) -> None:
    """Log what a start has to warn of; never fails."""
    if not LOGGER.isEnabledFor(logging.WARNING):
        return
    try:
        found = wiring(framework)
    except Exception:  # a check must not stop what it checks
        LOGGER.debug("the wiring could not be checked", exc_info=True)
        return
    elsewhere = framework.bus.capabilities["shared"]
    for finding in found.warnings:
        # What nobody handles here may be for another process; a slip of the pen is one anyway.
        if finding.suggestion is not None or not elsewhere:
            LOGGER.warning("wiring: %s", finding)
    for finding in found.findings:
        if not finding.is_warning:
            level = logging.INFO if finding.kind == "category" else logging.DEBUG
            LOGGER.log(level, "wiring: %s", finding)
