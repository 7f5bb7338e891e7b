"""Payloads: every documented encoding, every refusal with its path, and the limits."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import gc
import json
import math
import os
import pickle
import subprocess
import sys
import types
import uuid
import weakref
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiebeam import Event, EventBus
from tiebeam.exceptions import PayloadError, TiebeamError


def through(payload: Any) -> Any:
    """What a handler sees of ``payload``."""
    return Event("test.payload", payload).payload


class Colour(enum.Enum):
    RED = "red"
    NESTED = ("a", 1)


class Text(str, enum.Enum):
    A = "a"


class Level(enum.IntEnum):
    HIGH = 3


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Order:
    symbol: str
    price: decimal.Decimal
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    a: int


@dataclasses.dataclass
class WithOthers:
    event_type: ClassVar[str] = "a.b"
    unit: dataclasses.InitVar[str]
    a: int = 1
    made: str = dataclasses.field(init=False)

    def __post_init__(self, unit: str) -> None:
        self.made = unit


class Model(pydantic.BaseModel):
    when: dt.datetime
    price: decimal.Decimal
    colour: Colour
    inner: Order | None = None


class Struct(msgspec.Struct):
    a: int
    when: dt.date


class MyStr(str):
    __slots__ = ()


class MyInt(int):
    pass


class MyFloat(float):
    pass


WHEN = dt.datetime(2026, 11, 23, 4, 5, 6, 789, tzinfo=dt.timezone.utc)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")

ENCODINGS: list[tuple[str, Any, Any]] = [
    ("true", True, True),
    ("false", False, False),
    ("zero", 0, 0),
    ("i64 min", -(2**63), -(2**63)),
    ("i64 max", 2**63 - 1, 2**63 - 1),
    ("u64 max", 2**64 - 1, 2**64 - 1),
    ("float", 0.1, 0.1),
    ("float min", 5e-324, 5e-324),
    ("float max", sys.float_info.max, sys.float_info.max),
    ("minus zero", -0.0, -0.0),
    ("text", "grüße 🦀 \0 \n", "grüße 🦀 \0 \n"),
    ("empty text", "", ""),
    ("empty dict", {}, {}),
    ("empty list", [], []),
    ("empty key", {"": 1}, {"": 1}),
    ("nested", {"a": [1, {"b": [None, True]}]}, {"a": [1, {"b": [None, True]}]}),
    ("tuple", (1, (2, 3)), [1, [2, 3]]),
    ("namedtuple", Point(1, 2), [1, 2]),
    ("datetime", WHEN, "2026-11-23T04:05:06.000789+00:00"),
    ("naive datetime", WHEN.replace(tzinfo=None), "2026-11-23T04:05:06.000789"),
    ("date", dt.date(2026, 11, 23), "2026-11-23"),
    ("decimal", decimal.Decimal("1.10"), "1.10"),
    ("uuid", ID, str(ID)),
    ("enum", Colour.RED, "red"),
    ("enum of a tuple", Colour.NESTED, ["a", 1]),
    ("str enum", Text.A, "a"),
    ("int enum", Level.HIGH, 3),
    ("int flag", Flags.A | Flags.B, 3),
    (
        "dataclass",
        Order("X", decimal.Decimal(1), ["t"]),
        {"symbol": "X", "price": "1", "tags": ["t"]},
    ),
    ("dataclass with slots", Slotted(1), {"a": 1}),
    ("dataclass with what is no field", WithOthers("cm"), {"a": 1, "made": "cm"}),
    (
        "pydantic model",
        Model(
            when=WHEN,
            price=decimal.Decimal("2.50"),
            colour=Colour.RED,
            inner=Order("X", decimal.Decimal(1)),
        ),
        {
            "when": "2026-11-23T04:05:06.000789+00:00",
            "price": "2.50",
            "colour": "red",
            "inner": {"symbol": "X", "price": "1", "tags": []},
        },
    ),
    ("msgspec struct", Struct(1, dt.date(2026, 1, 2)), {"a": 1, "when": "2026-01-02"}),
    ("str subclass", MyStr("s"), "s"),
    ("int subclass", MyInt(7), 7),
    ("float subclass", MyFloat(1.5), 1.5),
    ("key of a str subclass", {MyStr("k"): 1}, {"k": 1}),
    ("key of a str enum", {Text.A: 1}, {"a": 1}),
    ("ordered dict", collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    ("default dict", collections.defaultdict(int, a=1), {"a": 1}),
    ("counter", collections.Counter("aab"), {"a": 2, "b": 1}),
    ("mapping proxy", types.MappingProxyType({"a": 1}), {"a": 1}),
    ("chain map", collections.ChainMap({"a": 1}, {"b": 2}), {"b": 2, "a": 1}),
    ("numpy int", np.int64(-5), -5),
    ("numpy uint", np.uint64(2**64 - 1), 2**64 - 1),
    ("numpy small int", np.int8(3), 3),
    ("numpy float64", np.float64(0.1), 0.1),
    ("numpy float32", np.float32(0.5), 0.5),
    ("numpy bool", np.bool_(True), True),
    ("numpy str", np.str_("s"), "s"),
    ("numpy datetime64", np.datetime64("2026-11-23T04:05:06"), "2026-11-23T04:05:06"),
    (
        "pandas timestamp",
        pd.Timestamp("2026-11-23T04:05:06", tz="UTC"),
        "2026-11-23T04:05:06+00:00",
    ),
]


@pytest.mark.parametrize(
    ("given", "seen"), [case[1:] for case in ENCODINGS], ids=[c[0] for c in ENCODINGS]
)
def test_documented_encodings(given: Any, seen: Any) -> None:
    for wrapped, expected in ((given, seen), ({"v": [given]}, {"v": [seen]})):
        found = through(wrapped)
        assert found == expected
        assert repr(found) == repr(expected)  # tells True from 1 and -0.0 from 0.0


def test_no_payload_is_an_empty_one() -> None:
    assert Event("test.none").payload == {}
    assert Event("test.none", None).payload == {}
    assert through([None]) == [None]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="StrEnum is new in 3.11")
def test_str_enum_of_the_standard_library() -> None:
    member = enum.StrEnum("Side", {"BUY": "buy"}).BUY
    assert through({"side": member}) == {"side": "buy"}


def generator() -> Any:
    yield 1


REFUSALS: list[tuple[str, Any, str]] = [
    ("nan", math.nan, "not a JSON number"),
    ("infinity", math.inf, "not a JSON number"),
    ("minus infinity", -math.inf, "not a JSON number"),
    ("numpy nan", np.float64("nan"), "not a JSON number"),
    ("decimal nan", decimal.Decimal("NaN"), "is not a number"),
    ("decimal infinity", decimal.Decimal("-Infinity"), "is not a number"),
    ("numpy not-a-time", np.datetime64("NaT", "ns"), "NaT"),
    ("pandas not-a-time", pd.NaT, "NaT"),
    ("pandas NA", pd.NA, "NAType"),
    ("2**64", 2**64, "beyond 64 bits"),
    ("-2**63-1", -(2**63) - 1, "beyond 64 bits"),
    ("bytes", b"x", "base64"),
    ("bytearray", bytearray(b"x"), "base64"),
    ("memoryview", memoryview(b"x"), "base64"),
    ("set", {1}, "sorted"),
    ("frozenset", frozenset({1}), "sorted"),
    ("generator", generator(), "list(value)"),
    ("iterator", iter([1]), "list(value)"),
    ("range", range(3), "no JSON form"),
    ("complex", 1j, "value.real"),
    ("timedelta", dt.timedelta(1), "total_seconds"),
    ("numpy array", np.zeros((2, 2)), "tolist"),
    ("numpy complex", np.complex128(1j), "value.real"),
    ("numpy bytes", np.bytes_(b"x"), "base64"),
    ("pandas frame", pd.DataFrame({"a": [1]}), "no JSON form"),
    ("object", object(), "no JSON form"),
    ("a class", Order, "no JSON form"),
    ("a pydantic class", Model, "no JSON form"),
    ("an enum class", Colour, "no JSON form"),
    ("function", len, "no JSON form"),
    ("lone surrogate", "\ud800", "surrogate"),
    ("exception", ValueError("x"), "no JSON form"),
    ("time", dt.time(1), "no JSON form"),
]


@pytest.mark.parametrize(
    ("value", "says"), [case[1:] for case in REFUSALS], ids=[c[0] for c in REFUSALS]
)
def test_refusals_name_the_path(value: Any, says: str) -> None:
    for payload, path in (
        (value, "payload"),
        ({"orders": [0, {"price": value}]}, "payload.orders[1].price"),
    ):
        with pytest.raises(PayloadError) as caught:
            through(payload)
        assert caught.value.path == path
        assert says in str(caught.value)
        assert str(caught.value).startswith(path)


@pytest.mark.parametrize("key", [1, 1.5, None, True, ("a",), b"k", Level.HIGH])
def test_keys_are_strings(key: Any) -> None:
    with pytest.raises(PayloadError, match="JSON keys are strings") as caught:
        through({"a": {key: 1}})
    assert caught.value.path == f"payload.a[{key!r}]"


def test_a_key_with_a_lone_surrogate() -> None:
    with pytest.raises(PayloadError, match="surrogate") as caught:
        through({"a": {"\ud800": 1}})
    assert caught.value.path.startswith("payload.a[")


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_sixty_four_containers_pass_and_one_more_does_not() -> None:
    assert through(nested(64)) == nested(64)
    with pytest.raises(PayloadError, match="more than 64 nested containers"):
        through(nested(65))
    assert through(json.loads('{"a":' * 63 + "{}" + "}" * 63))
    with pytest.raises(PayloadError, match="more than 64 nested containers"):
        through(json.loads('{"a":' * 64 + "{}" + "}" * 64))


@pytest.mark.parametrize("leaf", [Text.A, WHEN, np.float64(1.0), MyStr("s"), decimal.Decimal(1)])
def test_what_is_no_container_does_not_count_as_one(leaf: Any) -> None:
    value: Any = leaf
    for _ in range(64):
        value = [value]
    assert through(value)


def test_a_converted_object_counts_once() -> None:
    value: Any = Slotted(1)
    for _ in range(63):
        value = [value]
    assert through(value)


def test_cycles_are_called_cycles() -> None:
    mine: dict[str, Any] = {}
    mine["me"] = [mine]
    with pytest.raises(PayloadError, match="contains itself"):
        through(mine)
    endless = Order("X", decimal.Decimal(1))
    endless.tags.append(endless)  # type: ignore[arg-type]
    with pytest.raises(PayloadError, match=r"contains itself|more than 64"):
        through({"o": endless})


def test_the_same_object_twice_is_no_cycle() -> None:
    shared = {"a": 1}
    assert through([shared, shared]) == [{"a": 1}, {"a": 1}]


def test_the_size_is_limited(bus: EventBus) -> None:
    bus.publish("test.size", {"text": "x" * (1024 * 1024 - 64)})
    with pytest.raises(PayloadError, match="1048576 bytes"):
        bus.publish("test.size", {"text": "x" * (1024 * 1024)})
    with pytest.raises(PayloadError, match="1048576 bytes"):
        bus.publish("test.size", "x" * (1024 * 1024))
    with pytest.raises(PayloadError, match="1048576 bytes"):
        bus.publish("test.size", [0] * (1024 * 1024))
    with EventBus(max_payload=100) as small:
        small.publish("test.size", "x" * 90)
        with pytest.raises(PayloadError, match="100 bytes"):
            small.publish("test.size", "x" * 100)


def test_metadata_is_limited_and_ours_is_not_theirs(bus: EventBus) -> None:
    bus.publish("test.metadata", metadata={"note": "x" * 8000})
    with pytest.raises(PayloadError, match="limit is 8192") as caught:
        bus.publish("test.metadata", metadata={"note": "x" * 8192})
    assert caught.value.path == "metadata"
    with pytest.raises(PayloadError) as caught:
        bus.publish("test.metadata", metadata={"a": {"b": math.nan}})
    assert caught.value.path == "metadata.a.b"
    for name in ("priority", "correlation_id", "retry_count", "reply_to"):
        with pytest.raises(ValueError, match=name):
            bus.publish("test.metadata", metadata={name: "x"})


class Rude:
    """Raises whatever it is asked."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        raise self.__dict__["error"]


@dataclasses.dataclass
class Broken:
    fine: int = 1
    field: Any = 2

    def __getattribute__(self, name: str) -> Any:
        if name == "field":
            raise RuntimeError("no value today")
        return super().__getattribute__(name)


class BrokenModel(pydantic.BaseModel):
    a: int = 1

    @pydantic.model_serializer
    def serialize(self) -> Any:
        raise RuntimeError("no value today")


class BrokenMapping(collections.abc.Mapping):  # type: ignore[type-arg]
    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("no value today")

    def __iter__(self) -> Any:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    "make", [Broken, BrokenModel, BrokenMapping, lambda: Rude(RuntimeError("no value today"))]
)
def test_objects_that_raise_are_refused_with_the_cause(make: Any) -> None:
    with pytest.raises(PayloadError) as caught:
        through({"a": [make()]})
    assert caught.value.path == "payload.a[0]"
    if caught.value.__cause__ is not None:
        assert "no value today" in str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupt_while_encoding_is_not_swallowed(error: BaseException) -> None:
    with pytest.raises(type(error)):
        through({"a": Rude(error)})


class BrokenRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __hash__ = object.__hash__


def test_a_key_without_a_repr() -> None:
    with pytest.raises(PayloadError) as caught:
        through({BrokenRepr(): 1})
    assert "BrokenRepr" in caught.value.path


def test_a_container_that_changes_while_it_is_encoded() -> None:
    target: dict[str, Any] = {}

    class Meddler(enum.Enum):
        A = 1

        @property
        def value(self) -> Any:
            target[f"more{len(target)}"] = 1
            return 1

    target.update(a=Meddler.A, b=2)
    with pytest.raises((PayloadError, RuntimeError)):
        through(target)
    items: list[Any] = []

    class Shrinker(enum.Enum):
        A = 1

        @property
        def value(self) -> Any:
            items.clear()
            return 1

    items.extend([Shrinker.A, 2, 3])
    assert through(items) == [1]


def test_a_payload_belongs_to_its_handler(bus: EventBus) -> None:
    seen: list[Any] = []

    def meddle(event: Event) -> None:
        event.payload["list"].append("mine")
        event.payload["new"] = True
        assert event.payload["new"] is True  # the same object each time it is asked for
        seen.append(event.payload)

    for _ in range(3):
        bus.subscribe("test.private", meddle)
    original = {"list": [1]}
    bus.publish("test.private", original)
    bus.drain_sync(10)
    assert seen == [{"list": [1, "mine"], "new": True}] * 3
    assert len({id(payload) for payload in seen}) == 3
    assert original == {"list": [1]}


def test_publish_takes_a_snapshot(bus: EventBus, gate: Any) -> None:
    seen = []
    bus.subscribe("test.snapshot", lambda event: (gate.pass_through(), seen.append(event.payload)))
    payload = {"a": [1]}
    bus.publish("test.snapshot", payload)
    payload["a"].append(2)
    gate.open()
    bus.drain_sync(10)
    assert seen == [{"a": [1]}]


def test_the_wire_form_round_trips() -> None:
    event = Event(
        "market_data.price_update",
        {
            "symbol": "BTCUSDT",
            "price": 38245.5,
            "volume": 2.15,
            "big": 2**64 - 1,
            "x": [None, True],
        },
        event_id="evt_12345",
        timestamp=1645541585432,
        producer="data_collection_framework",
        metadata={
            "priority": "high",
            "correlation_id": "corr_1",
            "retry_count": 2,
            "key": "BTC",
            "own": [1],
        },
    )
    again = Event.from_json(event.to_json())
    assert again == event
    assert hash(again) == hash(event)
    assert again.to_json() == event.to_json()
    assert again.payload == event.payload
    assert list(json.loads(event.to_json())) == [
        "event_id", "event_type", "timestamp", "producer", "version", "payload", "metadata",
    ]  # fmt: skip
    assert (again.priority, again.correlation_id, again.retry_count, again.key) == (
        "high",
        "corr_1",
        2,
        "BTC",
    )
    assert again.metadata["own"] == [1]
    assert pickle.loads(pickle.dumps(event)).to_json() == event.to_json()


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{}", '{"event_id": "x"}', "{" * 100_000, "[" * 100_000,
        '{"event_id":"e","event_type":"a.*","timestamp":1,"payload":{}}',
        '{"event_id":"e","event_type":"a..b","timestamp":1,"payload":{}}',
        '{"event_id":"e","event_type":"a","timestamp":1e400,"payload":{}}',
        '{"event_id":"e","event_type":"a","timestamp":1,"payload":{"x":NaN}}',
        '{"event_id":"e","event_type":"a","timestamp":1,"payload":' + "[" * 65 + "]" * 65 + "}",
        '{"event_id":"e","event_type":"a","timestamp":1,"payload":{},"metadata":{"priority":"urgent"}}',
    ],
)  # fmt: skip
def test_a_malformed_wire_form_is_a_typed_error(text: str) -> None:
    with pytest.raises(TiebeamError):
        Event.from_json(text)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(json_values)
def test_any_json_value_comes_out_as_it_went_in(value: Any) -> None:
    event = Event("test.any", [value])
    assert repr(event.payload) == repr([value])
    assert Event.from_json(event.to_json()).payload == [value]


anything = st.recursive(
    st.none()
    | st.floats()
    | st.integers()
    | st.binary()
    | st.text()
    | st.complex_numbers()
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(anything)
def test_anything_else_is_encoded_or_refused_with_a_path(value: Any) -> None:
    refused = None
    try:
        found = through(value)
    except PayloadError as error:
        refused = error
    if refused is None:
        json.dumps(found, allow_nan=False)
    else:
        assert refused.path.startswith("payload")


@pytest.mark.parametrize(
    "make",
    [
        "value = {}; value['me'] = value",
        "value = []; value.append(value)",
        "value = []\nfor _ in range(100_000): value = [value]",
        "value = {}\nfor _ in range(100_000): value = {'a': value}",
        "value = ()\nfor _ in range(100_000): value = (value,)",
        "class D(dict): pass\nvalue = D()\nfor _ in range(100_000): value = D(a=value)",
        "import dataclasses\n@dataclasses.dataclass\nclass P: n: int = 0\n"
        "P.n = property(lambda self: object.__new__(P))\nvalue = object.__new__(P)",
        "class M:\n  def model_dump(self): return {'m': self}\nvalue = M()",
    ],
)
def test_nothing_a_payload_holds_ends_the_process(make: str) -> None:
    code = (
        f"{make}\n"
        "from tiebeam import Event, EventBus\n"
        "from tiebeam.exceptions import PayloadError\n"
        "bus = EventBus()\n"
        "for attempt in (lambda: Event('a.b', value), lambda: bus.publish('a.b', value)):\n"
        "    try:\n"
        "        attempt()\n"
        "    except PayloadError as error:\n"
        "        assert len(error.path) < 200, error.path\n"
        "    else:\n"
        "        raise SystemExit('not refused')\n"
        "import os; os._exit(0)\n"  # freeing a deep list is Python's own affair
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr


class Counted(type):
    """Counts how often somebody looks for the fields of its classes."""

    looks = 0

    def __getattribute__(cls, name: str) -> Any:
        if name == "__dataclass_fields__":
            Counted.looks += 1
        return super().__getattribute__(name)


def test_fields_are_asked_for_once_per_class() -> None:
    @dataclasses.dataclass
    class Point(metaclass=Counted):
        x: int
        y: int

    @dataclasses.dataclass
    class Deep(Point):
        z: int

    assert through(Point(1, 2)) == {"x": 1, "y": 2}
    assert through(Deep(1, 2, 3)) == {"x": 1, "y": 2, "z": 3}
    Counted.looks = 0
    for n in range(10):
        assert through([Point(n, 0), Deep(0, 0, n)]) == [
            {"x": n, "y": 0},
            {"x": 0, "y": 0, "z": n},
        ]
    assert Counted.looks == 0


def test_classes_come_and_go_with_their_fields() -> None:
    def defined(n: int) -> Any:
        return dataclasses.make_dataclass("Cell", [(f"f{n}", int)])

    gone = []
    for n in range(300):  # addresses come again
        cell = defined(n)
        assert through(cell(n)) == {f"f{n}": n}
        gone.append(weakref.ref(cell))
        del cell
        if n % 7 == 0:
            gc.collect()
    gc.collect()
    assert not any(ref() for ref in gone)
