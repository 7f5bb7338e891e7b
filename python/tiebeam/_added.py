"""Checks that a component adds while it runs."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tiebeam.decorators import check
from tiebeam.exceptions import ConfigurationError
from tiebeam.health import Health

if TYPE_CHECKING:
    from tiebeam._host import Host

__all__ = ["AddedCheck", "added", "check_function"]

LONGEST_NAME = 200


class AddedCheck:
    """A check that :meth:`tiebeam.Component.add_check` made."""

    def __init__(self, host: Host, name: str, function: Callable[[], Any] | None) -> None:
        self._host = host
        self.name = name
        """Unique in its component."""
        self.function = function
        """What is asked; ``None`` where the component reports by itself."""

    def report(self, answer: Any = None, /) -> None:
        """Say how it is, instead of being asked; from any thread, and at once.

        Args:
            answer: What a check may return: a :class:`~tiebeam.Health`, ``None`` or ``True`` for
                pass, ``False`` for fail, a number that was measured, a dict of facts.

        Raises:
            ConfigurationError: When the check is asked instead, was removed, or was replaced by
                another.
            PayloadError: For facts that no event could carry.
            TypeError: For what is no answer of a check.
        """
        component = self._host.component.name
        if self._host.added.get(self.name) is not self:
            raise ConfigurationError(
                f"check {self.name!r} of {component!r} was removed, or replaced by another",
                component=component,
            )
        said = Health.of(answer)._as_dict()
        self._host.framework._core._report_check(component, self.name, said)

    def remove(self) -> None:
        """End the check; what it said counts no more. Idempotent."""
        if self._host.added.get(self.name) is self:
            del self._host.added[self.name]
            self._host.framework._core._remove_check(self._host.component.name, self.name)

    def __repr__(self) -> str:
        how = "reported" if self.function is None else "asked"
        return f"<AddedCheck {self._host.component.name}.{self.name} {how}>"


def added(
    name: Any, function: Any, ttl: float | timedelta | None, options: dict[str, Any]
) -> check:
    """What the options of a check that is added say.

    Raises:
        ConfigurationError: For a name that is none.
        TypeError: For what cannot be asked, and for options that do not go together.
    """
    if not isinstance(name, str) or not name.isprintable() or not name.strip():
        raise ConfigurationError(
            f"the name of a check is printable text, such as 'connection to db1', got {name!r}"
        )
    if len(name) > LONGEST_NAME:
        raise ConfigurationError(
            f"the name of a check has at most {LONGEST_NAME} characters, got {len(name)}: "
            f"{name[:40]!r}..."
        )
    if (function is None) == (ttl is None):
        raise TypeError(
            f"check {name!r} needs either a function to ask, or ttl= seconds within which "
            "the component reports"
        )
    known = [field.name for field in dataclasses.fields(check)]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, [*known, "ttl"], n=1)
            hint = f"did you mean {near[0]}=?" if near else f"there are {', '.join(known)}"
            raise TypeError(f"check {name!r} has no option {option}=; {hint}")
    if ttl is not None:
        for refused in ("period", "timeout"):
            if options.get(refused) is not None:
                raise TypeError(
                    f"check {name!r}: {refused}= is for checks that are asked; leave it out, or "
                    "give a function instead of ttl="
                )
        return check(**{"success_threshold": 1, "failure_threshold": 1, **options})
    check_function(name, function)
    return check(**options)


def check_function(name: str, function: Any) -> None:
    """Refuse what would fail each time it is asked.

    Raises:
        TypeError: For what is no function, or takes arguments.
    """
    if inspect.iscoroutine(function):
        function.close()
        raise TypeError(
            f"check {name!r} needs the function itself, to ask it again and again, and got what "
            "calling it returns: leave out the parentheses"
        )
    if not callable(function):
        raise TypeError(
            f"check {name!r} needs a function to ask, `def` or `async def`, got {function!r}"
        )
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise TypeError(
            f"check {name!r} is asked without arguments, and its function has some: {error}; "
            "bind them, such as by a lambda"
        ) from None
    except ValueError:
        pass  # some functions written in C do not say what they take
