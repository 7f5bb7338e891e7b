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
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any
from uuid import UUID

__all__ = ["Mismatch", "Reader", "is_model", "reader", "short_name"]

Reader = Callable[[Any], Any]
Field = Callable[[Any, str], Any]


class Mismatch(Exception):
    """What is wrong with a payload: pairs of path and rule."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        super().__init__("; ".join(f"{path}: {rule}" for path, rule in problems))
        self.problems = problems


def is_model(kind: object) -> bool:
    """Whether instances of ``kind`` can be read from payloads: a dataclass, a pydantic model, or
    a msgspec ``Struct``."""
    return isinstance(kind, type) and (
        dataclasses.is_dataclass(kind)
        or hasattr(kind, "__struct_fields__")
        or hasattr(kind, "model_validate")
    )


def short_name(named: Any) -> str:
    """What a class or function is called where it was written: without the functions around."""
    return str(getattr(named, "__qualname__", named)).rpartition("<locals>.")[2]


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
            return _pydantic(kind)
        if hasattr(kind, "__struct_fields__"):
            return _struct(kind)
        if dataclasses.is_dataclass(kind):
            return _dataclass(kind)
    raise TypeError(
        f"{where}: a payload cannot be read into {kind!r}; use a JSON type, a date or time, "
        "Decimal, UUID, an Enum, a dataclass, a pydantic model or a msgspec Struct"
    )


# -- values -------------------------------------------------------------------------------


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _exact(name: str, *kinds: type) -> Field:
    def read(value: Any, path: str) -> Any:
        if type(value) in kinds:
            return value
        raise Mismatch((path, f"must be {name}, got {_shown(value)}"))

    return read


def _float(value: Any, path: str) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    raise Mismatch((path, f"must be a number, got {_shown(value)}"))


def _text_form(name: str, make: Callable[[str], Any]) -> Field:
    def read(value: Any, path: str) -> Any:
        if type(value) is str:
            try:
                return make(value)
            except (ValueError, InvalidOperation):
                pass
        raise Mismatch((path, f"must be {name}, got {_shown(value)}"))

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
    raise Mismatch((path, f"must be a decimal as text, got {_shown(value)}{hint}"))


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
}


def _literal(allowed: tuple[Any, ...]) -> Field:
    def read(value: Any, path: str) -> Any:
        for one in allowed:
            if type(one) is type(value) and one == value:
                return one
        raise Mismatch((path, f"must be {' or '.join(map(repr, allowed))}, got {_shown(value)}"))

    return read


def _enum(kind: type[Enum]) -> Field:
    members = {(type(member.value), member.value): member for member in kind}

    def read(value: Any, path: str) -> Any:
        try:
            return members[type(value), value]
        except (KeyError, TypeError):
            known = ", ".join(repr(member.value) for member in kind)
            raise Mismatch((path, f"must be one of {known}, got {_shown(value)}")) from None

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
            raise Mismatch((path, f"must be an array, got {_shown(value)}"))
        return make(_each((element, v, f"{path}[{n}]") for n, v in enumerate(value)))

    return read


def _tuple(arguments: tuple[Any, ...], where: str) -> Field:
    if not arguments or (len(arguments) == 2 and arguments[1] is Ellipsis):
        return _array(tuple, arguments, where)
    elements = [_field(argument, where) for argument in arguments if argument != ()]

    def read(value: Any, path: str) -> Any:
        if type(value) is not list or len(value) != len(elements):
            raise Mismatch((path, f"must be an array of {len(elements)}, got {_shown(value)}"))
        pairs = enumerate(zip(elements, value, strict=True))
        return tuple(_each((element, v, f"{path}[{n}]") for n, (element, v) in pairs))

    return read


def _object(arguments: tuple[Any, ...], where: str) -> Field:
    # The keys of an object are text; what they stand for is read from that.
    key = _field(arguments[0] if arguments else Any, where)
    element = _field(arguments[1] if arguments else Any, where)

    def read(value: Any, path: str) -> Any:
        if type(value) is not dict:
            raise Mismatch((path, f"must be an object, got {_shown(value)}"))
        keys = _each((key, name, f"{path}.{name}") for name in value)
        return dict(
            zip(keys, _each((element, v, f"{path}.{n}") for n, v in value.items()), strict=True)
        )

    return read


# -- classes ------------------------------------------------------------------------------


def _dataclass(kind: Any) -> Field:
    known = _READERS.get(kind)
    if known is not None:
        return lambda value, path: known[0](value, path)  # a class may hold itself
    slot: list[Field] = []
    _READERS[kind] = slot
    try:
        slot.append(_make_dataclass(kind))
    finally:
        del _READERS[kind]
    return slot[0]


_READERS: dict[Any, list[Field]] = {}
"""The classes whose readers are being made."""


def _make_dataclass(kind: Any) -> Field:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields: dict[str, tuple[Field, bool]] = {}
    for field in dataclasses.fields(kind):
        if field.init:
            needed = (
                field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            )
            where = f"{short_name(kind)}.{field.name}"
            fields[field.name] = (_field(hints[field.name], where), needed)

    def read(value: Any, path: str) -> Any:
        if type(value) is not dict:
            raise Mismatch((path, f"must be an object, got {_shown(value)}"))
        given: dict[str, Any] = {}
        problems: list[tuple[str, str]] = []
        for name, (field, needed) in fields.items():
            if name in value:
                try:
                    given[name] = field(value[name], f"{path}.{name}")
                except Mismatch as mismatch:
                    problems += mismatch.problems
            elif needed:
                problems.append((f"{path}.{name}", "is missing"))
        if problems:
            raise Mismatch(*problems)
        try:
            return kind(**given)
        except (ValueError, TypeError, ArithmeticError) as error:  # its own __post_init__
            raise Mismatch((path, f"{type(error).__name__}: {error}")) from error

    return read


def _pydantic(kind: Any) -> Field:
    strict = bool(kind.model_config.get("strict"))
    aliases = {
        name: field.validation_alias
        for name, field in kind.model_fields.items()
        if isinstance(field.validation_alias, str)
    }

    def read(value: Any, path: str) -> Any:
        # A payload bears the names of the fields: it was made by `model_dump`.
        value = _renamed(value, aliases)
        try:
            if strict:  # strict about JSON, which is what the value was made of
                import json

                return kind.model_validate_json(json.dumps(value))
            return kind.model_validate(value)
        except ValueError as error:
            errors = getattr(error, "errors", None)
            if not callable(errors):
                raise Mismatch((path, f"{type(error).__name__}: {error}")) from error
            found = errors(include_url=False, include_context=False, include_input=False)
            raise Mismatch(*((_place(path, one["loc"]), one["msg"]) for one in found)) from error

    return read


def _struct(kind: Any) -> Field:
    import msgspec

    aliases = {
        name: encoded
        for name, encoded in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
        if name != encoded
    }

    def read(value: Any, path: str) -> Any:
        try:
            return msgspec.convert(_renamed(value, aliases), kind)
        except msgspec.ValidationError as error:
            rule, _, place = str(error).partition(" - at `$")
            raise Mismatch((path + place.rstrip("`"), rule)) from error

    return read


def _renamed(value: Any, aliases: Mapping[str, str]) -> Any:
    if not aliases or type(value) is not dict:
        return value
    return {
        aliases[name] if name in aliases and aliases[name] not in value else name: item
        for name, item in value.items()
    }


def _place(path: str, parts: tuple[Any, ...]) -> str:
    return path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
