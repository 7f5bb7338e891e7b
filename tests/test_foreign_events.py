"""Events that somebody else wrote: the unusual is kept as it is, what is too much is bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tiebeam import Event
from tiebeam.exceptions import PayloadError


def foreign(metadata: dict[str, Any] | None = None, **fields: Any) -> Event:
    event = {"event_id": "e", "event_type": "a.b", "timestamp": 1, "payload": {}, **fields}
    return Event.from_json(json.dumps({**event, "metadata": metadata or {}}))


@pytest.mark.parametrize("timestamp", [0, -1, -(2**63), 2**63 - 1])
def test_any_time_passes(timestamp: int) -> None:
    event = foreign(timestamp=timestamp)
    assert event.timestamp == timestamp
    assert Event.from_json(event.to_json()).timestamp == timestamp
    assert "a.b" in repr(event)


@pytest.mark.parametrize(
    ("given", "seen"), [(3, 3), (2**32, 2**32 - 1), (2**63 - 1, 2**32 - 1), (-5, 0), (None, 0)]
)
def test_a_retry_count_stops_at_its_bounds(given: int | None, seen: int) -> None:
    assert foreign({"retry_count": given}).retry_count == seen


def test_without_a_correlation_an_event_begins_its_own_chain() -> None:
    event = foreign()
    assert (event.correlation_id, event.causation_id) == ("e", None)
    assert foreign({"correlation_id": "c", "causation_id": "p"}).correlation_id == "c"


def test_a_version_from_the_future_passes() -> None:
    event = foreign(version=2**32 - 1)
    assert Event.from_json(event.to_json()).version == 2**32 - 1


def test_metadata_of_others_keeps_its_order() -> None:
    metadata = {"tenant": 1, "priority": "high", "zone": "x", "key": "k", "audit": [1]}
    wire = json.loads(foreign(metadata).to_json())["metadata"]
    assert [name for name in wire if name in ("tenant", "zone", "audit")] == [
        "tenant",
        "zone",
        "audit",
    ]


def test_a_key_that_comes_twice_is_refused() -> None:
    text = '{"event_id":"e","event_type":"a","timestamp":1,"payload":{"a":1,"a":2}}'
    with pytest.raises(PayloadError, match='"a" comes twice'):
        Event.from_json(text)
