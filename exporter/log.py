"""
Log lines on standard error, in logfmt or JSON: `ts`, `level`, `msg`, then key=value.

Lines of the standard library's loggers (aiohttp, asyncio) go the same way and through the same masking.
"""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import structlog

from exporter.config.secret import MASK

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
# A header inside a text: `X-Auth-Token: …`, `'authorization': '…'`, `(b'cookie', b'…')`; and "password": "…".
_SECRET_IN_TEXT = re.compile(
    r"""((?:\b(?:x[-_](?:auth|subject|security)[-_]token|(?:proxy[-_])?authorization|(?:set[-_])?cookie)"""
    r"""(?:['"]\s*[:=,]|\s*[:=])|(?P<quote>['"])password(?P=quote)\s*[:=,])\s*b?)"""
    r"""(?:'[^']*'|"[^"]*"|[^\s'"{}][^\r\n'"{}]*)""",
    re.IGNORECASE,
)
# The user and password of a URL, as of a proxy in the environment.
_USERINFO = re.compile(r"(?<=://)[^\s/]+(?=@)")
# A message of the API is not to move the cursor of a terminal. Line ends are the renderers' to escape.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def configure(level: LogLevel, format: LogFormat, stream: TextIO | None = None) -> None:  # noqa: A002 - the key's name
    """
    Send every log line of the process to `stream` (standard error), from `level` up.

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
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_formatter(format))
    root = logging.getLogger()
    for earlier in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(level.upper())


class _Handler(logging.StreamHandler[TextIO]):
    """Our handler, told by its class from those that others put on the root logger."""


def _formatter(format: LogFormat) -> logging.Formatter:  # noqa: A002 - the key's name
    renderer = structlog.processors.LogfmtRenderer(bool_as_flag=False)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            arrange,
            mask_secrets,
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


def mask_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask the values of secret keys and headers, wherever they stand, and leave only what JSON has."""
    return _masked_mapping(event)


def _masked_mapping(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {mask_text(str(key)): MASK if _is_secret(key) else _masked(value) for key, value in values.items()}


def _masked(value: object) -> object:
    match value:
        case None | bool() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case Mapping():
            return _masked_mapping(value)
        case list() | tuple() | set() | frozenset():
            return [_masked(item) for item in value]
    return mask_text(str(value))


def mask_text(text: str) -> str:
    """Mask the headers and the URLs' passwords inside a text, and write its control characters as escapes."""
    text = _SECRET_IN_TEXT.sub(rf"\1{MASK}", text)
    text = _USERINFO.sub(MASK, text)
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _is_secret(key: object) -> bool:
    return str(key).lower().replace("_", "-") in _SECRET_KEYS
