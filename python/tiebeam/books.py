"""Figures of a bus in a form to read: what became of events, and who would get one."""

from __future__ import annotations

from typing import Any

from tiebeam._html import table

__all__ = ["Books", "Explanation", "Tally"]

_COLUMNS = (
    "published",
    "delivered",
    "filtered",
    "conflated",
    "dropped",
    "expired",
    "dead_lettered",
    "in_flight",
)


class Tally:
    """What became of the events offered to one subscription, or to all of them."""

    published: int
    delivered: int
    filtered: int
    conflated: int
    dropped: int
    expired: int
    dead_lettered: int
    in_flight: int

    def __init__(self, figures: dict[str, int]) -> None:
        for name in _COLUMNS:
            setattr(self, name, figures[name])

    @property
    def balanced(self) -> bool:
        """Whether everything published is accounted for."""
        figures = self.as_dict()
        return self.published == sum(figures[name] for name in _COLUMNS[1:])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]

    def as_dict(self) -> dict[str, int]:
        """The figures by name."""
        return {name: getattr(self, name) for name in _COLUMNS}

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.as_dict().items() if value)
        return f"<Tally {shown or 'nothing yet'}>"


class Books:
    """The books of a bus: ``published = delivered + filtered + ... + in_flight``."""

    def __init__(self, figures: dict[str, Any]) -> None:
        self.events: int = figures["events"]
        """Events that ``publish``, ``send`` and ``request`` accepted."""
        self.total = Tally(figures["total"])
        """The sum over all subscriptions there are and were."""
        self.subscriptions: list[tuple[str, Tally]] = [
            (name, Tally(tally)) for name, tally in figures["subscriptions"]
        ]
        """By subscription, in the order in which they subscribed."""
        self.duplicates: int = figures["duplicates"]
        """Events whose id was published before, where the bus remembers ids; not in ``events``."""
        self.quarantined: int = figures["quarantined"]
        """What the broker had that was no event, and was set aside; not in ``events``."""
        self.late_replies: int = figures["late_replies"]
        """Replies that came after their request had ended."""
        self.pending_requests: int = figures["pending_requests"]
        """Requests that wait for a reply."""
        self.abandoned_threads: int = figures["abandoned_threads"]
        """Sync handlers that outlasted their time limit and were left behind."""
        self.loop_lag: float = figures["loop_lag"]
        """Seconds between waking an event loop and its turn, when that was last measured."""
        self.longest_loop_lag: float = figures["longest_loop_lag"]
        """The longest that was measured, or that a handler blocked its loop."""

    @property
    def balanced(self) -> bool:
        """Whether every event is accounted for, at every subscription."""
        return self.total.balanced and all(tally.balanced for _, tally in self.subscriptions)

    def __getitem__(self, name: str) -> Tally:
        for known, tally in self.subscriptions:
            if known == name:
                return tally
        raise KeyError(f"no subscription named {name!r}")

    def _rows(self) -> list[list[str]]:
        named = [*self.subscriptions, ("total", self.total)]
        return [
            [name, *(str(value) for value in tally.as_dict().values())] for name, tally in named
        ]

    def __repr__(self) -> str:
        state = "balanced" if self.balanced else "NOT BALANCED"
        return f"<Books {self.events} events, {state}: {self.total!r}>"

    def __str__(self) -> str:
        rows = [["subscription", *_COLUMNS], *self._rows()]
        widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if index == 0 else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )

    def _repr_html_(self) -> str:
        return table(["subscription", *_COLUMNS], self._rows())


class Explanation:
    """Who gets the events of one type, and why others do not."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.event_type: str = found["event_type"]
        self.receivers: list[dict[str, Any]] = found["receivers"]
        """Each with ``name``, ``pattern``, ``role``, ``runs``, ``filtered``, ``queued``,
        ``max_attempts``, ``ack``, ``group`` and ``shared_by``: among how many subscriptions the
        events of the group are shared."""
        self.others: list[tuple[str, str]] = [(name, why) for name, why in found["others"]]
        """Subscriptions that do not match, with the reason."""
        self.suggestion: str | None = found["suggestion"]
        """A near type that somebody listens to, when nobody listens to this one."""

    def __str__(self) -> str:
        lines = [f"{self.event_type}: {len(self.receivers) or 'no'} receiver(s)"]
        for receiver in self.receivers:
            notes = [receiver["runs"], f"{receiver['max_attempts']} attempt(s)"]
            if receiver["filtered"]:
                notes.append("filtered by content")
            if receiver["ack"] != "nack_on_error":
                notes.append(f"settled by {receiver['ack']}")
            if receiver["shared_by"] > 1:
                notes.append(f"group `{receiver['group']}`, shared by {receiver['shared_by']}")
            elif receiver["group"]:
                notes.append(f"group `{receiver['group']}`")
            lines.append(
                f"  + {receiver['name']} ({receiver['role']}) <- {receiver['pattern']}"
                f" [{', '.join(notes)}]"
            )
        lines += [f"  - {name}: {why}" for name, why in self.others]
        if self.suggestion:
            lines.append(f"  did you mean `{self.suggestion}`?")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Explanation {self}>"
