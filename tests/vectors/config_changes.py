"""Changes while the system runs: files, revisions, and who is told of what."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiebeam import Component, Configuration, on_config
from tiebeam.testing import TestFramework
from tiebeam.testing import run as in_virtual_time

from vectors.cases import Areas, Case
from vectors.stance import compare, settle

__all__ = ["AREAS"]

PATIENCE = 3.0
"""Seconds in which a changed file has been seen."""


class Part(Component):
    """Writes down which of its keys it is told of."""

    name = "part"

    @dataclass
    class Config:
        port: int = 0
        a: int = 0

    def __init__(self) -> None:
        self.told: list[str] = []

    @on_config("components.part.port")
    def on_port(self, path: str, old: Any, new: Any) -> None:
        self.told.append("port")

    @on_config("components.part.a")
    def on_a(self, path: str, old: Any, new: Any) -> None:
        self.told.append("a")


class Listening(Component):
    """Writes down which of the framework's sections it is told of."""

    name = "listening"

    def __init__(self) -> None:
        self.told: list[str] = []

    @on_config("event_bus")
    def on_section(self, path: str, old: Any, new: Any) -> None:
        self.told.append("event_bus")

    @on_config("event_bus.batch_size")
    def on_key(self, path: str, old: Any, new: Any) -> None:
        self.told.append("event_bus.batch_size")

    @on_config("health")
    def on_health(self, path: str, old: Any, new: Any) -> None:
        self.told.append("health")


def _write(path: Path, text: str) -> None:
    """Replace a file as an editor does, with another time of change."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(before + 1_000_000_000, before + 1_000_000_000))


def _section(text: str) -> str:
    """A file that gives the component a section, which need not be well formed."""
    return f"components:\n  part:\n    {text}\n"


def run_reload(case: Case) -> None:
    settle(case, in_virtual_time(_reload(case)), canonical=True)


async def _reload(case: Case) -> list[str]:
    differences: list[str] = []
    first, *later = case["steps"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "system.yaml")

        def write(content: Any) -> None:
            text = content if isinstance(content, str) else json.dumps(content)[1:-1]
            _write(path, _section(text))

        assert first["result"] == "applied"
        write(first["write"])
        part = Part()
        store = Configuration(path, components=[part.name], environ={})
        async with TestFramework(store, components=[part]) as framework:
            for step in later:
                part.told.clear()
                rejected = len(framework.published("system.configuration.rejected"))
                revision = framework.configuration.revision
                write(step["write"])
                await framework.advance(PATIENCE)
                said = len(framework.published("system.configuration.rejected")) - rejected
                result = "rejected" if said else "applied"
                differences += compare(str(step["write"]), result, step["result"])
                differences += compare("rejections", said, int(step["result"] == "rejected"))
                expected = step["notify"]
                told: Any = part.told if isinstance(expected, list) else bool(part.told)
                differences += compare("who was told", told, expected)
                now = framework.configuration.revision
                differences += compare("the revision", now, step.get("revision", revision))
    return differences


def run_watch(case: Case) -> None:
    swap = any(event.startswith("rename") for event in case["fs_events"])
    reloads = in_virtual_time(_swapped() if swap else _made_anew(case))
    settle(case, compare("reloads", reloads, case["expect"]["reloads"]), canonical=True)


async def _swapped() -> int:
    """As Kubernetes renews a mounted file: what it is reached through leads elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number, name in enumerate(["..2024_a", "..2024_b"]):
            (root / name).mkdir()
            (root / name / "system.yaml").write_text(_section(f"port: {number}"))
            os.utime(root / name / "system.yaml", ns=(10**18, 10**18))
        (root / "..data").symlink_to("..2024_a")
        path = root / "system.yaml"
        path.symlink_to("..data/system.yaml")
        store = Configuration(path, components=["part"], environ={})
        async with TestFramework(store, components=[Part()]) as framework:
            (root / "..data_tmp").symlink_to("..2024_b")
            (root / "..data_tmp").rename(root / "..data")
            (root / "..2024_a" / "system.yaml").unlink()
            await framework.advance(10 * PATIENCE)
            return framework.configuration.revision - 1


async def _made_anew(case: Case) -> int:
    assert case["fs_events"] == [
        "remove config.yaml",
        "create config.yaml (changed)",
        "create config.yaml (same content)",
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "system.yaml")
        _write(path, _section("port: 1"))
        store = Configuration(path, components=["part"], environ={})
        async with TestFramework(store, components=[Part()]) as framework:
            os.unlink(path)
            await framework.advance(PATIENCE)
            for _ in range(2):
                _write(path, _section("port: 2"))
                await framework.advance(PATIENCE)
            return framework.configuration.revision - 1


def run_revision(case: Case) -> None:
    settle(case, in_virtual_time(_revisions(case)))


async def _revisions(case: Case) -> list[str]:
    differences: list[str] = []
    first, *later = case["ops"]
    assert first[0] == "put"
    values = {"components": {"part": first[1]}}
    async with TestFramework(values, components=[Part()]) as framework:
        differences += compare("the first", framework.configuration.revision, first[2])
        for what, argument, revision in later:
            if what == "put":
                changes = {f"components.part.{key}": value for key, value in argument.items()}
                await framework.configure(changes)
            else:
                await framework.rollback(argument)
            differences += compare(f"{what} {argument}", framework.configuration.revision, revision)
        expected = case["expect"]
        found = framework.configuration["components.part"]
        differences += compare("the value", found, expected["value"])
        active = framework.configuration.revision
        differences += compare("the revision", active, expected["active_revision"])
        history = [entry["revision"] for entry in framework.configuration.history()]
        differences += compare("the history", history, sorted(set(history)))
    return differences


def run_notify(case: Case) -> None:
    settle(case, in_virtual_time(_notified(case)))


async def _notified(case: Case) -> list[str]:
    """The environment of a process does not change while it runs: the overlay masks the file."""
    differences: list[str] = []
    file = {"event_bus.batch_size": 30, "event_bus.max_retry": 3}
    overlay = {"event_bus.batch_size": 77}
    layers = {"file": file, "environment": overlay}
    with tempfile.TemporaryDirectory() as folder:
        paths = {"file": Path(folder, "it.json"), "environment": Path(folder, "it.masks.json")}

        def write(layer: str) -> None:
            section = {key.partition(".")[2]: value for key, value in layers[layer].items()}
            tree = {"system": {"environment": "masks"}, "event_bus": section}
            _write(paths[layer], json.dumps(tree))

        write("file")
        write("environment")
        listening = Listening()
        store = Configuration(paths["file"], components=["listening"], environ={})
        async with TestFramework(store, components=[listening]) as framework:
            for step in case["steps"]:
                listening.told.clear()
                layer = layers[step["layer"]]
                layer.update(step.get("set", {}))
                for path in step.get("unset", []):
                    del layer[path]
                write(step["layer"])
                await framework.advance(PATIENCE)
                differences += compare(str(step), sorted(listening.told), step["fired"])
    return differences


AREAS: Areas = {
    "config_notify": run_notify,
    "config_reload": run_reload,
    "config_revision": run_revision,
    "config_watch": run_watch,
}
