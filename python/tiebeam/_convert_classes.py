"""Readers of classes: dataclasses, pydantic models, msgspec Structs."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any

from tiebeam._mismatch import Field, Mismatch, short_name, shown
from tiebeam.secret import Secret

__all__ = ["dataclass", "pydantic", "struct"]


def dataclass(kind: Any, field_of: Callable[[Any, str], Field]) -> Field:
    """The reader for a dataclass; ``field_of`` makes those of its fields."""
    known = _READERS.get(kind)
    if known is not None:
        return lambda value, path: known[0](value, path)  # a class may hold itself
    slot: list[Field] = []
    _READERS[kind] = slot
    try:
        slot.append(_make_dataclass(kind, field_of))
    finally:
        del _READERS[kind]
    return slot[0]


_READERS: dict[Any, list[Field]] = {}
"""The classes whose readers are being made."""


def _make_dataclass(kind: Any, field_of: Callable[[Any, str], Field]) -> Field:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields: dict[str, tuple[Field, bool]] = {}
    for field in dataclasses.fields(kind):
        if field.init:
            needed = (
                field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            )
            where = f"{short_name(kind)}.{field.name}"
            fields[field.name] = (field_of(hints[field.name], where), needed)

    def read(value: Any, path: str) -> Any:
        if type(value) is not dict:
            raise Mismatch((path, f"must be an object, got {shown(value)}"))
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


def pydantic(kind: Any) -> Field:
    """The reader for a pydantic model."""
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


def struct(kind: Any) -> Field:
    """The reader for a msgspec ``Struct``."""
    import msgspec

    aliases = {
        name: encoded
        for name, encoded in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
        if name != encoded
    }

    def read(value: Any, path: str) -> Any:
        try:
            return msgspec.convert(_renamed(value, aliases), kind, dec_hook=_hooked)
        except msgspec.ValidationError as error:
            rule, _, place = str(error).partition(" - at `$")
            raise Mismatch((path + place.rstrip("`"), rule)) from error

    return read


def _hooked(kind: type, value: Any) -> Any:
    """What msgspec does not know itself."""
    if kind is not Secret:
        raise NotImplementedError(f"there is no JSON form of {short_name(kind)}")
    if type(value) is not str:
        raise ValueError(f"must be a string, got {type(value).__name__}")
    return Secret(value)


def _renamed(value: Any, aliases: Mapping[str, str]) -> Any:
    if not aliases or type(value) is not dict:
        return value
    return {
        aliases[name] if name in aliases and aliases[name] not in value else name: item
        for name, item in value.items()
    }


def _place(path: str, parts: tuple[Any, ...]) -> str:
    return path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
