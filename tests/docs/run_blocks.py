"""Runs the blocks of one Markdown file, one after the other.

* A ```` ```python ```` block runs, all of them in one namespace; there is no way to mark one that
  does not.
* A ```` ```sh ```` block runs, by bash, and has to succeed. Commands that are only to be shown,
  because they build, take minutes, or need what is not here, are ```` ```console ````.
* A ```` ```text ```` block right after one of these is what it must print.
* A ```` ```yaml ```` block whose first line is a comment with a path is written there first.

Top-level ``await`` is for the page about notebooks: elsewhere a block has to run as a script.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"# (?P<path>[\w./-]+\.ya?ml)\n")
_SERVERS = {"localhost:6379": "EVENT_BUS_URL", "localhost:5672": "RABBITMQ_URL"}
"""What stands for a server in a command, and the variable by which all blocks find it."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    body: str
    line: int
    """The line of its first line of code."""
    after_previous: bool
    """Whether nothing but blank lines stands between it and the block before."""


def blocks(markdown: str) -> Iterator[Block]:
    """All fenced blocks, in order."""
    end = 0
    for found in _FENCE.finditer(markdown):
        line = markdown.count("\n", 0, found.start("body")) + 1
        gap = markdown[end : found.start()]
        yield Block(found["info"].strip(), found["body"], line, not gap.strip())
        end = found.end()


def run_file(path: Path) -> int:
    """Run all blocks of ``path``; returns how many there were."""
    all_blocks = list(blocks(path.read_text(encoding="utf-8")))
    namespace: dict[str, Any] = {"__name__": "__main__"}
    loop = asyncio.new_event_loop()
    count = 0
    try:
        for index, block in enumerate(all_blocks):
            if block.language == "yaml" and (said := _PATH.match(block.body)):
                target = Path(said["path"])
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.body, encoding="utf-8")
            if block.language == "python":
                printed = _run(path, block, namespace, loop)
            elif block.language == "sh":
                printed = _run_commands(path, block)
            elif block.language.startswith("python"):
                raise SystemExit(f"{path}:{block.line}: every Python block runs; write ```python")
            elif block.language.startswith(("sh", "bash")):
                raise SystemExit(
                    f"{path}:{block.line}: write ```sh for commands that run, ```console for those "
                    "that are only shown"
                )
            else:
                continue
            count += 1
            follower = all_blocks[index + 1] if index + 1 < len(all_blocks) else None
            if follower and follower.language == "text" and follower.after_previous:
                _compare(path, follower, printed)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    return count


def _run(path: Path, block: Block, namespace: dict[str, Any], loop: Any) -> str:
    # Empty lines before it give tracebacks the line numbers of the page.
    source = "\n" * (block.line - 1) + block.body
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if path.name == "notebooks.md" else 0
    code = compile(source, str(path), "exec", flags=flags, dont_inherit=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if code.co_flags & inspect.CO_COROUTINE:
            loop.run_until_complete(eval(code, namespace))
        else:
            exec(code, namespace)
    return printed.getvalue()


def _run_commands(path: Path, block: Block) -> str:
    commands = block.body
    lines = [f'tiebeam() {{ {shlex.quote(sys.executable)} -W error -m tiebeam "$@"; }}']
    for written, variable in _SERVERS.items():
        if variable in os.environ:
            where = urlsplit(os.environ[variable])
            commands = commands.replace(written, f"{where.hostname}:{where.port}")
            if variable == "EVENT_BUS_URL":
                here = f"-h {where.hostname} -p {where.port}"
                lines.append(f'redis-cli() {{ command redis-cli {here} "$@"; }}')
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join([*lines, commands])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise SystemExit(
            f"{path}:{block.line}: the commands end with {ended.returncode}:\n{ended.stdout}"
        )
    return ended.stdout


def _compare(path: Path, wanted: Block, printed: str) -> None:
    if printed.rstrip() != wanted.body.rstrip():
        raise SystemExit(
            f"{path}:{wanted.line}: the block before prints something else:\n{printed.rstrip()}"
        )


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(f"{argument}: {run_file(Path(argument))} blocks")
