"""Every block of the README and of the guide that is to run does, and prints what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from brokers.rabbitmq_server import INSTALLED, RabbitMqServer
from brokers.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BROKERS = ROOT / "docs" / "brokers.md"
RUNNER = Path(__file__).with_name("run_blocks.py")
LINK = re.compile(r"\[[^\]]*\]\((?!\w+:)(?P<target>[^)#\s]+)")


@pytest.fixture(scope="module")
def brokers():
    """The servers that the page about brokers is on."""
    if shutil.which("redis-server") is None or not INSTALLED:
        pytest.skip("redis-server and rabbitmq-server are not both installed")
    with RedisServer() as redis, RabbitMqServer() as rabbitmq:
        yield {"EVENT_BUS_URL": redis.url, "RABBITMQ_URL": rabbitmq.url}


def run(
    page: Path, directory: Path, brokers: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    # A process of its own: what a page leaves behind reaches no other page.
    return subprocess.run(
        [sys.executable, "-W", "error", str(RUNNER), str(page)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(brokers or {})},
    )


@pytest.mark.parametrize("page", [p for p in PAGES if p != BROKERS], ids=lambda page: page.stem)
def test_every_block_runs(page, tmp_path):
    ended = run(page, tmp_path)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"


@pytest.mark.broker
def test_every_block_about_brokers_runs(brokers, tmp_path):
    ended = run(BROKERS, tmp_path, brokers)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python no-run\nprint(1)\n```\n", "every Python block runs"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "prints something else"),
        ("```python\n\nraise RuntimeError('here')\n```\n", "line 3"),
        ("```python\nawait thing\n```\n", "SyntaxError"),
        ("```sh\ntrue\nfalse\n```\n", "page.md:2: the commands end with 1"),
        ("```sh\ntiebeam services\n```\n", "a bus in memory reaches no other process"),
        ("```sh\necho 1\n```\n\n```text\n2\n```\n", "prints something else"),
        ("```bash\ntrue\n```\n", "write ```sh for commands that run"),
    ],
)
def test_the_runner_notices(text, complaint, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text)
    ended = run(page, tmp_path)
    assert ended.returncode != 0
    assert complaint in ended.stderr


def test_yaml_with_a_path_is_there_for_the_code(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```yaml\n# config/here.yaml\na: 1\n```\n"
        "```python\nprint(open('config/here.yaml').read().count('a: 1'))\n```\n```text\n1\n```\n"
    )
    assert run(page, tmp_path).returncode == 0


def test_commands_find_the_servers_of_the_test(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\n[ redis://localhost:6379/0 = redis://127.0.0.1:$((4000 + 2))/0 ]\n```\n"
        "```sh\n[ amqp://localhost:5672 = amqp://127.0.0.1:$((4000 + 3)) ]\n```\n"
        "```sh\ntype redis-cli\n```\n"
        "```console\nfalse\n```\n"
    )
    servers = {
        "EVENT_BUS_URL": "redis://127.0.0.1:4002/0",
        "RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:4003",
    }
    ended = run(page, tmp_path, servers)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith(": 3 blocks\n")
