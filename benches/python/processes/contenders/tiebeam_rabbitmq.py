"""tiebeam on RabbitMQ: the same code."""

from processes.contenders.tiebeam_redis import consume, publish

__all__ = ["consume", "publish"]
