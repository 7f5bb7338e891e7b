"""Checks that a component adds while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tiebeam.exceptions import ConfigurationError
from tiebeam.health import Health

if TYPE_CHECKING:
    from tiebeam._host import Host

__all__ = ["AddedCheck"]


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
