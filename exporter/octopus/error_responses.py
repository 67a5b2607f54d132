"""What an answer that is not the wanted one means: one place that turns it into an error of the tree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TypeVar

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
from exporter.octopus.tolerant_json import read_json

MAX_MESSAGE_CHARS = 300
# So much of a text is read: more than what is shown, as blanks and secrets are taken out of it.
_MAX_READ_CHARS = 8 * MAX_MESSAGE_CHARS
_MAX_WORD_CHARS = 100

# By the code without its prefix: `octopus.`, `APIGW.` and `APIG.` all occur, and none at all.
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
class _Said:
    """What the body of an answer says of the error; "" where it says nothing."""

    code: str = ""
    message: str = ""
    request_id: str = ""


def error_of(response: Response, request: Request) -> ApiError:
    """
    Make an error of an answer, by its HTTP status and its code.

    Shape: the message is one line of at most MAX_MESSAGE_CHARS and holds no secret of the request.
    """
    said = _said(response)
    kind = _kind(response.status, said, request)
    message = shown(_message(kind, response, said, request), request)
    if issubclass(kind, RateLimited):
        return kind(
            message,
            retry_after_seconds=_retry_after_seconds(response),
            limit=_rate_limit(said.message),
            status=response.status,
            url=request.url,
            code=shown(said.code, request),
            request_id=_request_id(response, said, request),
        )
    return kind(
        message,
        status=response.status,
        url=request.url,
        code=shown(said.code, request),
        request_id=_request_id(response, said, request),
    )


def contract_error(message: str, response: Response, request: Request) -> ContractError:
    """Say that an answer is not what the API documents, and what it is instead where that is plain."""
    return _error(ContractError, message, response, request)


def unavailable_error(message: str, response: Response, request: Request) -> ApiUnavailable:
    """Say that an answer did not come whole, or not from the API, and what it is instead."""
    return _error(ApiUnavailable, message, response, request)


def _error(kind: type[_E], message: str, response: Response, request: Request) -> _E:
    said = _said(response)
    return kind(
        shown(f"{message}{_instead(response, said)}", request),
        status=response.status,
        url=request.url,
        code=shown(said.code, request),
        request_id=_request_id(response, said, request),
    )


def shown(text: str, request: Request) -> str:
    """Make a text from outside fit to be shown: one line, bounded, without secrets."""
    text = request.masked(text[:_MAX_READ_CHARS])
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    # Again: what kept the pieces of a secret apart may have been something else than a blank.
    line = request.masked(line)
    # A word this long is nothing to read, and may be a token that was cut or wrapped.
    line = re.sub(rf"\S{{{_MAX_WORD_CHARS},}}", "…", line)
    return line if len(line) <= MAX_MESSAGE_CHARS else line[: MAX_MESSAGE_CHARS - 1] + "…"


def _kind(status: int, said: _Said, request: Request) -> type[ApiError]:
    if status >= 500:
        return ApiUnavailable
    if status < 400:
        return ContractError
    kind = _BY_CODE.get(said.code.rpartition(".")[2]) or _BY_STATUS.get(status, ContractError)
    refusable = request.auth in ("aksk", "password")
    locked = request.auth == "password" and status == 403 and "lock" in said.message.lower()
    # A login that IAM does not understand is wrong at every request, and is none of the list's filters.
    malformed = request.auth == "password" and status == 400
    return CredentialsRefused if locked or malformed or (refusable and kind is AuthError) else kind


def _message(kind: type[ApiError], response: Response, said: _Said, request: Request) -> str:
    if issubclass(kind, AuthError):
        meaning = _AUTH_MEANINGS[request.auth]
    elif kind is PermissionRefused and request.auth != "password":
        meaning = _NO_ACTION
    elif 300 <= response.status < 400:
        meaning = f"a redirect to {_location(response)}, which is not followed: wrong endpoint?"
    elif kind in (ContractError, ApiUnavailable):
        meaning = _MEANINGS.get(response.status, _MEANINGS_BY_CLASS[kind])
    else:
        meaning = _MEANINGS_BY_CLASS[kind]
    return f"{meaning}{_instead(response, said)}"


def _location(response: Response) -> str:
    return response.headers.get("location", "nowhere").partition("?")[0]


def _instead(response: Response, said: _Said) -> str:
    """Say what came, after a colon; nothing where the body is JSON without a message."""
    if said.message:
        return f": {said.message}"
    if not response.body.strip():
        return " (empty body)"
    return " (HTML, perhaps of a proxy)" if response.body.lstrip()[:1] == b"<" else ""


def _said(response: Response) -> _Said:
    """
    Read an error body: the first of the known shapes that fits.

    Source: Octopus API reference, "status codes" and "error codes"; API Gateway and IAM references.
    """
    try:
        found = read_json(response.body, response.headers.get("content-type", ""))
    except (ValueError, RecursionError):
        return _Said()
    if not isinstance(found, dict):
        return _Said()
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
            return _Said(_text(part.get(code)), _text(part.get(message)), request_id)
    return _Said(request_id=request_id)


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int) else ""


def _request_id(response: Response, said: _Said, request: Request) -> str:
    headers = response.headers
    found = headers.get("x-request-id") or headers.get("x-iam-trace-id") or said.request_id
    return shown(found, request)


def _retry_after_seconds(response: Response) -> float | None:
    """Read Retry-After, which is a number of seconds or an HTTP date; None where it is neither."""
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
    """Read `limit:5,time:1 second` out of a throttling message."""
    found = _LIMIT.search(message)
    if found is None:
        return None
    requests, periods = int(found[1]), int(found[2])
    if not requests or not periods:
        return None
    return RateLimit(requests, periods * _PERIOD_SECONDS[found[3].lower()])
