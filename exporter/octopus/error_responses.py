"""Turn an unexpected response into an error: the one place that chooses its class and its message."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from exporter.errors import (
    ApiError,
    ApiUnavailable,
    AuthError,
    ContractError,
    CredentialsRefused,
    PermissionRefused,
    RateLimit,
    RateLimited,
)
from exporter.octopus.messages import Request, Response
from exporter.octopus.tolerant import read_json

MAX_MESSAGE_CHARS = 300
# How much of a text is read: more than is shown, because blanks and secrets are removed from it.
_MAX_READ_CHARS = 8 * MAX_MESSAGE_CHARS
_MAX_WORD_CHARS = 100

# By the code without its prefix: it can be `octopus.`, `APIGW.`, `APIG.` or missing.
_BY_CODE: dict[str, type[ApiError]] = {
    "0301": AuthError,
    "0307": AuthError,
    "400001": AuthError,
    "0302": PermissionRefused,
    "400003": PermissionRefused,
    "0308": RateLimited,
}
_BY_STATUS: dict[int, type[ApiError]] = {401: AuthError, 403: PermissionRefused, 429: RateLimited}

_MEANINGS = {
    400: "the API does not accept the request",
    404: "not found: wrong region, path or project",
    405: "the API does not take this method here: wrong endpoint or path",
    407: "the proxy asks for credentials",
    409: "the API reports a conflict",
    500: "the API has an internal error",
}
_AUTH_MEANINGS = {
    "token": "the token is invalid, expired or of another region",
    "aksk": "the access key is wrong or locked, or this machine's clock is off",
    "password": "the user name or password is wrong, or the account is locked",
    None: "the API asks for credentials",
}
_NO_ACTION = "no permission: the action octopus:dataJob:list is not granted"
_MEANINGS_BY_CLASS: dict[type[ApiError], str] = {
    PermissionRefused: "no permission",
    RateLimited: "throttled",
    ApiUnavailable: "the API is unavailable",
    ContractError: "the API answered with an undocumented status",
}

_E = TypeVar("_E", bound=ApiError)

_LIMIT = re.compile(r"limit:\s*(\d{1,9})\s*,\s*time:\s*(\d{1,9})\s*(second|minute|hour|day)", re.IGNORECASE)
_PERIOD_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}


@dataclass(frozen=True, slots=True)
class _ErrorBody:
    """What the body of an error response reports; "" where it reports nothing."""

    code: str = ""
    message: str = ""
    request_id: str = ""


def error_of(response: Response, request: Request) -> ApiError:
    """Choose the error by status and code. Shape: its message is one line, bounded and without secrets."""
    body = _read_body(response)
    kind = _kind(response.status, body, request)
    extra: dict[str, Any] = {}
    if kind is RateLimited:
        extra = {"retry_after_seconds": _retry_after_seconds(response), "limit": _rate_limit(body.message)}
    return response_error(kind, _meaning(kind, response, request), response, request, body, **extra)


def response_error(
    kind: type[_E],
    message: str,
    response: Response,
    request: Request,
    body: _ErrorBody | None = None,
    **extra: Any,
) -> _E:
    """Build an error of this class: the message, then what the response reports or what it is instead."""
    body, headers = body or _read_body(response), response.headers
    if body.message:
        message += f": {body.message}"
    elif not response.body.strip():
        message += " (empty body)"
    elif response.body.lstrip()[:1] == b"<":
        message += " (HTML, perhaps of a proxy)"
    request_id = headers.get("x-request-id") or headers.get("x-iam-trace-id") or body.request_id
    return kind(
        sanitize(message, request),
        status=response.status,
        url=request.url,
        code=sanitize(body.code, request),
        request_id=sanitize(request_id, request),
        **extra,
    )


def sanitize(text: str, request: Request) -> str:
    """Make a text from outside safe to show: one line, of bounded length, without secrets."""
    text = request.masked(text[:_MAX_READ_CHARS])
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    # Again: invisible characters may have separated the pieces of a secret, and are gone now.
    line = request.masked(line)
    # A word this long is not readable text. It may be a token that was cut or wrapped, which no mask finds.
    line = re.sub(rf"\S{{{_MAX_WORD_CHARS},}}", "…", line)
    return line if len(line) <= MAX_MESSAGE_CHARS else line[: MAX_MESSAGE_CHARS - 1] + "…"


def _kind(status: int, body: _ErrorBody, request: Request) -> type[ApiError]:
    # Whatever the code says: with such a status, any program on the way may have written the body.
    if status >= 500:
        return ApiUnavailable
    if status < 400:
        return ContractError
    kind = _BY_CODE.get(body.code.rpartition(".")[2]) or _BY_STATUS.get(status, ContractError)
    refusable = request.auth in ("aksk", "password")
    locked = request.auth == "password" and status == 403 and "lock" in body.message.lower()
    # A 400 to a login means wrong settings. As a ContractError the poll would take it for a refused filter.
    malformed = request.auth == "password" and status == 400
    return CredentialsRefused if locked or malformed or (refusable and kind is AuthError) else kind


def _meaning(kind: type[ApiError], response: Response, request: Request) -> str:
    if issubclass(kind, AuthError):
        return _AUTH_MEANINGS[request.auth]
    if kind is PermissionRefused and request.auth != "password":
        return _NO_ACTION
    if 300 <= response.status < 400:
        # Without its query, which may hold a token.
        location = response.headers.get("location", "nowhere").partition("?")[0]
        return f"a redirect to {location}, which is not followed: wrong endpoint?"
    if kind in (ContractError, ApiUnavailable):
        return _MEANINGS.get(response.status, _MEANINGS_BY_CLASS[kind])
    return _MEANINGS_BY_CLASS[kind]


def _read_body(response: Response) -> _ErrorBody:
    """
    Read an error body: the first of the known shapes that fits.

    Source: Octopus API reference, "status codes" and "error codes"; API Gateway and IAM references.
    """
    try:
        found = read_json(response.body, response.headers.get("content-type", ""))
    except (ValueError, RecursionError):
        return _ErrorBody()
    if not isinstance(found, dict):
        return _ErrorBody()
    request_id = _text(found.get("request_id"))
    nested = found.get("error")
    shapes = (
        (found, "error_code", "error_msg"),
        (found, "errorCode", "errorMsg"),
        (found, "code", "message"),
        (nested if isinstance(nested, dict) else {}, "code", "message"),
    )
    for part, code, message in shapes:
        if code in part or message in part:
            return _ErrorBody(_text(part.get(code)), _text(part.get(message)), request_id)
    return _ErrorBody(request_id=request_id)


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int) else ""


def _retry_after_seconds(response: Response) -> float | None:
    """Read Retry-After, which is a number of seconds or an HTTP date; None if it is neither."""
    value = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,18}", value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - response.received_at)


def _rate_limit(message: str) -> RateLimit | None:
    """Read `limit:5,time:1 second` from a throttling message."""
    found = _LIMIT.search(message)
    if found is None:
        return None
    requests, periods = int(found[1]), int(found[2])
    if not requests or not periods:
        return None
    return RateLimit(requests, periods * _PERIOD_SECONDS[found[3].lower()])
