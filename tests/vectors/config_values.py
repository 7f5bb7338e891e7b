"""What a source's text means: types, durations, references, secrets, and messages about them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel
from tiebeam import Component, Configuration, ConfigurationError, Secret, check, subscribe
from tiebeam.testing import TestFramework
from tiebeam.testing import run as in_virtual_time

from vectors.cases import Areas, Case
from vectors.stance import compare, settle

__all__ = ["AREAS", "configured", "part_of"]

PART = "part"
"""A component's own section takes any keys."""


def configured(section: Any = None, environ: dict[str, str] | None = None) -> Configuration:
    """The configuration of one component, whose own section is given."""
    values = {"components": {PART: section or {}}}
    return Configuration(values=values, components=[PART], environ=environ or {})


def part_of(configuration: Configuration) -> Any:
    """What the component would be given."""
    return configuration[f"components.{PART}"]


def run_env_value(case: Case) -> None:
    differences: list[str] = []
    for text, value in case["table"]:
        found = configured(environ={"TIEBEAM_COMPONENTS__PART__V": text})
        actual = found[f"components.{PART}.v"]
        # json: a number is no flag.
        differences += compare(repr(text), json.dumps(actual), json.dumps(value))
    settle(case, differences)


def run_lossy_bool(case: Case) -> None:
    differences: list[str] = []
    for given, flag in case["table"]:
        found = Configuration(environ={"TIEBEAM_HEALTH__HTTP__ENABLED": str(given)})
        differences += compare(repr(given), found["health.http.enabled"], flag)
    settle(case, differences)


def run_error(case: Case) -> None:
    """The list that the product's own configuration has is one of names."""
    assert case["canonical_error_mentions"] == ["APP_SUB__L", "sub.l", "3,4", "list"]
    (text,) = case["env"].values()
    name, path = "TIEBEAM_SERVICE_REGISTRY__INITIALIZATION_ORDER", "initialization_order"
    with pytest.raises(ConfigurationError) as caught:
        Configuration(environ={name: text})
    said = str(caught.value)
    missing = [word for word in (name, path, text, "list") if word not in said]
    settle(case, [f"{said!r} lacks {word!r}" for word in missing], canonical=True)


def run_empty_env(case: Case) -> None:
    assert list(case["env"].values()) == [""]
    found = Configuration(environ={"TIEBEAM_EVENT_BUS__BATCH_SIZE": ""})["event_bus.batch_size"]
    unset = Configuration(environ={})["event_bus.batch_size"]
    settle(case, compare("an empty number", found, unset), canonical=True)


def run_duration(case: Case) -> None:
    differences: list[str] = []
    for text, unit, seconds in case["table"]:
        take = {"s": _interval, "ms": _delay}[unit]
        differences += compare(f"{text} ({unit})", in_virtual_time(take(text)), seconds)
    settle(case, differences)


async def _interval(text: str) -> float:
    """How long a key in seconds has a check wait for its next run."""
    probed = Probed()
    async with TestFramework({"health": {"check_interval": text}}, components=[probed]) as it:
        await it.advance(2 * 86_400)
    before, last = probed.runs[-2:]
    return last - before


class Probed(Component):
    """When its check runs, and when its handler, which fails."""

    def __init__(self) -> None:
        self.runs: list[float] = []
        self.attempts: list[float] = []

    @check(kind="dependency")
    async def probe(self) -> None:
        self.runs.append(asyncio.get_running_loop().time())

    @subscribe("tick")
    async def on_tick(self, event: Any) -> None:
        self.attempts.append(asyncio.get_running_loop().time())
        raise ConnectionError("again")


async def _delay(text: str) -> float:
    """How long a key in milliseconds has an event wait for its second attempt."""
    probed = Probed()
    retry = {"initial_delay": text, "max_delay": "2d", "max_attempts": 2, "jitter": "none"}
    values = {"error_handling": {"retry": retry}, "health": {"check_interval": "1d"}}
    async with TestFramework(values, components=[probed]) as framework:
        await framework.bus.publish("tick")
        await framework.advance(2 * 86_400)
    first, second = probed.attempts
    return second - first


def run_interpolation(case: Case) -> None:
    differences: list[str] = []
    for text, value in case["table"]:
        try:
            found = part_of(configured({"v": text}, environ=case["env"]))["v"]
        except ConfigurationError as error:
            found = str(error)
        differences += compare(text, found, value)
    settle(case, differences)


def run_redaction_keys(case: Case) -> None:
    differences: list[str] = []
    for path, sensitive in case["table"]:
        tree: Any = "canary"
        for key in reversed(path.split(".")):
            tree = {key: tree}
        shown = json.dumps(configured(tree).as_dict())
        differences += compare(path, "canary" not in shown, sensitive)
    settle(case, differences)


def run_redaction_url(case: Case) -> None:
    differences: list[str] = []
    for value, shown in case["table"]:
        found = configured({"address": value}).as_dict()["components"][PART]["address"]
        differences += compare(value, found, shown)
    settle(case, differences)


def run_redaction(case: Case) -> None:
    text = case["value"]
    secret = Secret(text)
    shown = {
        "repr": repr(secret),
        "str": str(secret),
        "json": _Model(value=secret).model_dump_json(),
    }
    differences: list[str] = []
    for how, what in shown.items():
        if text in what or case["expect"][how] not in what:
            differences.append(f"its {how} is {what!r}")
    settle(case, differences + compare("the text", secret.reveal(), case["expect"]["reveal"]))


class _Model(BaseModel):
    value: Secret


AREAS: Areas = {
    "config_duration": run_duration,
    "config_empty_env": run_empty_env,
    "config_env_value": run_env_value,
    "config_error": run_error,
    "config_interpolation": run_interpolation,
    "config_lossy_bool": run_lossy_bool,
    "config_redaction": run_redaction,
    "config_redaction_keys": run_redaction_keys,
    "config_redaction_url": run_redaction_url,
}
