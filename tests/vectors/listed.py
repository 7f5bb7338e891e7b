"""What is not played, or not to its end, and why."""

from __future__ import annotations

__all__ = ["CONTRADICTS", "MISSING"]

MISSING: dict[str, str] = {
    "lease_eviction_limit": "leases on a virtual clock; src/registry/presence/table plays it",
    "lease_expiry": "leases on a virtual clock; src/registry/presence/table plays it",
    "lease_self_preservation": "a count of renewals: who cannot hear anybody gives nobody up here",
    "lifecycle_table": "the table of the changes of state, and a request for one of them",
}
"""Areas that need what the public API has not, in part or at all. Those that have an adapter are
played as far as that goes."""

CONTRADICTS: dict[str, str] = {
    "he-020": "a component lives while it starts: a slow start is no reason to be killed",
}
"""Single cases that say otherwise than the product's own definition, which stands."""
