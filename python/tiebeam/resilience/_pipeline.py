"""Several stages as one, in an order that makes sense."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from tiebeam.exceptions import ConfigurationError
from tiebeam.resilience._breaker import CircuitBreaker, Guard
from tiebeam.resilience._bulkhead import Bulkhead
from tiebeam.resilience._fallback import Fallback
from tiebeam.resilience._hedge import Hedge
from tiebeam.resilience._inside import Block
from tiebeam.resilience._limiter import RateLimiter
from tiebeam.resilience._retry import Retry
from tiebeam.resilience._stage import Stage
from tiebeam.resilience._timeout import Timeout

__all__ = ["Pipeline", "PipelineOrderWarning"]


class PipelineOrderWarning(UserWarning):
    """The stages of a pipeline stand in an order that hardly anybody wants."""


_ORDER = (
    (Fallback, "fallback"),
    (None, "total timeout"),
    (Retry, "retry"),
    (Hedge, "hedge"),
    (CircuitBreaker, "circuit breaker"),
    (RateLimiter, "rate limiter"),
    (Bulkhead, "bulkhead"),
    (Timeout, "attempt timeout"),
)
"""From the outermost to the innermost. A timeout is one for each attempt inside of a retry or
hedge, and where nothing else is inside of it."""

_WHY = {
    ("circuit breaker", "retry"): "it would see one outcome for all attempts",
    ("circuit breaker", "hedge"): "it would see one outcome for all attempts",
    ("retry", "total timeout"): "it would begin anew with each attempt",
    ("retry", "fallback"): "it would never see an error",
    ("circuit breaker", "fallback"): "it would never see an error",
    ("total timeout", "fallback"): "it would cut the fallback short",
    ("rate limiter", "circuit breaker"): "calls that the breaker rejects would spend permits",
    ("bulkhead", "circuit breaker"): "calls that the breaker rejects would wait for a place",
    ("bulkhead", "retry"): "a place would be held through the waits between attempts",
    ("rate limiter", "retry"): "further attempts would need no permit",
    ("attempt timeout", "bulkhead"): "the wait for a place would count as the call's time",
    ("attempt timeout", "rate limiter"): "the wait for a permit would count as the call's time",
    ("attempt timeout", "circuit breaker"): "a sync call that is late would not count as failed",
}
"""What is wrong with the one outside of the other."""


class Pipeline(Block):
    """Stages around a call, given from the outermost to the innermost.

    The order that works: fallback, total timeout, retry, hedge, circuit breaker, rate limiter,
    bulkhead, attempt timeout. Another one is allowed, and warned of.

    >>> exchange = Pipeline(
    ...     Timeout(10), Retry(), CircuitBreaker("exchange"), Timeout(2), name="exchange"
    ... )
    >>> @exchange
    ... async def price(symbol): ...
    """

    def __init__(self, *stages: Stage, name: str = "pipeline") -> None:
        """Put stages together.

        Args:
            *stages: From the outermost to the innermost; a pipeline stands for its stages.
            name: What it is called in its repr, and in a registry of policies.

        Raises:
            ConfigurationError: For a stage that is given twice, and for a timeout for one attempt
                that is not shorter than the one for all of them.
            TypeError: For what is no stage.

        Warns:
            PipelineOrderWarning: For what :meth:`validate` finds.
        """
        flat: list[Stage] = []
        for stage in stages:
            if isinstance(stage, type) or not isinstance(stage, Stage):
                raise TypeError(f"a pipeline is made of stages such as Retry(), got {stage!r}")
            flat.extend(stage.stages if isinstance(stage, Pipeline) else [stage])
        self.name: str = name
        self.stages: tuple[Stage, ...] = tuple(flat)
        self._labels = [self._label(at) for at in range(len(flat))]
        self._refuse()
        for said in self.validate():
            warnings.warn(f"pipeline {name!r}: {said}", PipelineOrderWarning, stacklevel=2)
        self._in_effect = self._bounded()

    def _label(self, at: int) -> str:
        stage = self.stages[at]
        if isinstance(stage, Timeout):
            again = any(isinstance(other, (Retry, Hedge)) for other in self.stages[:at])
            last = at == len(self.stages) - 1
            return "attempt timeout" if again or last else "total timeout"
        for kind, label in _ORDER:
            if kind is not None and isinstance(stage, kind):
                return label
        return ""  # a stage of the user's own: where it stands is the user's affair

    def _refuse(self) -> None:
        total: float | None = None
        for at, stage in enumerate(self.stages):
            if stage in self.stages[:at]:
                raise ConfigurationError(
                    f"pipeline {self.name!r}: {stage!r} is in it twice", pipeline=self.name
                )
            if not isinstance(stage, Timeout):
                continue
            if total is not None and stage.seconds >= total:
                raise ConfigurationError(
                    f"pipeline {self.name!r}: the inner timeout of {stage.seconds:g} s cannot "
                    f"pass within the outer one of {total:g} s",
                    pipeline=self.name,
                )
            total = stage.seconds

    def validate(self) -> list[str]:
        """What is wrong with the order of the stages, and why; nothing where it is as usual."""
        ranks = {label: rank for rank, (_, label) in enumerate(_ORDER)}
        found = []
        for outer_at, outer in enumerate(self._labels):
            for inner in self._labels[outer_at + 1 :]:
                if outer and inner and ranks[outer] > ranks[inner]:
                    why = _WHY.get((outer, inner))
                    said = f"the {outer} stands outside of the {inner}"
                    found.append(f"{said}: {why}" if why else said)
        return found

    def _bounded(self) -> tuple[Stage, ...]:
        """The stages, of which a retry within a timeout knows how much time there is."""
        limit: float | None = None
        bounded: list[Stage] = []
        for stage in self.stages:
            if isinstance(stage, Timeout):
                limit = stage.seconds
            if isinstance(stage, Retry) and limit is not None:
                stage = stage._within(limit)
            if isinstance(stage, Hedge) and any(
                isinstance(outer, Retry) and outer.budget is stage.budget for outer in bounded
            ):
                stage = stage._inside_of_retry()
            bounded.append(stage)
        return tuple(bounded)

    def find(self, kind: type[Stage]) -> Stage | None:
        """The outermost stage of a class, such as ``CircuitBreaker``, if there is one."""
        return next((stage for stage in self.stages if isinstance(stage, kind)), None)

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        for stage, guard in self._steps():
            if guard is not None:
                function = stage._sync_guarded(function, guard)
            else:
                function = stage._sync(function)
        return function

    def _async(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        for stage, guard in self._steps():
            if guard is not None:
                function = stage._async_guarded(function, guard)
            else:
                function = stage._async(function)
        return function

    def _steps(self) -> Iterator[tuple[Any, Guard | None]]:
        """The stages from the innermost on. A breaker right inside of a retry is one step with
        it: a frame less for calls that succeed at once."""
        stages = list(self._in_effect)
        while stages:
            stage = stages.pop()
            outer = stages[-1] if stages else None
            guard = stage._guard() if isinstance(stage, CircuitBreaker) else None
            if guard is not None and isinstance(outer, Retry) and outer._can_guard:
                yield stages.pop(), guard
            else:
                yield stage, None

    def _blocks(self) -> list[Block]:
        blocks = [stage for stage in self.stages if isinstance(stage, Block)]
        if len(blocks) < len(self.stages):
            others = [s for s in self.stages if not isinstance(s, Block)]
            raise TypeError(
                f"a block of code runs once, and {others[0]!r} may call more than once; put the "
                "block into a function and decorate that"
            )
        return blocks

    def _refuse_sync(self) -> None:
        for block in self._blocks():
            block._refuse_sync()

    def _enter(self) -> Any:
        given: list[tuple[Block, Any]] = []
        try:
            given.extend((block, block._enter()) for block in self._blocks())
        except BaseException as error:
            self._leave(given, error)
            raise
        return given

    async def _enter_async(self) -> Any:
        given: list[tuple[Block, Any]] = []
        blocks = self._blocks()
        try:
            for block in blocks:
                given.append((block, await block._enter_async()))  # noqa: PERF401
        except BaseException as error:
            self._leave(given, error)
            raise
        return given

    def _leave(self, given: Any, error: BaseException | None) -> None:
        # As nested blocks would end: each sees what the one inside of it raised.
        try:
            with contextlib.ExitStack() as stack:
                for block, one in given:
                    stack.push(_Leaves(block, one))
                if error is not None:
                    raise error
        except BaseException as raised:
            if raised is not error:
                raise

    def __repr__(self) -> str:
        inside = " > ".join(
            label or repr(s) for label, s in zip(self._labels, self.stages, strict=True)
        )
        return f"<Pipeline {self.name!r}: {inside}>"


class _Leaves:
    """The end of one block, as an exit stack calls it."""

    def __init__(self, block: Block, given: Any) -> None:
        self._block = block
        self._given = given

    def __call__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._block._leave(self._given, error)
