"""Faults made on purpose, and the books that show what they did.

Producers and consumers are processes of their own, each with a ledger that it syncs to disk before
it goes on. Whatever is killed, frozen, cut off or emptied meanwhile: at the end every event that
was offered is explained, and every one that was acknowledged was handled, or is a dead letter.

``pytest tests/faults`` runs all of it in a small size; ``python -m tests.faults T1 --full`` runs
one plan in its full size, and goes on where it was interrupted.
"""
