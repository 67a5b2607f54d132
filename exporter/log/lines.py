"""What a log line is: logfmt or JSON; `ts`, `level`, `msg`, then key=value; nothing secret in it."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from exporter.masking import MASK

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["logfmt", "json"]

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
# A message of the API is not to move the cursor of a terminal. Line ends are the renderers' to escape.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def formatter(format: LogFormat, masked: Callable[[str], str]) -> logging.Formatter:  # noqa: A002 - the key's name
    """Make the formatter of both our own lines and those of the standard library's loggers."""
    renderer = structlog.processors.LogfmtRenderer(bool_as_flag=False)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            arrange,
            Masking(masked),
            renderer if format == "logfmt" else structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )


def arrange(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """
    Put `ts`, `level` and `msg` first.

    Units: `ts` in RFC 3339, UTC, with milliseconds.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"ts": now, "level": event.pop("level"), "msg": event.pop("event"), **event}


class Masking:
    """Masks what a line holds, and leaves in it only what JSON has."""

    def __init__(self, masked: Callable[[str], str]) -> None:
        self._masked = masked

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        # The keys are the program's own words, and so are these two values: a password of four digits must
        # not make a gap in a time.
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
