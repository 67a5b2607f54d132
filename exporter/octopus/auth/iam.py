"""
The IAM token request and response, as data.

Source: Huawei Cloud IAM API reference, "obtaining a user token through password authentication".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from exporter.errors import ContractError
from exporter.octopus.error_responses import error_of, response_error
from exporter.octopus.messages import Request, Response, split_endpoint
from exporter.octopus.wire import parse_time_ms

# IAM issues tokens and temporary keys for hours. A shorter life means that a clock or time zone is wrong.
SHORTEST_LIFE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Token:
    """
    A token from IAM.

    Units: `life_seconds` counts from now, so it does not depend on the local clock; None if IAM reports no
    plausible life: then the token is used until it is rejected. `expires_at` and `password_expires_at` in
    Unix seconds by IAM's clock; None if there is nothing to report.
    """

    value: str = field(repr=False)
    life_seconds: float | None = None
    expires_at: float | None = None
    password_expires_at: float | None = None


class _TokenBody(msgspec.Struct):
    # Any: the token itself is in a header, and a defect in these fields must not make it unusable.
    expires_at: Any = None
    issued_at: Any = None
    user: Any = None


class _TokenAnswer(msgspec.Struct):
    token: _TokenBody


_decoder = msgspec.json.Decoder(_TokenAnswer)


def token_request(iam_endpoint: str, *, domain: str, user: str, password: str, project_id: str) -> Request:
    """Build the request for a token scoped to a project."""
    origin, prefix = split_endpoint(iam_endpoint)
    identity = {"user": {"name": user, "password": password, "domain": {"name": domain}}}
    body = {
        "auth": {
            "identity": {"methods": ["password"], "password": identity},
            "scope": {"project": {"id": project_id}},
        }
    }
    return Request(
        method="POST",
        origin=origin,
        path=f"{prefix}/v3/auth/tokens",
        # Without the catalogue of endpoints: it is long, and unused here.
        query=(("nocatalog", "true"),),
        headers={"Accept": "application/json", "Content-Type": "application/json;charset=utf8"},
        body=msgspec.json.encode(body),
        auth="password",
        secrets=(password,),
    )


def decode_token(response: Response, request: Request) -> Token:
    """
    Read IAM's response to a token request.

    Shape: 201, the token in header X-Subject-Token, its expiry in body {"token": {"expires_at": ...}}.
    Raises: the error of `error_of` for another status than 201; ContractError, naming what is missing.
    """
    if response.status != 201:
        raise error_of(response, request)
    value = response.headers.get("x-subject-token", "")
    if not value:
        message = "IAM's answer has no header X-Subject-Token"
        raise response_error(ContractError, message, response, request)
    try:
        body = _decoder.decode(response.body).token
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        message = f"IAM's answer is not a token: {exc}"
        raise response_error(ContractError, message, response, request) from exc
    password_end = _seconds(body.user.get("password_expires_at")) if isinstance(body.user, dict) else None
    expires_at = _seconds(body.expires_at)
    if expires_at is None:
        return Token(value, password_expires_at=password_end)
    # Both ends by IAM's clock if it reports `issued_at`: the local clock may be wrong.
    life_seconds = expires_at - (_seconds(body.issued_at) or response.received_at)
    if life_seconds < SHORTEST_LIFE_SECONDS:
        return Token(value, password_expires_at=password_end)
    # Alerts compare `expires_at` with the local clock: by a wrong one a valid token would look expired.
    is_plausible = expires_at - response.received_at >= SHORTEST_LIFE_SECONDS
    return Token(value, life_seconds, expires_at if is_plausible else None, password_end)


def _seconds(value: object) -> float | None:
    time_ms = parse_time_ms(value)
    return None if time_ms is None else time_ms / 1000
