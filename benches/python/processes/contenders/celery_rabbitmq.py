"""Celery on RabbitMQ: the same code."""

from processes.contenders.celery_redis import consume, publish

__all__ = ["consume", "publish"]
