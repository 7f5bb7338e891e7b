"""What a case asks for: its own answer, or any answer but that of a library that is mistaken."""

from __future__ import annotations

from typing import Any

from vectors.cases import Case

__all__ = ["Lacking", "compare", "is_mistake", "settle"]


class Lacking(Exception):
    """The product has no public way to do what the rest of a case needs."""


def is_mistake(case: Case) -> bool:
    """Whether the case shows what the product must not do."""
    assert case["stance"] in ("adopt", "avoid"), f"unknown stance {case['stance']!r}"
    return bool(case["stance"] == "avoid")


def compare(what: str, actual: Any, expected: Any) -> list[str]:
    """The difference of two answers, in words, if there is one."""
    return [] if actual == expected else [f"{what} is {actual!r} instead of {expected!r}"]


def settle(case: Case, differences: list[str], *, canonical: bool = False) -> None:
    """Pass or fail a case by where the product differs from its `expect`.

    Args:
        case: The case.
        differences: What is different, in words.
        canonical: Whether it was compared with the case's canonical fields instead.
    """
    if is_mistake(case) and not canonical:
        assert differences, "the product answers as the case says that it must not"
    else:
        assert not differences, "\n".join(differences)
