"""Python's ``logging`` and the core's own records end in the same place."""

from __future__ import annotations

import logging
from typing import Any

from tiebeam import _core
from tiebeam.configuration import Configuration

__all__ = ["LOGGER", "Logs"]

LOGGER = logging.getLogger("tiebeam")

_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _CoreHandler(logging.Handler):
    """Hands records to the core, whose writer has a thread of its own; never blocks."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields: dict[str, Any] = {
                key: value
                if isinstance(value, (str, int, float, bool, type(None)))
                else repr(value)
                for key, value in vars(record).items()
                if key not in _ORDINARY
            }
            message = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                formatter = self.formatter or logging.Formatter()
                fields["traceback"] = formatter.formatException(record.exc_info)
            _core._log(record.levelno, record.name, message, fields)
        except Exception:
            self.handleError(record)


class Logs:
    """The logs of one framework, from its start to its stop."""

    def __init__(self, core: _core.Framework, configuration: Configuration) -> None:
        self._core = core
        core._open_logs()
        self._handler = _CoreHandler()
        level = configuration.get("logging.level") or configuration.get("system.log_level", "info")
        self._root = logging.getLogger()
        self._before = self._root.level
        self._root.addHandler(self._handler)
        wanted = logging.getLevelName(str(level).upper().replace("TRACE", "DEBUG"))
        if isinstance(wanted, int):
            self._root.setLevel(min(wanted, self._before) if self._before else wanted)

    def close(self) -> None:
        """Write out what waits, and let go of Python's ``logging``."""
        self._root.removeHandler(self._handler)
        self._root.setLevel(self._before)
        self._core._close_logs()
