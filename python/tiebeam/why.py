"""Why a component is as it is, for people and for machines."""

from __future__ import annotations

from datetime import datetime, timezone
from html import escape
from typing import Any

__all__ = ["Why"]


class Why:
    """What led to a component's present state, as :meth:`tiebeam.Framework.why` found it.

    ``str`` gives a tree for the terminal, with what is newest first: each line is the cause of the
    one above it. Notebooks show the same as HTML. The record behind it is bounded: a chain whose
    beginning is no longer kept says so.
    """

    def __init__(self, said: dict[str, Any]) -> None:
        self._said = said

    @property
    def component(self) -> str:
        """The component's name."""
        return str(self._said["component"])

    @property
    def state(self) -> str:
        """Its state."""
        return str(self._said["state"])

    @property
    def cause(self) -> str:
        """Why it is in it, in one line."""
        return str(self._said["cause"])

    def as_dict(self) -> dict[str, Any]:
        """Everything, for machines.

        ``chains`` has a list for each reason, from the effect to its first cause; each link has
        ``id``, ``subject``, ``what``, ``state``, ``text``, ``at`` (Unix milliseconds),
        ``seconds_ago``, ``count`` and ``because`` (the id of its cause). ``came_through`` is such a
        list for a component that is well, ``affects`` those that are not because of it.
        """
        return self._said

    def _head(self) -> str:
        said = self._said
        since = f"since {_time(said['since'])}, {_ago(said['for_seconds'])}"
        return _line_of(f"{self.component} is {self.state} ({since}): {self.cause}")

    def _sections(self) -> list[tuple[str, list[str]]]:
        """Titles, each with lines of which the later is the cause of the one before."""
        said = self._said
        found = [("", _lines(chain)) for chain in said["chains"]]
        if said["came_through"]:
            found.append(("it came through", _lines(said["came_through"])))
        for other in said["affects"]:
            line = _line_of(f"{other['component']} is {other['state']}: {other['cause']}")
            found.append(("it affects", [line]))
        return found

    def __str__(self) -> str:
        text = [self._head()]
        last = ""
        for title, lines in self._sections():
            if title and title != last:
                text.append(f"  {title}:")
            last = title
            for depth, line in enumerate(lines):
                text.append(f"{'  ' * (depth + 1 + bool(title))}{'<- ' if depth else '- '}{line}")
        return "\n".join(text)

    def __repr__(self) -> str:
        return f"<Why {self.component!r} is {self.state}: {self.cause}>"

    def _repr_html_(self) -> str:
        # No colours of its own: it is read on light and on dark ground.
        parts = [f"<p><b>{escape(self._head())}</b></p>"]
        last = ""
        for title, lines in self._sections():
            if title and title != last:
                parts.append(f"<p>{escape(title)}:</p>")
            last = title
            inner = ""
            for line in reversed(lines):
                inner = f"<ul><li>{escape(line)}{inner}</li></ul>"
            parts.append(inner)
        return "".join(parts)


def _lines(chain: list[dict[str, Any]]) -> list[str]:
    lines = [_line(link) for link in chain]
    if chain and chain[-1]["because"] is not None:
        lines.append("(what caused this is no longer in the record)")
    return lines


def _line(link: dict[str, Any]) -> str:
    what = f"{link['state']}: {link['text']}" if link["state"] else link["text"]
    often = f" ({link['count']} times)" if link["count"] > 1 else ""
    what = _line_of(what)
    when = f"{_time(link['at'])}, {_ago(link['seconds_ago'])} ago"
    return f"{link['subject']}: {what}{often} [{when}]"


def _line_of(text: str) -> str:
    """What failed may have said anything: here it is one line, without escapes."""
    return "".join(character if character.isprintable() else " " for character in text)


def _time(at: int) -> str:
    return (
        datetime.fromtimestamp(at / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
    )


def _ago(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3_600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3_600:.1f} h"
