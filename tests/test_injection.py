"""Injection beyond component classes: protocols, abstract classes and capabilities."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Annotated, Any, Optional, Protocol

import pytest
from tiebeam import Capability, Component, ConfigurationError, Framework, Health
from tiebeam.testing import TestFramework, mock_component

Make = Callable[..., TestFramework]


class Storage(Protocol):
    """Not runtime-checkable: what it asks for is looked at."""

    size: int

    async def get(self, key: str) -> str: ...


class Ledger(abc.ABC):
    @abc.abstractmethod
    def entries(self) -> list[str]: ...


class Disk(Component):
    capabilities = ["storage", "fast"]
    size = 3
    well = True

    async def get(self, key: str) -> str:
        return f"disk has {key}"

    async def health_check(self) -> Any:
        return Health.ok() if self.well else Health.fail("full")


class Book(Component, Ledger):
    capabilities = ["history"]

    def entries(self) -> list[str]:
        return ["first"]


class Keeper(Component):
    def __init__(self, storage: Storage) -> None:
        self.storage = storage


class Unrelated(Component):
    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper


class Uses(Component):
    storage: Storage
    ledger: Ledger
    history: Annotated[Component, Capability("history")]
    typed: Annotated[Storage, Capability("fast")]
    perhaps: Annotated[Component, Capability("nowhere")] | None
    older: Optional[Annotated[Component, Capability("storage")]]  # noqa: UP045


async def test_by_protocol_abstract_class_and_capability(tiebeam_framework: Make) -> None:
    async with tiebeam_framework(components=[Uses, Disk, Book]) as framework:
        uses, disk, book = framework.get(Uses), framework.get(Disk), framework.get(Book)
        assert uses.storage is uses.typed is uses.older is disk
        assert uses.ledger is uses.history is book
        assert uses.perhaps is None
        # What is injected is depended on.
        assert framework.start_report["started"][-1] == "uses"


async def test_constructor_parameters(tiebeam_framework: Make) -> None:
    class Built(Component):
        def __init__(
            self,
            storage: Storage,
            history: Annotated[Ledger, Capability("history")],
            nothing: Annotated[Component, Capability("nowhere")] | None = None,
        ) -> None:
            self.parts = (storage, history, nothing)

    async with tiebeam_framework(components=[Built, Disk, Book]) as framework:
        built = framework.get(Built)
        assert built.parts == (framework.get(Disk), framework.get(Book), None)
        assert framework.start_report["started"][-1] == "built"


async def test_overrides_by_protocol_and_capability(tiebeam_framework: Make) -> None:
    storage, history = object(), object()
    overrides = {
        Storage: storage,
        Capability("history"): history,
        Capability("fast"): storage,
        Ledger: history,
    }
    async with tiebeam_framework(components=[Uses], overrides=overrides) as framework:
        uses: Any = framework.get(Uses)
        assert uses.storage is uses.typed is storage
        assert uses.history is uses.ledger is history
        assert uses.older is None


async def test_a_mock_is_injected_by_protocol(tiebeam_framework: Make) -> None:
    disk = mock_component(Disk)
    disk.get.return_value = "mocked"
    async with tiebeam_framework(components=[Uses, disk, Book]) as framework:
        assert await framework.get(Uses).storage.get("a") == "mocked"


async def test_lookup_by_protocol_and_abstract_class(tiebeam_framework: Make) -> None:
    values = {"health": {"failure_threshold": 1}, "components": {}}
    async with tiebeam_framework(values, components=[Disk, Book]) as framework:
        disk = framework.get(Disk)
        assert framework.get(Storage) is disk  # type: ignore[type-abstract]
        assert isinstance(framework.get(Ledger), Book)  # type: ignore[type-abstract]
        assert framework.find(Storage) == [disk]  # type: ignore[type-abstract]
        assert framework.find(Component, capability="history") == [framework.get(Book)]
        assert framework.find(Ledger, capability="storage") == []  # type: ignore[type-abstract]
        assert [c.name for c in framework.find()] == ["disk", "book"]
        disk.well = False
        await framework.check("disk")
        assert framework.find(Storage) == []  # type: ignore[type-abstract]
        assert framework.find(Storage, unhealthy=True) == [disk]  # type: ignore[type-abstract]


def test_a_capability_that_nobody_has_is_an_error_with_a_suggestion() -> None:
    class Wants(Component):
        store: Annotated[Component, Capability("storrage")]

    with pytest.raises(ConfigurationError) as caught:
        Framework(components=[Wants, Disk])
    assert "`wants` has an attribute `store`" in str(caught.value)
    assert "capability `storrage`" in str(caught.value)
    assert "did you mean `storage`?" in str(caught.value)

    class Built(Component):
        def __init__(self, store: Annotated[Component, Capability("storrage")]) -> None: ...

    with pytest.raises(ConfigurationError, match="did you mean `storage`"):
        Framework(components=[Built, Disk])


def test_several_that_fit_are_told_apart_by_name() -> None:
    class Tape(Disk): ...

    class Wants(Component):
        store: Annotated[Component, Capability("storage")]

    with pytest.raises(ConfigurationError, match="could be disk or tape; name the attribute"):
        Framework(components=[Wants, Disk, Tape])

    class Named(Component):
        tape: Annotated[Component, Capability("storage")]

    framework = Framework(components=[Named, Disk, Tape])
    assert framework.get(Named).tape is framework.get(Tape)


async def test_a_protocol_that_nobody_fits_is_no_affair_of_ours(tiebeam_framework: Make) -> None:
    class Starts(Protocol):
        """Every component does: it tells none from another."""

        async def start(self) -> None: ...

    class Own(Component):
        storage: Storage
        starts: Starts
        unknown: int

        async def start(self) -> None:
            self.found = hasattr(self, "storage") or hasattr(self, "starts")

    async with tiebeam_framework(components=[Own, Book]) as framework:
        assert framework.get(Own).found is False


def test_types_and_names_have_suggestions() -> None:
    class Disks(Component): ...

    framework = Framework(components=[Disk])
    with pytest.raises(ConfigurationError, match="there are: Disk; did you mean Disk"):
        framework.get(Disks)
    with pytest.raises(ConfigurationError, match="did you mean `disk`"):
        framework.get("disc")


async def test_a_component_is_not_its_own_dependency(tiebeam_framework: Make) -> None:
    class Next(Disk):
        storage: Storage

    async with tiebeam_framework(components=[Next, Disk]) as framework:
        assert framework.get(Next).storage is framework.get("disk")


async def test_what_a_constructor_makes_counts_for_a_protocol(tiebeam_framework: Make) -> None:
    class Sized(Component):
        def __init__(self) -> None:
            self.size = 5

        async def get(self, key: str) -> str:
            return key

    async with tiebeam_framework(components=[Unrelated, Keeper, Sized]) as framework:
        assert framework.get(Keeper).storage is framework.get(Sized)
    with pytest.raises(ConfigurationError, match="no component of type Storage for its parameter"):
        Framework(components=[Unrelated, Keeper])
