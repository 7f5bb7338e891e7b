"""Which errors go to whom: routes by category, component and type."""

from __future__ import annotations

from typing import Any

from tiebeam.exceptions import ConfigurationError

__all__ = ["CATEGORIES", "route"]

CATEGORIES = ("transient", "permanent", "configuration", "dependency", "internal")


def route(
    category: str | None,
    component: str | None,
    error_type: type[BaseException] | str | None,
    final: bool | None,
    options: dict[str, Any],
) -> tuple[str, dict[str, Any]]:
    """The pattern and the options of a subscription to some of a system's errors.

    Raises:
        ConfigurationError: For a category that there is not.
        TypeError: For a filter of one's own beside the route.
    """
    if category is not None and category not in CATEGORIES:
        raise ConfigurationError(
            f"an error's category is {', '.join(CATEGORIES[:-1])} or {CATEGORIES[-1]}, "
            f"got {category!r}",
            category=category,
        )
    if "where" in options:
        raise TypeError("on_error has no option `where`; it takes category, component, ...")
    wanted: dict[str, Any] = {}
    if component is not None:
        wanted["payload.component"] = component
    if error_type is not None:
        name = error_type.__name__ if isinstance(error_type, type) else error_type
        wanted["payload.error_type"] = name
    if final is not None:
        wanted["payload.final"] = final
    # Who fails must not wait for who hears of it, and many errors are one trouble.
    usual: dict[str, Any] = {"overflow": "drop_oldest", "retry": False}
    if wanted:
        usual["where"] = wanted
    return f"system.error.{category or '*'}", {**usual, **options}
