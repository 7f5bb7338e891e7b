"""Old payloads made new: one function for each step from a version to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from tiebeam import _core
from tiebeam.exceptions import ConfigurationError, PermanentError

__all__ = ["Upcasters", "upcast"]

Step = Callable[[dict[str, Any]], dict[str, Any]]
StepT = TypeVar("StepT", bound=Step)


class Upcasters:
    """The steps by which payloads of old versions become payloads of new ones.

    ``tiebeam.upcast`` is the one that every bus uses unless it is given its own, as
    ``EventBus(upcasters=...)`` or ``Framework(upcasters=...)``; a test makes one for itself.

    >>> steps = Upcasters()
    >>> @steps("market_data.price_update", from_version=1)
    ... def add_currency(payload):
    ...     return {**payload, "currency": "USD"}
    """

    def __init__(self) -> None:
        self._steps: dict[str, dict[int, Step]] = {}

    def __call__(self, event_type: str, /, *, from_version: int) -> Callable[[StepT], StepT]:
        """Have the function make payloads of ``from_version`` into those of the version after it.

        Args:
            event_type: The topic of the events.
            from_version: The version that the function is given, from 1.

        Raises:
            ConfigurationError: When there is another function for this step.
            TopicError: For a malformed topic.
            TypeError: For a ``from_version`` that is no integer.
            ValueError: For a ``from_version`` below 1.
        """
        if not isinstance(event_type, str):
            raise TypeError('write @upcast("market_data.price_update", from_version=1)')
        _core.Event(event_type)  # raises for a malformed type, and for a pattern
        if type(from_version) is not int:
            raise TypeError(f"from_version is an integer, got {type(from_version).__name__}")
        if from_version < 1:
            raise ValueError(f"versions begin with 1, got from_version={from_version}")

        def register(step: StepT) -> StepT:
            steps = self._steps.setdefault(event_type, {})
            other = steps.get(from_version)
            if other is not None and _name(other) != _name(step):  # a cell may be run again
                raise ConfigurationError(
                    f"`{event_type}` has an upcaster from version {from_version} already: "
                    f"{_name(other)}; {_name(step)} would be a second one",
                    event_type=event_type,
                )
            steps[from_version] = step
            return step

        return register

    def _check(self, event_type: str, version: int) -> None:
        """Refuse a chain to ``version`` that has a gap."""
        steps = [step for step in self._steps.get(event_type, ()) if step < version]
        if not steps:
            return
        missing = [step for step in range(min(steps), version) if step not in steps]
        if missing:
            raise ConfigurationError(
                f"`{event_type}` cannot be brought from version {min(steps)} to {version}: "
                f"{' and '.join(self._needed(event_type, step) for step in missing)} is missing",
                event_type=event_type,
            )

    @staticmethod
    def _needed(event_type: str, step: int) -> str:
        return f'@upcast("{event_type}", from_version={step})'

    def _bring(self, event_type: str, payload: Any, version: int, target: int) -> Any:
        """``payload`` in the form of version ``target``."""
        if version > target:
            raise PermanentError(
                f"`{event_type}` came in version {version}, and its handler knows none after "
                f"{target}; update the handler's class, then replay the dead letter",
                event_type=event_type,
            )
        steps = self._steps.get(event_type, {})
        while version < target:
            step = steps.get(version)
            if step is None:
                raise PermanentError(
                    f"`{event_type}` came in version {version}, which nothing brings to version "
                    f"{version + 1}; write {self._needed(event_type, version)}",
                    event_type=event_type,
                )
            try:
                payload = step(payload)
            except Exception as error:
                raise PermanentError(
                    f"{_name(step)} could not bring `{event_type}` from version {version} to "
                    f"{version + 1}: {type(error).__name__}: {error}",
                    event_type=event_type,
                ) from error
            if not isinstance(payload, dict):
                raise PermanentError(
                    f"{_name(step)} must return the payload of `{event_type}` as a dict, got "
                    f"{type(payload).__name__}",
                    event_type=event_type,
                )
            version += 1
        return payload


def _name(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"


upcast = Upcasters()
"""The steps that every bus uses unless it is given its own."""
