"""What a component publishes, as far as the source of its class says so.

Topics are read where they stand: ``self.publish_event("a.b")``, ``self.bus.request("a.b")``, and
the same through a constant, a class attribute, a typed event's class, or a method that only hands
its topic on. What is put together at run time is not guessed: the component is then ``open``, and
nobody may conclude from what it does not say.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import linecache
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from tiebeam import _core
from tiebeam._typed import spec_of, topic_of
from tiebeam.component import Component

__all__ = ["Published", "published"]

How = Literal["publish", "request", "send"]

_CALLS: dict[str, tuple[How, int]] = {
    "publish": ("publish", 0),
    "request": ("request", 0),
    "send": ("send", 0),
    "every": ("publish", 1),
}
"""The methods of a bus: how they send, and which argument is the topic."""


@dataclass
class Published:
    """What one component publishes."""

    topics: dict[tuple[How, str], None] = field(default_factory=dict)
    open: bool = False
    """Whether it publishes what its source does not tell."""


@dataclass(frozen=True)
class _Call:
    how: How
    topic: ast.expr
    function: ast.FunctionDef | ast.AsyncFunctionDef | None


def published(component: Component) -> Published:
    """What ``component`` declares in ``publishes``, and what the source of its class tells."""
    found = Published()
    for declared in component.publishes:
        found.topics["publish", topic_of(declared)] = None
    classes = [
        cls
        for cls in type(component).__mro__
        if issubclass(cls, Component) and cls is not Component
    ]
    calls: list[tuple[type, _Call]] = []
    handed_on: dict[str, tuple[How, int]] = {}
    trees = []
    for cls in classes:
        sources = _sources(cls)
        if sources is None:
            found.open = True
            continue
        trees += [(cls, tree) for tree in sources]
    for cls, tree in trees:
        for call in _calls(tree, {}):
            position = _parameter(call)
            if position is None:
                calls.append((cls, call))
            else:
                assert call.function is not None
                handed_on[call.function.name] = (call.how, position)
    for cls, tree in trees if handed_on else []:
        calls += [(cls, call) for call in _calls(tree, handed_on) if _parameter(call) is None]
    for cls, call in calls:
        topics = _topics(call.topic, component, cls)
        if topics is None:
            found.open = True
        for topic in topics or ():
            with contextlib.suppress(ValueError):  # malformed: publishing it raises
                _core.Event(topic)
                found.topics[call.how, topic] = None
    if component.publishes:
        found.open = False  # it has said it all
    return found


def _sources(cls: type) -> list[ast.AST] | None:
    """The source of a class: as a whole, or, as in a notebook, of each of its methods."""
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if file is not None:
        linecache.checkcache(file)
        whole = _classes("".join(linecache.getlines(file))).get(cls.__qualname__)
        if whole is not None:
            return [whole]
    methods = [_method(part) for part in vars(cls).values() if inspect.isfunction(part)]
    return None if None in methods else [tree for tree in methods if tree is not None]


@functools.lru_cache(maxsize=64)
def _classes(source: str) -> dict[str, ast.AST]:
    """The classes of one module by qualified name; ``inspect`` reads the whole for each."""
    found: dict[str, ast.AST] = {}

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                found[prefix + child.name] = child
                walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                walk(child, f"{prefix}{child.name}.<locals>.")
            elif isinstance(child, ast.stmt):
                walk(child, prefix)

    with contextlib.suppress(SyntaxError, ValueError):  # it has changed since it was imported
        walk(ast.parse(source), "")
    return found


def _method(written: Any) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(written)))
    except (OSError, TypeError, SyntaxError, ValueError):  # made at run time, or indented oddly
        return None


@functools.lru_cache(maxsize=1024)
def _method_calls(tree: ast.AST) -> list[tuple[ast.Call, Any]]:
    """All calls of methods, each with the function that it stands in; the outermost one."""
    found: list[tuple[ast.Call, Any]] = []
    left: list[tuple[ast.AST, Any]] = [(tree, None)]
    while left:
        node, function = left.pop()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found.append((node, function))
        elif function is None and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            function = node
        left += [(child, function) for child in ast.iter_child_nodes(node)]
    found.reverse()
    return found


def _calls(tree: ast.AST, handed_on: dict[str, tuple[How, int]]) -> Iterator[_Call]:
    """The calls that publish; with ``handed_on``, those of the methods that do so for others."""
    for node, function in _method_calls(tree):
        kind = _kind(node.func, handed_on)
        if kind is None:
            continue
        how, position = kind
        starred = any(isinstance(a, ast.Starred) for a in node.args[: position + 1])
        if len(node.args) > position and not starred:
            yield _Call(how, node.args[position], function)
        elif starred or handed_on:  # given by name, or not to be told
            yield _Call(how, ast.Constant(None), function)


def _kind(called: ast.expr, handed_on: dict[str, tuple[How, int]]) -> tuple[How, int] | None:
    if not isinstance(called, ast.Attribute):
        return None
    of = called.value
    if handed_on:
        own = isinstance(of, ast.Name) and of.id == "self"
        return handed_on.get(called.attr) if own else None
    if called.attr == "publish_event":
        return "publish", 0
    of_bus = isinstance(of, ast.Attribute) and of.attr == "bus"
    of_bus = of_bus or (isinstance(of, ast.Name) and of.id == "bus")
    return _CALLS.get(called.attr) if of_bus else None


def _parameter(call: _Call) -> int | None:
    """Which parameter of its method the topic is, ``self`` not counted."""
    if call.function is None or not isinstance(call.topic, ast.Name):
        return None
    names = [one.arg for one in (*call.function.args.posonlyargs, *call.function.args.args)]
    if call.topic.id not in names[1:] or names[0] != "self":
        return None
    return names.index(call.topic.id) - 1


def _topics(node: ast.expr, component: Component, cls: type) -> list[str] | None:
    """The topics that an expression stands for; ``None`` where only running it would tell."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else None
    if isinstance(node, ast.IfExp):
        one, other = (_topics(part, component, cls) for part in (node.body, node.orelse))
        return None if one is None or other is None else one + other
    if isinstance(node, ast.Call):  # a typed event, made on the spot
        kind = _value(node.func, component, cls)
        spec = spec_of(kind) if isinstance(kind, type) else None
        return None if spec is None else [spec.event_type]
    value = _value(node, component, cls)
    return [value] if isinstance(value, str) else None


def _value(node: ast.expr, component: Component, cls: type) -> Any:
    """What a dotted name means where the class was written, without running any code."""
    if isinstance(node, ast.Name):
        module = sys.modules.get(cls.__module__)
        return vars(module).get(node.id) if module else None
    if not isinstance(node, ast.Attribute):
        return None
    if isinstance(node.value, ast.Name) and node.value.id == "self":
        own = vars(component).get(node.attr)
        return own if own is not None else _static(type(component), node.attr)
    of = _value(node.value, component, cls)
    return None if of is None else _static(of, node.attr)


def _static(of: object, name: str) -> Any:
    try:
        return inspect.getattr_static(of, name)
    except AttributeError:
        return None
