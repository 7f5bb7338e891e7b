"""What a component's class says of supervision and of losses, checked, as the core reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tiebeam import _core

__all__ = ["check_supervised", "supervised"]

_MAPS = {
    "supervision": 'what supervision does otherwise, such as {"intensity": 5, "period": "1m"}',
    "on_loss": 'what it does without each dependency, such as {"prices": "degrade"}',
}


def check_supervised(owner: Any, name: str) -> None:
    """Refuse what is no mapping where one is wanted.

    Args:
        owner: A component, or its class.
        name: The component's, or the class's, for people.

    Raises:
        TypeError: Naming what was given, and what is accepted.
    """
    for attribute, example in _MAPS.items():
        given = getattr(owner, attribute)
        if not isinstance(given, Mapping):
            raise TypeError(
                f"{name}.{attribute} must be a mapping that says {example}; "
                f"got {type(given).__name__} {given!r}"
            )
        _check_keys(given, f"{name}.{attribute}")
    if owner.restart is not None and not isinstance(owner.restart, str):
        raise TypeError(
            f"{name}.restart must be 'permanent', 'transient' or 'temporary', got "
            f"{type(owner.restart).__name__} {owner.restart!r}; a method goes by another name"
        )


def supervised(component: Any) -> dict[str, Any]:
    """What a component says, with durations in seconds.

    Raises:
        TypeError: For what is no mapping, and for values of no use, naming them.
    """
    name = type(component).__name__
    check_supervised(component, name)
    said: dict[str, Any] = _plain(component.supervision, f"{name}.supervision")
    if component.on_loss:
        said["on_loss"] = _plain(component.on_loss, f"{name}.on_loss")
    for key in ("recover_after", "recover_passes"):
        if getattr(component, key) is not None:
            said[key] = _plain(getattr(component, key), f"{name}.{key}")
    return said


def _check_keys(given: Mapping[Any, Any], where: str) -> None:
    for key in given:
        if not isinstance(key, str):
            raise TypeError(f"{where} has names for keys, got {type(key).__name__} {key!r}")


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, timedelta):
        return _core._seconds(value, where)
    if isinstance(value, Mapping):
        _check_keys(value, where)
        return {key: _plain(below, f"{where}[{key!r}]") for key, below in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{where} must be a number that is finite, got {value!r}")
    if isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(
        f"{where} must be a number, a text, or, where it is a duration, a timedelta; "
        f"got {type(value).__name__} {value!r}"
    )
