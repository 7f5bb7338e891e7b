"""A component's own configuration: from a plain dict to what ``configure`` gets.

Models are looked at by what they can do, not by their class: pydantic is not needed unless a
component uses it. Dataclasses and Structs are read as payloads are, by their annotations.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from tiebeam._convert import is_model, reader
from tiebeam._core import ConfigStore
from tiebeam._mismatch import Mismatch

__all__ = ["Problem", "build"]


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a component's configuration."""

    path: str
    """Below the component's section, dotted."""
    message: str


def build(component: Any, value: Mapping[str, Any], *, strict: bool) -> tuple[Any, list[Problem]]:
    """The configuration as the component wants it, and everything that is wrong with it."""
    model, schema = component.Config, component.config_schema
    if model is None and schema is None:
        return dict(value), []
    if model is None:
        found = ConfigStore.check_schema(schema, dict(value))
        return dict(value), [Problem(_dotted(pointer), message) for pointer, message in found]
    known = _fields(model)
    problems = _unknown(value, known) if strict and known and not _takes_extra(model) else []
    try:
        return _make(model, value, known), problems
    except Mismatch as mismatch:
        return None, problems + [_told(path, rule) for path, rule in mismatch.problems]
    except Exception as error:
        return None, problems + _explain(error, value)


def _make(model: Any, value: Mapping[str, Any], known: set[str]) -> Any:
    if hasattr(model, "model_validate"):
        return model.model_validate(dict(value))
    if is_model(model):
        try:
            read = reader(model)
        except (TypeError, NameError):
            # Of what no file holds, or of names that are known where it was written alone: its
            # own constructor knows what to do with it.
            pass
        else:
            return read(dict(value))
    return model(**{key: item for key, item in value.items() if not known or key in known})


def _told(path: str, rule: str) -> Problem:
    """What a reader found, without the value where that is a secret."""
    below = path.partition(".")[2].replace("[", ".").replace("]", "")
    if ConfigStore.redact(below, "shown") != "shown":
        rule = rule.partition(", got ")[0]
    return Problem(below, rule)


def _fields(model: Any) -> set[str]:
    if hasattr(model, "model_fields"):
        names = set(model.model_fields)
        return names | {f.alias for f in model.model_fields.values() if f.alias}
    if dataclasses.is_dataclass(model):
        return {field.name for field in dataclasses.fields(model)}
    return set(getattr(model, "__struct_fields__", ()))


def _takes_extra(model: Any) -> bool:
    # pydantic's "forbid" reports unknown keys itself, and "allow" wants them.
    return getattr(model, "model_config", {}).get("extra") in ("allow", "forbid")


def _unknown(value: Mapping[str, Any], known: set[str]) -> list[Problem]:
    problems = []
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = (
                f", did you mean `{near[0]}`?" if near else f"; known: {', '.join(sorted(known))}"
            )
            problems.append(Problem(str(key), f"unknown key `{key}`{hint}"))
    return problems


def _explain(error: Exception, value: Mapping[str, Any]) -> list[Problem]:
    """One problem per place, where the model lists them (pydantic does)."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return [Problem("", f"{type(error).__name__}: {error}")]
    messages: dict[str, list[str]] = {}
    for found in errors(include_url=False, include_input=False):
        messages.setdefault(_path_in(value, found), []).append(found["msg"])
    return [Problem(path, ", or: ".join(said)) for path, said in messages.items()]


def _path_in(value: Any, found: Mapping[str, Any]) -> str:
    """Where a violation is in what was given: pydantic adds the branches of a union to it."""
    path: list[str] = []
    for part in found["loc"]:
        try:
            value = value[part]
        except (LookupError, TypeError):
            if found["type"] == "missing":
                path.append(str(part))
            break
        path.append(str(part))
    return ".".join(path)


def _dotted(pointer: str) -> str:
    return pointer.strip("/").replace("/", ".")
