"""From a payload to an instance: what JSON made of a class's fields is made into them again.

Pydantic and msgspec read their own classes. Dataclasses are read here, by their annotations and
from the encodings that a payload has: ISO 8601 for times, text for ``Decimal`` and ``UUID``, the
value of an ``Enum``. A reader is made once for each class, when somebody subscribes.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any
from uuid import UUID

from tiebeam._convert_classes import dataclass, pydantic, struct
from tiebeam._mismatch import Field, Mismatch, short_name, shown
from tiebeam.secret import Secret

__all__ = ["Reader", "is_model", "reader"]

Reader = Callable[[Any], Any]


def is_model(kind: object) -> bool:
    """Whether instances of ``kind`` can be read from payloads: a dataclass, a pydantic model, or
    a msgspec ``Struct``."""
    return isinstance(kind, type) and (
        dataclasses.is_dataclass(kind)
        or hasattr(kind, "__struct_fields__")
        or hasattr(kind, "model_validate")
    )


def reader(kind: type) -> Reader:
    """What makes instances of ``kind``, and raises :class:`Mismatch`.

    Raises:
        TypeError: For a field whose annotation no payload can fill, naming it.
    """
    read = _field(kind, short_name(kind))
    return lambda payload: read(payload, "payload")


def _field(kind: Any, where: str) -> Field:
    """The reader for one annotation; ``where`` names it if it has none."""
    if isinstance(kind, typing.NewType):
        return _field(kind.__supertype__, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _field(arguments[0], where)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, where)
    if origin is typing.Literal:
        return _literal(arguments)
    if kind is Any or kind is object or isinstance(kind, typing.TypeVar):
        return lambda value, _path: value
    if kind is None or kind is type(None):
        return _literal((None,))
    container = origin or kind
    if container in _ARRAYS:
        return _array(_ARRAYS[container], arguments, where)
    if container is tuple:
        return _tuple(arguments, where)
    if container in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        return _object(arguments, where)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if isinstance(kind, type):
        if issubclass(kind, Enum):
            return _enum(kind)
        if hasattr(kind, "model_validate"):
            return pydantic(kind)
        if hasattr(kind, "__struct_fields__"):
            return struct(kind)
        if dataclasses.is_dataclass(kind):
            return dataclass(kind, _field)
    raise TypeError(
        f"{where}: a payload cannot be read into {kind!r}; use a JSON type, a date or time, "
        "Decimal, UUID, an Enum, a dataclass, a pydantic model or a msgspec Struct"
    )


# -- values -------------------------------------------------------------------------------


def _exact(name: str, *kinds: type) -> Field:
    def read(value: Any, path: str) -> Any:
        if type(value) in kinds:
            return value
        raise Mismatch((path, f"must be {name}, got {shown(value)}"))

    return read


def _float(value: Any, path: str) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    raise Mismatch((path, f"must be a number, got {shown(value)}"))


def _text_form(name: str, make: Callable[[str], Any]) -> Field:
    def read(value: Any, path: str) -> Any:
        if type(value) is str:
            try:
                return make(value)
            except (ValueError, InvalidOperation):
                pass
        raise Mismatch((path, f"must be {name}, got {shown(value)}"))

    return read


def _instant(text: str) -> datetime:
    # Before 3.11 `fromisoformat` does not know the Z that the rest of the world writes.
    return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)


def _decimal(value: Any, path: str) -> Decimal:
    if type(value) is int:
        return Decimal(value)
    if type(value) is str:
        try:
            return Decimal(value)
        except InvalidOperation:
            pass
    hint = "; as a float it has lost its exactness" if type(value) is float else ""
    raise Mismatch((path, f"must be a decimal as text, got {shown(value)}{hint}"))


def _secret(value: Any, path: str) -> Secret:
    if type(value) is str:
        return Secret(value)
    raise Mismatch((path, f"must be a string, got {type(value).__name__}"))


_PLAIN: dict[Any, Field] = {
    str: _exact("a string", str),
    int: _exact("an integer", int),
    bool: _exact("a boolean", bool),
    float: _float,
    dict: _exact("an object", dict),
    datetime: _text_form("a date and time in ISO 8601", _instant),
    date: _text_form("a date in ISO 8601", date.fromisoformat),
    time: _text_form("a time in ISO 8601", time.fromisoformat),
    Decimal: _decimal,
    UUID: _text_form("a UUID as text", UUID),
    Secret: _secret,
}


def _literal(allowed: tuple[Any, ...]) -> Field:
    def read(value: Any, path: str) -> Any:
        for one in allowed:
            if type(one) is type(value) and one == value:
                return one
        raise Mismatch((path, f"must be {' or '.join(map(repr, allowed))}, got {shown(value)}"))

    return read


def _enum(kind: type[Enum]) -> Field:
    members = {(type(member.value), member.value): member for member in kind}

    def read(value: Any, path: str) -> Any:
        try:
            return members[type(value), value]
        except (KeyError, TypeError):
            known = ", ".join(repr(member.value) for member in kind)
            raise Mismatch((path, f"must be one of {known}, got {shown(value)}")) from None

    return read


def _union(kinds: tuple[Any, ...], where: str) -> Field:
    branches = [_field(kind, where) for kind in kinds]

    def read(value: Any, path: str) -> Any:
        found: list[tuple[str, str]] = []
        for branch in branches:
            try:
                return branch(value, path)
            except Mismatch as mismatch:  # noqa: PERF203 - the next branch may be the one
                found += mismatch.problems
        # The branch that was meant is the one that came furthest.
        deepest = max(len(where) for where, _ in found)
        rules = dict.fromkeys(rule for where, rule in found if len(where) == deepest)
        place = next(where for where, _ in found if len(where) == deepest)
        raise Mismatch((place, ", or ".join(rules)))

    return read


# -- containers ---------------------------------------------------------------------------

_ARRAYS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    collections.abc.Set: frozenset,
}


def _each(parts: collections.abc.Iterable[tuple[Field, Any, str]]) -> list[Any]:
    """All of them read, or everything that is wrong with any of them."""
    values: list[Any] = []
    problems: list[tuple[str, str]] = []
    for read, value, path in parts:
        try:
            values.append(read(value, path))
        except Mismatch as mismatch:  # noqa: PERF203 - all problems are told at once
            problems += mismatch.problems
    if problems:
        raise Mismatch(*problems)
    return values


def _array(make: Callable[[list[Any]], Any], arguments: tuple[Any, ...], where: str) -> Field:
    element = _field(arguments[0] if arguments else Any, where)

    def read(value: Any, path: str) -> Any:
        if type(value) is not list:
            raise Mismatch((path, f"must be an array, got {shown(value)}"))
        return make(_each((element, v, f"{path}[{n}]") for n, v in enumerate(value)))

    return read


def _tuple(arguments: tuple[Any, ...], where: str) -> Field:
    if not arguments or (len(arguments) == 2 and arguments[1] is Ellipsis):
        return _array(tuple, arguments, where)
    elements = [_field(argument, where) for argument in arguments if argument != ()]

    def read(value: Any, path: str) -> Any:
        if type(value) is not list or len(value) != len(elements):
            raise Mismatch((path, f"must be an array of {len(elements)}, got {shown(value)}"))
        pairs = enumerate(zip(elements, value, strict=True))
        return tuple(_each((element, v, f"{path}[{n}]") for n, (element, v) in pairs))

    return read


def _object(arguments: tuple[Any, ...], where: str) -> Field:
    # The keys of an object are text; what they stand for is read from that.
    key = _field(arguments[0] if arguments else Any, where)
    element = _field(arguments[1] if arguments else Any, where)

    def read(value: Any, path: str) -> Any:
        if type(value) is not dict:
            raise Mismatch((path, f"must be an object, got {shown(value)}"))
        keys = _each((key, name, f"{path}.{name}") for name in value)
        return dict(
            zip(keys, _each((element, v, f"{path}.{n}") for n, v in value.items()), strict=True)
        )

    return read
