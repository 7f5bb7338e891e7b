"""What a case expects; an ``assert`` would say nothing where Python optimises."""

from __future__ import annotations

__all__ = ["expect"]


def expect(met: object, said: object = "") -> None:
    """Fail unless something is as it should be.

    Args:
        met: Whether it is.
        said: What is known of it otherwise.

    Raises:
        AssertionError: When it is not.
    """
    if not met:
        raise AssertionError(str(said) if said != "" else "")
