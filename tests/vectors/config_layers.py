"""Which of several sources wins, for each value, and where a value is said to come from."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tiebeam import Configuration

from vectors.cases import Areas, Case
from vectors.config_values import PART, part_of
from vectors.stance import compare, settle

__all__ = ["AREAS"]


def _merged(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """What a component is given of files, the last of which is the strongest."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, layer in enumerate(layers):
            file = Path(folder, f"{number}.json")
            file.write_text(json.dumps({"components": {PART: layer}}), encoding="utf-8")
            files.append(file)
        found = part_of(Configuration(*files, components=[PART], environ={}))
    assert isinstance(found, dict)
    return found


def run_layers(case: Case) -> None:
    named = case.get("layer_names", [])
    if "cli" in named:
        _run_sources(case)
    elif "environment" in named:
        _run_environment(case)
    else:
        expected = case.get("canonical", case["expect"])
        differences = compare("the result", _merged(case["layers"]), expected)
        settle(case, differences, canonical="canonical" in case)


def _leaves(tree: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    return [
        leaf
        for key, value in tree.items()
        for leaf in (
            _leaves(value, f"{path}{key}.") if isinstance(value, dict) else [(path + key, value)]
        )
    ]


def _environ(layer: dict[str, Any], prefix: str = "") -> dict[str, str]:
    return {
        "TIEBEAM_" + (prefix + path).replace(".", "__").upper(): json.dumps(value)
        for path, value in _leaves(layer)
    }


SERVER = {"TIEBEAM_EVENT_BUS__CONNECTION_STRING": "redis://localhost"}
"""Without which an event bus on Redis is refused."""


def _run_sources(case: Case) -> None:
    """Keys of the product's own, whose defaults are those of the case."""
    layers = dict(zip(case["layer_names"], case["layers"], strict=True))
    found = Configuration(
        values=layers["file"],
        environ={**_environ(layers["environment"]), **SERVER},
        set=[f"{path}={value}" for path, value in _leaves(layers["cli"])],
    )
    differences: list[str] = []
    for path, value in _leaves(layers["defaults"]):
        default = Configuration(environ={})[path]
        differences += compare(f"the default of {path}", default, value)
    for path, value in _leaves(case["expect"]):
        differences += compare(path, found[path], value)
    places = {"file": "(file)", "environment": "(environment)", "cli": "(command line)"}
    for path, source in case["provenance"].items():
        said = found.explain(path).splitlines()[1].strip()
        if not said.startswith("from ") or places[source] not in said:
            differences.append(f"{path} is said to be {said!r} instead of from the {source}")
    settle(case, differences)


def _run_environment(case: Case) -> None:
    """Files below the environment."""
    *files, environment = case["layers"]
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, layer in enumerate(files):
            path = Path(folder, f"{number}.json")
            path.write_text(json.dumps({"components": {PART: layer}}), encoding="utf-8")
            paths.append(path)
        environ = _environ(environment, f"components.{PART}.")
        found = part_of(Configuration(*paths, components=[PART], environ=environ))
    settle(case, compare("the result", found, case["expect"]))


def run_tree(case: Case) -> None:
    # A bare name is one of the environment or of the root: here it stands in a section.
    text = json.dumps(case["layers"]).replace("${", f"${{components.{PART}.")
    found = _merged(json.loads(text))
    differences = [
        line for key, value in case["expect"].items() for line in compare(key, found[key], value)
    ]
    settle(case, differences)


def run_merge(case: Case) -> None:
    found = _merged([case["existing"], case["incoming"]])
    if case["strategy"] != "merge":
        raise AssertionError(f"unknown strategy {case['strategy']!r}")
    settle(case, compare("the result", found, case["expect"]))


AREAS: Areas = {
    "config_layers": run_layers,
    "config_merge": run_merge,
    "config_tree_interpolation": run_tree,
}
