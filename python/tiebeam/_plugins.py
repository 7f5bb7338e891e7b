"""Plugins: what installed packages bring to a system, by entry points."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tiebeam._hooks import is_async
from tiebeam._logging import LOGGER
from tiebeam._points import Plugin, described, points, takes_one, timed
from tiebeam.component import Component
from tiebeam.decorators import MARKS, check
from tiebeam.exceptions import ConfigurationError
from tiebeam.middleware import Middleware

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["CHECKS", "Plugins"]

CHECKS = "plugin_checks"
"""The component that the checks of plugins belong to."""


class Plugins:
    """The plugins of one system. One that cannot be used is told of, and left out."""

    def __init__(self, *, discover: bool) -> None:
        kinds = ("components", "middleware", "checks")
        self._points = points(*kinds) if discover else {}
        self.all: list[Plugin] = []

    def components(self) -> dict[str, list[EntryPoint]]:
        """The entry points of components by name; they are loaded when they are needed."""
        found: dict[str, list[EntryPoint]] = {}
        for point in self._points.get("components", ()):
            found.setdefault(point.name, []).append(point)
        return found

    def use_component(self, points: list[EntryPoint]) -> Any:
        """The class of a component that is needed.

        Raises:
            ConfigurationError: Naming the packages, where several bring it; and the package
                whose class cannot be loaded.
        """
        plugins = [described("components", point) for point in points]
        if len(points) > 1:
            packages = " and ".join(plugin.package for plugin in plugins)
            raise ConfigurationError(
                f"{packages} each bring a component `{points[0].name}`; uninstall one of them, or "
                'name the class that is meant, in `class: "package.module:Class"` of a component '
                "of another name"
            )
        try:
            with timed(plugins[0]):
                loaded = points[0].load()
        except (Exception, SystemExit) as error:
            raise ConfigurationError(
                f"cannot load the component `{points[0].name}`: {plugins[0]} raised "
                f"{type(error).__name__}: {error}"
            ) from error
        self.all += plugins
        return loaded

    def middleware(self) -> list[Middleware]:
        """An instance of each, in the order of their names."""
        return self._load("middleware", _middleware)

    def checks(self) -> type[Component] | None:
        """A component with all checks, if there is one."""
        marked = self._load("checks", _check)
        names = [plugin.name for plugin in self.all if plugin.kind == "checks" if not plugin.error]
        if not marked:
            return None
        body: dict[str, Any] = {"name": CHECKS, "__doc__": "The checks of plugins."}
        for name, function in zip(names, marked, strict=True):
            attribute = name.replace("-", "_").replace(".", "_")
            while attribute in body or hasattr(Component, attribute):
                attribute += "_"  # it is a check beside the others, whatever it is called
            body[attribute] = _method(function)
        return type("PluginChecks", (Component,), body)

    def _load(self, kind: str, shape: Callable[[Any], Any]) -> list[Any]:
        loaded = []
        for point in self._points.get(kind, ()):
            plugin = described(kind, point)
            try:
                with timed(plugin):
                    loaded.append(shape(point.load()))
            except (Exception, SystemExit) as error:
                reason = f"{type(error).__name__}: {error}"
                LOGGER.warning("%s cannot be used: %s", plugin, reason)
                plugin = Plugin(kind, plugin.name, plugin.package, reason)
            self.all.append(plugin)
        return loaded


def _middleware(loaded: Any) -> Middleware:
    made = loaded() if isinstance(loaded, type) else loaded
    if not isinstance(made, Middleware):
        raise TypeError(f"it is to be a subclass of tiebeam.Middleware, got {loaded!r}")
    return made


def _check(loaded: Any) -> Callable[..., Any]:
    if isinstance(loaded, type) or not callable(loaded):
        raise TypeError(f"it is to be a function, `async def` or `def`, got {loaded!r}")
    function: Callable[..., Any] = loaded
    return function


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """A check of a component that calls ``function``, with the framework if it takes one."""
    takes = takes_one(function)
    marks: Iterable[Any] = getattr(function, MARKS, ())

    async def run(self: Component) -> Any:
        return await (function(self.framework) if takes else function())

    def run_sync(self: Component) -> Any:
        return function(self.framework) if takes else function()

    method: Callable[..., Any] = run if is_async(function) else run_sync
    own = [mark for mark in marks if isinstance(mark, check)]
    if own:
        setattr(method, MARKS, own[:1])
        return method
    return check(kind="dependency", critical=False)(method)
