"""Policies by name: in the configuration, in code, around a component's methods."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus
from tiebeam import (
    CircuitOpen,
    Component,
    Configuration,
    ConfigurationError,
    Framework,
    Middleware,
    TransientError,
    subscribe,
)
from tiebeam.resilience import CircuitBreaker, Fallback, Pipeline, Retry, policy
from tiebeam.testing import TestFramework

Make = Callable[..., TestFramework]

EVERYTHING = {
    "timeout": 30,
    "retry": {
        "max_attempts": 4,
        "initial_delay": 50,
        "multiplier": 3.0,
        "max_delay": "2s",
        "jitter": "equal",
        "max_elapsed": 20,
        "budget": {"ratio": 0.5, "min_per_second": 3, "ttl": 20},
    },
    "hedge": {"delay": 0.5, "max_hedges": 2},
    "circuit_breaker": {"threshold": 7, "of": 20, "reset_timeout": "1m", "probes": 2},
    "rate_limit": {"limit": 100, "period": 1, "max_wait": 2},
    "bulkhead": {"max_concurrent": 3, "max_waiting": 5, "max_wait": 1},
    "attempt_timeout": "500ms",
}


def of(section: dict[str, Any]) -> dict[str, Any]:
    return {"error_handling": {"policies": {"exchange": section}}}


class Caller(Component):
    """Calls what fails a few times."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.calls = 0

    @policy("exchange")
    async def fetch(self, symbol: str) -> str:
        return self.call(symbol)

    @policy("exchange")
    def fetch_sync(self, symbol: str) -> str:
        return self.call(symbol)

    def call(self, symbol: str) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise TransientError("the exchange is away")
        return symbol.lower()


async def test_every_stage_stands_where_it_belongs(tiebeam_framework: Make) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        framework = tiebeam_framework(of(EVERYTHING), components=[Caller])
    assert str(framework.policies["exchange"]) == (
        "<Pipeline 'exchange': total timeout > retry > hedge > circuit breaker > rate limiter > "
        "bulkhead > attempt timeout>"
    )
    breaker: Any = framework.policies["exchange"].find(CircuitBreaker)
    assert breaker.name == "exchange"
    async with framework:
        assert await framework.get(Caller).fetch("BTC") == "btc"


@pytest.mark.parametrize(
    "section",
    [
        {"timeout": 10, "circuit_breaker": {}},
        {"timeout": 10, "bulkhead": {"max_concurrent": 1}},
        {"timeout": 10, "attempt_timeout": 1},
        {"retry": None},
        {"circuit_breaker": {}, "attempt_timeout": 1},
    ],
)
def test_no_section_makes_an_order_that_is_warned_of(
    tiebeam_framework: Make, section: dict[str, Any]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        framework = tiebeam_framework(of(section), components=[Caller])
    assert len(framework.policies["exchange"].stages) == len(section)


async def test_a_method_is_tried_again_by_its_policy(tiebeam_framework: Make) -> None:
    section = {"retry": {"initial_delay": 100}, "circuit_breaker": {"threshold": 5}}
    caller = Caller(failures=2)
    async with tiebeam_framework(of(section), components=[caller]) as framework:
        assert await caller.fetch("BTC") == "btc"
        assert caller.calls == 3
        caller.calls = 0
        assert caller.fetch_sync("BTC") == "btc"
        await framework.settle()
        (scheduled, *_) = framework.published("system.retry.scheduled")
        assert scheduled.payload["policy"] == "exchange"
        assert scheduled.payload["attempt"] == 2
        assert scheduled.payload["error"] == "TransientError: the exchange is away"


async def test_policies_of_code_stand_beside_and_before_those_of_the_configuration(
    tiebeam_framework: Make,
) -> None:
    caller = Caller(failures=100)
    own = Pipeline(Fallback(value="none", on=CircuitOpen), CircuitBreaker("binance", threshold=1))
    policies = {"exchange": own, "news": Retry()}
    async with tiebeam_framework(
        of({"retry": {}}), components=[caller], policies=policies
    ) as framework:
        assert sorted(framework.policies) == ["exchange", "news"]
        with pytest.raises(TransientError):
            await caller.fetch("BTC")
        assert await caller.fetch("BTC") == "none"
        await framework.settle()
        (opened,) = framework.published("system.circuit_breaker.open")
        # By the name of the policy, whatever its stages are called.
        assert opened.payload["policy"] == "exchange"
        assert (opened.payload["from"], opened.payload["state"]) == ("closed", "open")
        assert opened.payload["subscription"] is None


async def test_many_decisions_of_one_kind_are_one_event_a_second(
    tiebeam_framework: Make,
) -> None:
    policies = {"exchange": CircuitBreaker("exchange", threshold=1)}
    caller = Caller(failures=1)
    async with tiebeam_framework(components=[caller], policies=policies) as framework:
        with pytest.raises(TransientError):
            await caller.fetch("BTC")
        for _ in range(2):
            for _ in range(50):
                with pytest.raises(CircuitOpen):
                    await caller.fetch("BTC")
            await framework.advance(1)
        told = framework.published("system.circuit_breaker.rejected")
        assert [event.payload.get("omitted") for event in told] == [None, 49]


async def test_a_listener_that_is_full_does_not_fail_a_call(
    tiebeam_framework: Make, unraisable: list[BaseException]
) -> None:
    class Slow(Component):
        @subscribe("system.circuit_breaker.#", capacity=1, overflow="fail")
        async def on_change(self, event: Any) -> None: ...

    breaker = CircuitBreaker("exchange")
    async with tiebeam_framework(components=[Slow], policies={"exchange": breaker}) as framework:
        for _ in range(10):
            breaker.force("forced_open")
            breaker.force("closed")
        await framework.settle()
    assert unraisable == []


async def test_what_is_decided_does_not_go_through_the_middleware_of_users(
    tiebeam_framework: Make,
) -> None:
    seen: list[str] = []

    class Sees(Middleware):
        """Publishes through a policy itself, which would come back here without end."""

        def on_publish(
            self, call_next: Callable[..., Any], event_type: str, payload: Any, /, **options: Any
        ) -> Any:
            seen.append(event_type)
            with contextlib.suppress(CircuitOpen):
                framework.policies["exchange"].call(str)
            return call_next(event_type, payload, **options)

    breaker = CircuitBreaker("exchange")
    framework = tiebeam_framework(middleware=[Sees()], policies={"exchange": breaker})
    async with framework:
        breaker.force("forced_open")
        await framework.bus.publish("user.joined", {})
        await framework.configure({"event_bus.batch_size": 50})
        await framework.settle()
        assert [event.payload["state"] for event in framework.published("system.circuit_breaker.#")]
        assert framework.published("system.configuration.changed")
    assert seen == ["user.joined"]


async def test_breakers_of_policies_are_in_the_metrics(tiebeam_framework: Make) -> None:
    family = "tiebeam_policy_circuit_breaker_state"
    shared = CircuitBreaker("binance")
    policies = {
        "orders": Pipeline(Retry(), shared),
        "prices": shared,
        "twice": Pipeline(CircuitBreaker("same"), CircuitBreaker("same")),
        "none": Retry(),
    }
    section = of({"circuit_breaker": {"threshold": 1}})

    def states(framework: TestFramework, openmetrics: bool) -> dict[tuple[str, str], str]:
        parse = parse_openmetrics if openmetrics else parse_prometheus
        families = list(parse(framework.metrics(openmetrics=openmetrics)))
        (found,) = (one for one in families if one.name == family)
        labels = [tuple(sorted(sample.labels.items())) for sample in found.samples]
        assert len(labels) == len(set(labels)), "each series once"
        return {
            (sample.labels["policy"], sample.labels["name"]): sample.labels[family]
            for sample in found.samples
            if sample.value == 1
        }

    async with tiebeam_framework(section, policies=policies) as framework:
        every = {
            ("exchange", framework.policies["exchange"].find(CircuitBreaker).name): "closed",  # type: ignore[union-attr]
            ("orders", "binance"): "closed",
            ("prices", "binance"): "closed",
            ("twice", "same"): "closed",
        }
        for openmetrics in (True, False):
            assert states(framework, openmetrics) == every
        shared.force("open")
        twice = framework.policies["twice"].stages[1]
        assert isinstance(twice, CircuitBreaker)
        twice.force("forced_open")
        opened = dict.fromkeys([("orders", "binance"), ("prices", "binance")], "open")
        changed = {**every, **opened, ("twice", "same"): "forced_open"}
        for openmetrics in (True, False):
            assert states(framework, openmetrics) == changed


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"retry": {"max_atempts": 3}}, "did you mean `.*exchange.retry.max_attempts`"),
        ({"circuit_breker": {}}, "did you mean `error_handling.policies.exchange.circuit_breaker`"),
        ({"retry": {"initial_delay": -1}}, "retry.initial_delay: must be >= 0"),
        ({"retry": 3}, "exchange.retry: must be a map"),
        ([1], "exchange: must be a map"),
        ({"timeout": 0}, "timeout: must be > 0"),
        ({"circuit_breaker": {"on_probe_timeout": "shut"}}, "must be one of open, closed"),
    ],
)
def test_mistakes_are_found_where_they_stand(section: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Configuration(values=of(section), environ={})


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"hedge": {}}, "hedge: `delay` is missing"),
        ({"rate_limit": {}}, "rate_limit: `limit` is missing"),
        ({"bulkhead": {}}, "bulkhead: `max_concurrent` is missing"),
        (
            {"circuit_breaker": {"threshold": 3, "failure_rate": 50}},
            "circuit_breaker: .*`threshold` counts failures",
        ),
        (
            {"timeout": 1, "attempt_timeout": 2},
            "attempt_timeout: .*inner timeout of 2 s cannot pass",
        ),
        ({"retry": {"budget": {"ttl": 100}}}, "retry.budget: budget `ttl` must be 1 to 60 s"),
    ],
)
def test_what_does_not_go_together_names_the_policy(section: Any, said: str) -> None:
    configuration = Configuration(values=of(section), environ={})
    with pytest.raises(ConfigurationError, match=f"error_handling.policies.exchange.{said}"):
        Framework(configuration, components=[Caller])


def test_all_that_does_not_go_together_is_said_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "system.yaml"
    path.write_text(
        "error_handling:\n"
        "  policies:\n"
        "    exchange:\n"
        "      hedge: {max_hedges: 2}\n"
        "      circuit_breaker: {threshold: 10, of: 5}\n"
        "    news:\n"
        "      bulkhead: {max_waiting: 2}\n"
    )
    with pytest.raises(ConfigurationError) as refused:
        Framework(Configuration(path, environ={}), components=[Caller])
    root = "error_handling.policies"
    assert str(refused.value).splitlines() == [
        "3 problems in the configuration:",
        f"{path}:4: {root}.exchange.hedge: `delay` is missing",
        f"{path}:5: {root}.exchange.circuit_breaker: `threshold` must be at least 1 and at most"
        " `of`",
        f"{path}:7: {root}.news.bulkhead: `max_concurrent` is missing",
    ]


def test_unknown_keys_lead_nowhere_where_they_are_allowed() -> None:
    values = of({"retry": {"tries": 3, "max_attempts": 2}, "chaos": {"rate": 1}})
    values["configuration"] = {"validation_strict": False}
    configuration = Configuration(values=values, environ={})
    assert any("tries" in warning for warning in configuration.warnings)
    framework = Framework(configuration, components=[Caller])
    assert "max_attempts=2" in str(framework.policies["exchange"].stages)


def test_the_environment_knows_their_types() -> None:
    environ = {
        "TIEBEAM_ERROR_HANDLING__POLICIES__EXCHANGE__RETRY__MAX_ATTEMPTS": "7",
        "TIEBEAM_ERROR_HANDLING__POLICIES__EXCHANGE__TIMEOUT": "2m",
    }
    configuration = Configuration(values=of({"retry": {}}), environ=environ)
    framework = Framework(configuration, components=[Caller])
    timeout, retry = framework.policies["exchange"].stages
    assert "max_attempts=7" in str(retry)
    assert "120 s" in str(timeout)


async def test_a_name_that_there_is_not_is_said(tiebeam_framework: Make) -> None:
    caller = Caller()
    values = {"error_handling": {"policies": {"exchanges": {"retry": {}}}}}
    async with tiebeam_framework(values, components=[caller]) as framework:
        with pytest.raises(ConfigurationError, match="did you mean `exchanges`"):
            await caller.fetch("BTC")
        assert "news" not in framework.policies
    with pytest.raises(TypeError, match="generator function"):

        @policy("exchange")
        def prices(self: Any) -> Any:
            yield 1


async def test_a_change_at_run_time_says_when_it_takes_effect(
    tiebeam_framework: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async with tiebeam_framework(of({"timeout": 10}), components=[Caller]) as framework:
        with caplog.at_level(logging.WARNING):
            await framework.configure({"error_handling.policies.exchange.timeout": 1})
    assert "error_handling.policies.exchange.timeout: what is called" in caplog.text
