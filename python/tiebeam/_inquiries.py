"""What can be asked of a system: its parts, their health, and how they hang together."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, TypeVar, overload

from tiebeam import _core, _injection
from tiebeam._html import table
from tiebeam._plugins import Plugins
from tiebeam._points import Plugin
from tiebeam._wanted import capability_asked, is_a, kind_asked, name_asked
from tiebeam._wiring import Wiring, wiring
from tiebeam.component import Component
from tiebeam.configuration import Configuration
from tiebeam.health import HealthReport
from tiebeam.services import Service, imported, type_name
from tiebeam.services import service as _service
from tiebeam.why import Why

if TYPE_CHECKING:
    from tiebeam._host import Host
    from tiebeam.bus import EventBus

__all__ = ["Inquiries"]

ServiceT = TypeVar("ServiceT")


class Inquiries:
    """The part of a :class:`~tiebeam.Framework` that changes nothing."""

    configuration: Configuration
    """What the system was told, and where."""
    _core: _core.Framework
    _bus: EventBus
    _hosts: dict[str, Host]
    _plugins: Plugins

    @property
    def bus(self) -> EventBus:
        """The bus; what is published here carries the system's name."""
        return self._bus

    @property
    def state(self) -> str:
        """``created``, ``starting``, ``running``, ``stopping`` or ``stopped``."""
        return self._core.state

    @property
    def components(self) -> dict[str, Component]:
        """The components by name, in the order of registration."""
        return {name: host.component for name, host in self._hosts.items()}

    @overload
    def get(self, service: str) -> Component: ...

    @overload
    def get(self, service: type[ServiceT]) -> ServiceT: ...

    def get(self, service: str | type[Any]) -> Any:
        """The component of a name, or the one of a type, in whichever state it is.

        Args:
            service: A name; or a class, an abstract class or a protocol, runtime-checkable or
                not: a component is one if it has what the protocol asks for.

        Raises:
            ConfigurationError: When there is none, or more than one of that type.
            TypeError: For what is neither.
        """
        if isinstance(service, str):
            self._core._status(name_asked("get()", service))  # raises with a suggestion
            return self._hosts[service].component
        kind = kind_asked("get()", service, named=True)
        return _injection.one_of_type(kind, list(self.components.values()))

    @overload
    def find(
        self, service: None = None, /, *, capability: str | None = None, unhealthy: bool = False
    ) -> list[Component]: ...

    @overload
    def find(
        self, service: type[ServiceT], /, *, capability: str | None = None, unhealthy: bool = False
    ) -> list[ServiceT]: ...

    def find(
        self,
        service: type[Any] | None = None,
        /,
        *,
        capability: str | None = None,
        unhealthy: bool = False,
    ) -> list[Any]:
        """The components of a type, or with a capability, running ones before degraded ones.

        Args:
            service: A class, an abstract class or a protocol, as for :meth:`get`; any if left
                out.
            capability: What they declare in ``capabilities``.
            unhealthy: Whether to give those too that are not ready for work: not running, or
                with a critical check that fails.

        Raises:
            TypeError: For what is no class, and for a capability that is no text.
            ConfigurationError: For an empty one.
        """
        if isinstance(service, str):
            raise TypeError(f"find() takes a class or a protocol; by name it is get({service!r})")
        if service is not None:
            service = kind_asked("find()", service)
        capability = capability_asked("find()", capability)
        reports = {report["component_id"]: report for report in self.health()["components"]}
        found = [
            component
            for component in self.components.values()
            if (service is None or is_a(component, service))
            and (capability is None or capability in component.capabilities)
            and (unhealthy or _is_well(reports[component.name]))
        ]
        return sorted(found, key=lambda component: component.state != "running")

    def services(
        self,
        service: str | type[Any] | None = None,
        /,
        *,
        capability: str | None = None,
        unhealthy: bool = False,
    ) -> list[Service]:
        """The components of this process, and those that other processes announce.

        Args:
            service: A name; or a class, an abstract class or a protocol, as for :meth:`find`. No
                object comes from another process: a component there is one if its class, or one
                of its bases, has the same module and name, or if its class is imported here and
                is one; what an instance has beside its class is not known here. Everything if
                left out.
            capability: What they declare in ``capabilities``.
            unhealthy: Whether to give those too that are not ready for work.

        Returns:
            Those of this process first, running ones before degraded ones.

        Raises:
            TypeError: For what is neither, and for a capability that is no text.
            ConfigurationError: For an empty name or capability.
        """
        if isinstance(service, str):
            name_asked("services()", service)
        elif service is not None:
            service = kind_asked("services()", service, named=True)
        capability = capability_asked("services()", capability)
        found = [_service(said, self._core) for said in self._core._services()]
        matching = [
            other
            for other in found
            if (service is None or self._is_service(other, service))
            and (capability is None or capability in other.capabilities)
            and (unhealthy or other.ready)
        ]
        return sorted(matching, key=lambda other: (other.remote, other.state != "running"))

    def _is_service(self, other: Service, service: str | type[Any]) -> bool:
        if isinstance(service, str):
            return service == other.name or service in other.types
        if type_name(service) in other.types:
            return True
        if not other.remote and other.name in self._hosts:
            return is_a(self._hosts[other.name].component, service)
        return any(is_a(kind, service) for kind in map(imported, other.types) if kind is not None)

    @property
    def plugins(self) -> list[Plugin]:
        """What installed packages bring to this system: each with ``kind``, ``name``,
        ``package`` and, where it cannot be used, the ``error``."""
        return [*self.configuration._plugins, *self._plugins.all]

    def status(self, name: str) -> dict[str, Any]:
        """What is known of one component: ``state``, ``cause``, ``error``, ``blocked_by``,
        ``degradations``, ``restarts``."""
        return self._core._status(name)

    def why(self, name: str) -> Why:
        """Why a component is as it is: from its present state back to what began it.

        Print it, show it in a notebook, or take it apart with :meth:`tiebeam.Why.as_dict`.

        Raises:
            ConfigurationError: For an unknown name, with a suggestion.
        """
        return Why(self._core._why(name))

    def health(self, name: str | None = None) -> HealthReport:
        """The health of the system, or of one component, as of the last checks."""
        system = HealthReport(self._core._health())
        if name is None:
            return system
        self._core._status(name)  # raises with a suggestion
        return HealthReport(next(c for c in system["components"] if c["component_id"] == name))

    def health_json(self) -> dict[str, Any]:
        """The health of the system in the form of ``application/health+json``, as ``/health``
        serves it: the IETF's draft-inadarei-api-health-check-06.

        ``checks`` has ``<component>:state``, ``<component>:<check>`` and ``process:<resource>``.
        """
        return self._core._health_json()

    def metrics(self, *, openmetrics: bool = True) -> str:
        """All metrics as text, as ``/metrics`` serves them.

        Args:
            openmetrics: Whether in the form of OpenMetrics 1.0, else in Prometheus's own, 0.0.4.
        """
        return self._core._metrics(openmetrics)

    @property
    def health_url(self) -> str | None:
        """Where probes and metrics are served, such as ``http://127.0.0.1:9464``; ``None`` unless
        ``health.http.enabled`` is set and the system has begun to start."""
        return self._core._health_url

    def health_history(self, name: str) -> dict[str, list[dict[str, Any]]]:
        """The last ``health.history_length`` results of each check of a component, oldest first.

        Each has ``timestamp``, ``took`` (seconds), ``result`` (what this run said), ``health``
        (the verdict after it), ``applied`` (whether the run reached a threshold, though the
        verdict may have stayed), ``value`` (what was measured), ``message`` and ``details``.
        """
        return self._core._health_history(name)

    async def check(self, name: str) -> dict[str, Any]:
        """Run one component's health checks now; returns its health."""
        report: dict[str, Any] = await self._core._check_now(name)
        return report

    def graph(self, form: str = "text") -> str:
        """The dependency graph, as ``text`` or ``mermaid``."""
        if form not in ("text", "mermaid"):
            raise ValueError(f"a graph is drawn as 'text' or 'mermaid', got {form!r}")
        return self._core._graph(form)

    def wiring(self) -> Wiring:
        """What the components publish and handle, and where the two do not meet.

        The first start logs its warnings: topics that nobody handles, requests and commands
        that nobody serves, and handlers that wait for what looks like a slip of the pen. What a
        component publishes is read from the source of its class, and from ``publishes``.
        """
        return wiring(self)

    def __repr__(self) -> str:
        states = ", ".join(f"{name}: {host.state}" for name, host in self._hosts.items())
        return f"<Framework {self.configuration['system.name']!r} {self.state} ({states})>"

    def _repr_html_(self) -> str:
        rows = []
        for report in self.health()["components"]:
            status, metrics = self.status(report["component_id"]), report["metrics"]
            rows.append(
                [
                    report["component_id"],
                    status["state"],
                    report["health"],
                    status["cause"] or "",
                    metrics["events_processed"],
                    metrics["events_published"],
                    metrics["errors_encountered"],
                ]
            )
        head = ["component", "state", "health", "cause", "processed", "published", "errors"]
        title = f"<b>{escape(self.configuration['system.name'])}</b> {self.state}"
        return title + table(head, rows)


def _is_well(report: dict[str, Any]) -> bool:
    """Ready, or at work without an answer of its checks yet: unknown is not unhealthy."""
    at_work = report["status"] in ("running", "degraded")
    return bool(report["ready"]) or (at_work and report["health"] == "unknown")
