"""What a careful author would write in Python: a trie of segments, and a cache by type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Handler = Callable[[Any], None]
Node = dict[str, Any]

_HERE = ""  # no segment is empty


class Trie:
    """Patterns with ``*`` for one segment and ``#`` for any number of them."""

    def __init__(self) -> None:
        self._root: Node = {}
        self.cache: dict[str, list[Handler]] = {}
        """Who gets a type; to be looked at first."""

    def insert(self, pattern: str, handler: Handler) -> None:
        node = self._root
        for segment in pattern.split("."):
            node = node.setdefault(segment, {})
        node.setdefault(_HERE, []).append(handler)
        self.cache.clear()

    def find(self, event_type: str) -> list[Handler]:
        """Everybody whose pattern matches; remembered."""
        found: list[Handler] = []
        segments = event_type.split(".")
        nodes = [(self._root, 0)]
        while nodes:
            node, depth = nodes.pop()
            if after := node.get("#"):
                nodes += [(after, later) for later in range(depth, len(segments) + 1)]
            if depth == len(segments):
                found += node.get(_HERE, ())
                continue
            for name in (segments[depth], "*"):
                if after := node.get(name):
                    nodes.append((after, depth + 1))
        if len(self.cache) >= 100_000:  # as large as it may get
            self.cache.clear()
        self.cache[event_type] = found
        return found
