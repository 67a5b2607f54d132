"""
The log: lines on standard error, in logfmt or JSON; `ts`, `level`, `msg`, then key=value; without secrets.

Lines of the standard library's loggers (aiohttp, asyncio) have the same format and the same masking.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self, TextIO

import structlog

from exporter.log.writer import MAX_WAITING_BYTES, LineWriter, writing_to
from exporter.masking import MASK, Secrets

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["logfmt", "json"]

# A value under such a key is masked even if it is no known secret, as in a library's line about headers.
_SECRET_KEYS = {
    "access-key",
    "authorization",
    "cookie",
    "password",
    "proxy-authorization",
    "secret-key",
    "security-token",
    "set-cookie",
    "token",
    "x-auth-token",
    "x-security-token",
    "x-subject-token",
}
# A message of the API must not move the cursor of a terminal. The renderers escape line ends.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Log:
    """The log of the process. Shape: `on_dropped` is called for each line that is lost, from any thread."""

    def __init__(
        self,
        secrets: Secrets,
        stream: TextIO | None = None,
        *,
        on_dropped: Callable[[], None] = lambda: None,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._secrets = secrets
        self._stream = stream or sys.stderr
        self._on_dropped = on_dropped
        self._max_waiting_bytes = max_waiting_bytes
        self._handler: _Handler | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what waits, for two seconds at most."""
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            self._handler.close()
            self._handler = None

    def configure(self, level: LogLevel, format: LogFormat) -> None:  # noqa: A002 - the key's name
        """Log from `level` up. A reload calls this again; handlers of others on the root logger stay."""
        structlog.configure(
            processors=[
                # First, so that a line below the level costs next to nothing.
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
            self._handler = _Handler(self._stream, self._lock, self._on_dropped, self._max_waiting_bytes)
            root.addHandler(self._handler)
        self._handler.setFormatter(_formatter(format, self._secrets.masked))
        # At the root, so that the libraries' loggers follow the level too.
        root.setLevel(level.upper())

    def write_lock(self, descriptor: int) -> threading.Lock:
        """
        Return the lock to hold while writing to a descriptor: the log's own if both lead to the same file.

        Otherwise the log could write into the middle of another line there.
        """
        try:
            is_same = os.path.samestat(os.fstat(descriptor), os.fstat(self._stream.fileno()))
        except (OSError, ValueError):
            is_same = False
        return self._lock if is_same else threading.Lock()


class _Handler(logging.Handler):
    """Formats a line in the thread that logs it, and leaves the writing to the writer's thread."""

    def __init__(
        self, stream: TextIO, lock: threading.Lock, on_dropped: Callable[[], None], max_waiting_bytes: int
    ) -> None:
        super().__init__()
        self._writer = LineWriter(
            writing_to(stream, lock),
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
        """Say how many lines are missing; at every level, as the lines may have had any."""
        event = {"event": "log lines were dropped: nothing read them", "lines": dropped}
        attributes = {"_logger": None, "_name": "warning", "msg": event, "levelname": "WARNING"}
        return self.format(logging.makeLogRecord(attributes)) + "\n"


def _formatter(format: LogFormat, masked: Callable[[str], str]) -> logging.Formatter:  # noqa: A002 - the key's name
    """Make the formatter of our own lines and of those of the standard library's loggers."""
    renderer = structlog.processors.LogfmtRenderer(bool_as_flag=False)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            _arrange,
            _Masking(masked),
            renderer if format == "logfmt" else structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )


def _arrange(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put `ts`, `level` and `msg` first. Units: `ts` in RFC 3339, UTC, with milliseconds."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"ts": now, "level": event.pop("level"), "msg": event.pop("event"), **event}


class _Masking:
    """Masks the values of a line, and turns them into values that JSON has."""

    def __init__(self, masked: Callable[[str], str]) -> None:
        self._masked = masked

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        # The keys and these two values are this program's own words: a password of four digits must not be
        # masked in a time.
        return {
            key: value if key in ("ts", "level") else MASK if _is_secret(key) else self._value(value)
            for key, value in event.items()
        }

    def _mapping(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        return {
            self._text(str(key)): MASK if _is_secret(key) else self._value(value)
            for key, value in values.items()
        }

    def _value(self, value: object) -> object:
        match value:
            case None | bool() | int():
                return value
            case float() if math.isfinite(value):
                return value
            case Mapping():
                return self._mapping(value)
            case list() | tuple() | set() | frozenset():
                return [self._value(item) for item in value]
        return self._text(str(value))

    def _text(self, text: str) -> str:
        """Mask the secrets in a text, and write its control characters as escapes."""
        return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", self._masked(text))


def _is_secret(key: object) -> bool:
    return str(key).lower().replace("_", "-") in _SECRET_KEYS
