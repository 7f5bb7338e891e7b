"""Celery, as its guide shows it: ``task.delay(...)``, one worker without a pool."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

from processes.envelope import payload
from processes.pace import Pace

NAME = "bench.handle"


def _app(url: str) -> Any:
    from celery import Celery

    app = Celery("bench", broker=url)
    app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False)
    app.conf.update(worker_redirect_stdouts=False, broker_connection_retry_on_startup=True)
    return app


def publish(url: str, count: int, pace: Pace) -> None:
    """One task after the other."""
    with _app(url) as app, app.producer_pool.acquire(block=True) as producer:
        for n in pace.ticks(count):
            app.send_task(NAME, (payload(n, pace.sent()),), producer=producer)


def consume(url: str, ready: Any, handled: Any) -> None:
    """A worker in this process."""
    from celery import signals

    app = _app(url)

    @app.task(name=NAME)
    def handle(body: dict[str, Any]) -> None:
        if handled(body):
            os.kill(os.getpid(), signal.SIGTERM)

    @signals.worker_ready.connect(weak=False)
    def begin(**_more: Any) -> None:
        ready()

    with contextlib.suppress(SystemExit):
        app.worker_main(["--quiet", "worker", "--pool=solo", "--loglevel=CRITICAL"])
