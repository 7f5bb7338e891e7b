"""What is asked for oddly, what cannot be resolved, and services of other processes by protocol."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Optional,
    Protocol,
    runtime_checkable,
)

import pytest
from tiebeam import Capability, Component, ConfigurationError, Framework
from tiebeam.services import type_name
from tiebeam.testing import TestFramework

if TYPE_CHECKING:
    from tests.nowhere import Elsewhere

Make = Callable[..., TestFramework]


class Storage(Protocol):
    async def load(self, key: str) -> str: ...


@runtime_checkable
class Sized(Protocol):
    size: int


class Disk(Component):
    capabilities = ["history"]

    def __init__(self) -> None:
        self.size = 3

    async def load(self, key: str) -> str:
        return key


class Tape(Disk):
    """Another one."""


class Unrelated(Component): ...


ODD: list[tuple[Any, str]] = [
    (None, "a protocol, got NoneType None"),
    (3, "a protocol, got int 3"),
    (Optional[Storage], "ask for the class in there itself"),  # noqa: UP045
    (Annotated[Component, Capability("history")], "ask for the class in there itself"),
    (list[Storage], "ask for the class in there itself"),
    (Capability("history"), r"write find\(capability='history'\)"),
    (Disk(), "got the component .* itself; ask for Disk"),
]


@pytest.mark.parametrize(("odd", "said"), ODD, ids=[str(said) for _, said in ODD])
def test_what_is_asked_for_oddly_is_told_what_to_ask_for(odd: Any, said: str) -> None:
    framework = Framework(components=[Disk, Unrelated])
    with pytest.raises(TypeError, match=rf"^get\(\) takes the name of a component, .*{said}"):
        framework.get(odd)
    if odd is not None:  # which is any, where a list is asked for
        with pytest.raises(TypeError, match=rf"^find\(\) takes a class, .*{said}"):
            framework.find(odd)
        with pytest.raises(TypeError, match=rf"^services\(\) takes the name .*{said}"):
            framework.services(odd)


def test_names_where_classes_are_wanted_and_empty_ones() -> None:
    framework = Framework(components=[Disk])
    with pytest.raises(TypeError, match=r"by name it is get\('disk'\)"):
        framework.find("disk")  # type: ignore[call-overload]
    for empty in ("", " "):
        with pytest.raises(ConfigurationError, match="takes the name of a component"):
            framework.get(empty)
        with pytest.raises(ConfigurationError, match="takes the name of a component"):
            framework.services(empty)
        for ask in (framework.find, framework.services):
            with pytest.raises(ConfigurationError, match="leave it out to ask for any"):
                ask(capability=empty)
    for ask in (framework.find, framework.services):
        with pytest.raises(TypeError, match="as components declare it, a text, got int 3"):
            ask(capability=3)  # type: ignore[arg-type]
    for overrides, said in [
        ({"disk": 1}, r"got the name 'disk'; give the class of that component, or Capability"),
        ({Disk(): 1}, "got the component .* itself; ask for Disk"),
        ({None: 1}, "got NoneType None"),
        ({Capability(""): 1}, "leave it out"),
        ([Disk], "is a dict of what to inject by class, protocol or Capability, got list"),
    ]:
        with pytest.raises((TypeError, ConfigurationError), match=said):
            Framework(components=[Disk], overrides=overrides)  # type: ignore[arg-type]


async def test_services_by_protocol(
    tiebeam_framework: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tiebeam_framework(components=[Disk, Unrelated]) as framework:
        for kind in (Storage, Sized, Disk):
            assert [found.name for found in framework.services(kind)] == ["disk"], kind
        assert len(framework.services("disk")) == 1
        says = framework._core._services()

        # As another process would announce them.
        class Announces:
            def _services(self) -> list[dict[str, Any]]:
                here = says[0]
                return [
                    {**here, "name": name, "remote": True, "types": types}
                    for name, types in [
                        ("imported", [type_name(Tape), type_name(Disk)]),
                        ("unrelated", [type_name(Unrelated)]),
                        ("unknown", ["elsewhere.module:Disk"]),
                        ("of_a_base", ["elsewhere.module:Own", type_name(Disk)]),
                    ]
                ]

        monkeypatch.setattr(framework, "_core", Announces())
        names = lambda kind: [found.name for found in framework.services(kind)]  # noqa: E731
        assert names(Storage) == ["imported", "of_a_base"]
        assert names(Disk) == ["imported", "of_a_base"]
        assert names(Sized) == [], "instances have a size, and no instance is here"
        monkeypatch.undo()


UNRESOLVED = """
from __future__ import annotations
from typing import TYPE_CHECKING, ClassVar
from tiebeam import Component
if TYPE_CHECKING:
    from nowhere import Storage

class Attribute(Component):
    storage: Storage
    kept: ClassVar[Storage]
    given: Storage = None
    made: Storage
    count: int

    def __init__(self):
        self.made = None

class Optional(Component):
    def __init__(self, storage: Storage | None = None) -> Storage: ...

class Needed(Component):
    def __init__(self, storage: Storage): ...
"""


@pytest.fixture
def unresolved() -> Any:
    module = types.ModuleType("unresolved_names")
    sys.modules[module.__name__] = module
    exec(UNRESOLVED, vars(module))
    yield module
    del sys.modules[module.__name__]


def test_an_annotation_that_cannot_be_resolved_is_said(
    unresolved: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "tiebeam"):
        Framework(components=[unresolved.Attribute, unresolved.Optional, Disk])
    attribute, parameter = (record.getMessage() for record in caplog.records)
    why = "(NameError: name 'Storage' is not defined); define or import it"
    assert attribute.startswith("`attribute`: nothing is injected for the attribute `storage`")
    assert f"`Storage` {why}" in attribute
    assert parameter.startswith("`optional`: nothing is injected for the parameter `storage`")
    assert f"`Storage | None` {why}" in parameter
    with pytest.raises(ConfigurationError) as caught:
        Framework(components=[unresolved.Needed, Disk])
    assert "cannot make Needed: the annotation of its parameter `storage`" in str(caught.value)
    assert f"`Storage` {why}" in str(caught.value)


def test_the_constructor_of_a_base_is_read_by_the_names_of_its_module() -> None:
    base = types.ModuleType("base_of_another")
    sys.modules[base.__name__] = base
    vars(base)["Own"] = Disk
    text = (
        "from tiebeam import Component\nclass Base(Component):\n    def __init__(self, own: 'Own'):"
    )
    exec(f"{text}\n        self.own = own", vars(base))

    class Derived(base.Base):  # type: ignore[name-defined, misc]
        """In a module that has no `Own`."""

    framework = Framework(components=[Derived, Disk])
    assert framework.get("derived").own is framework.get(Disk)  # type: ignore[attr-defined]
    del sys.modules[base.__name__]


def test_nothing_is_said_of_what_is_resolved(caplog: pytest.LogCaptureFixture) -> None:
    class Uses(Component):
        disk: Disk
        kinds: ClassVar[list[str]]
        final: Final[int]
        elsewhere: Elsewhere = None  # type: ignore[assignment]

    Framework(components=[Uses, Disk])
    assert caplog.records == []
