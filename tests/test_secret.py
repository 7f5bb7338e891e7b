"""Text that is not shown by accident."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel
from tiebeam import Component, ConfigurationError, EventBus, PayloadError, Secret
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]

CANARY = "s3cret-canary"


def test_it_is_masked_wherever_it_is_printed(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(CANARY)
    logging.getLogger("it").warning("%s %r %s", secret, secret, {"password": secret})
    shown = [str(secret), repr(secret), f"{secret:>12}", repr([secret]), caplog.text]
    assert not any(CANARY in text for text in shown)
    assert shown[0] == "**********"
    assert str(Secret("")) == ""
    assert secret.reveal() == CANARY


def test_it_is_compared_and_hashed_as_its_text() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), "a"}) == 2
    assert [bool(Secret("a")), bool(Secret(""))] == [True, False]


def test_it_stays_where_it_is() -> None:
    secret = Secret(CANARY)
    assert copy.copy(secret) is copy.deepcopy(secret) is secret
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
    with EventBus() as bus, pytest.raises(PayloadError) as caught:
        bus.publish("a.b", {"password": secret})
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_it_is_made_of_text() -> None:
    with pytest.raises(TypeError, match="not of int") as caught:
        Secret(4711)  # type: ignore[arg-type]
    assert "4711" not in str(caught.value)


@dataclass
class Plain:
    """Where a secret may stand."""

    password: Secret


class Modelled(BaseModel):
    """Where a secret may stand."""

    password: Secret


class Packed(msgspec.Struct):
    """Where a secret may stand."""

    password: Secret


@pytest.mark.parametrize("model", [Plain, Modelled, Packed])
async def test_a_component_is_configured_with_one(model: Any, tiebeam_framework: Make) -> None:
    class Feed(Component):
        Config = model

    values = {"components": {"feed": {"password": CANARY}}}
    async with tiebeam_framework(values, components=[Feed]) as framework:
        config = framework.get(Feed).config
        assert config.password == Secret(CANARY)
        assert CANARY not in repr(config)
        assert CANARY not in repr(framework.configuration.as_dict())
    with pytest.raises(ConfigurationError, match=r"components\.feed\.password: .*string") as caught:
        tiebeam_framework({"components": {"feed": {"password": [CANARY]}}}, components=[Feed])
    assert CANARY not in str(caught.value)


def test_a_model_of_pydantics_own_writes_it_masked() -> None:
    made = Modelled.model_validate_json(json.dumps({"password": CANARY}))
    assert made == Modelled(password=Secret(CANARY))
    assert CANARY not in made.model_dump_json() + repr(made.model_dump())
