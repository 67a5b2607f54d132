"""
The log: lines on standard error, in logfmt or JSON.

Lines of the standard library's loggers (aiohttp, asyncio) go the same way and through the same masking.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

import structlog

from exporter.log.lines import LogFormat, LogLevel, formatter
from exporter.log.writer import MAX_WAITING_BYTES, LineWriter, writing_to
from exporter.masking import Secrets

__all__ = ["Log", "LogFormat", "LogLevel"]


def _unnoticed() -> None:
    """Count nothing."""


class Log:
    """
    The log of the process, from `configure` on to the end of the block.

    Shape: `on_dropped` is called for each line that was not written, from any thread.
    """

    def __init__(
        self,
        secrets: Secrets,
        stream: TextIO | None = None,
        *,
        on_dropped: Callable[[], None] = _unnoticed,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._secrets = secrets
        self._stream = stream or sys.stderr
        self._on_dropped = on_dropped
        self._max_waiting_bytes = max_waiting_bytes
        self._handler: _Handler | None = None
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what waits, for a short while at the most."""
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            self._handler.close()
            self._handler = None

    def configure(self, level: LogLevel, format: LogFormat) -> None:  # noqa: A002 - the key's name
        """
        Log every line of the process, from `level` up.

        May be called again, as a reload does; handlers that others put on the root logger stay.
        """
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.PositionalArgumentsFormatter(),
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )
        root = logging.getLogger()
        if self._handler is None:
            self._handler = _Handler(self._stream, self._turn, self._on_dropped, self._max_waiting_bytes)
            root.addHandler(self._handler)
        self._handler.setFormatter(formatter(format, self._secrets.masked))
        root.setLevel(level.upper())

    def write_lock(self, descriptor: int) -> threading.Lock:
        """
        Give the lock to hold while writing to a descriptor: the log's own where both lead to the same file.

        Else a line of one would be torn by a line of the other.
        """
        try:
            is_same = os.path.samestat(os.fstat(descriptor), os.fstat(self._stream.fileno()))
        except (OSError, ValueError):
            is_same = False
        return self._turn if is_same else threading.Lock()


class _Handler(logging.Handler):
    """Formats a line where it is logged, and leaves the writing to another thread."""

    def __init__(
        self, stream: TextIO, turn: threading.Lock, on_dropped: Callable[[], None], max_waiting_bytes: int
    ) -> None:
        super().__init__()
        self._writer = LineWriter(
            writing_to(stream, turn),
            notice=self._notice,
            on_dropped=on_dropped,
            max_waiting_bytes=max_waiting_bytes,
        )

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.put(self.format(record) + "\n")
        except Exception:  # as every handler of the standard library does: a bad argument costs one line
            self.handleError(record)

    def close(self) -> None:
        self._writer.close()
        super().close()

    def _notice(self, dropped: int) -> str:
        """Say how many lines are missing; whatever the level, as they may have been of any."""
        event = {"event": "log lines were dropped: nothing read them", "lines": dropped}
        attributes = {"_logger": None, "_name": "warning", "msg": event, "levelname": "WARNING"}
        return self.format(logging.makeLogRecord(attributes)) + "\n"
