"""
The token exchange with IAM, as data.

Source: Huawei Cloud IAM API reference, "obtaining a user token through password authentication".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from exporter.octopus.error_responses import contract_error, error_of
from exporter.octopus.messages import Request, Response, split_endpoint
from exporter.octopus.wire import parse_time_ms

# IAM gives tokens and temporary keys for hours: a shorter life tells of a clock or a time zone that is off.
SHORTEST_LIFE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Token:
    """
    A token as IAM gave it.

    Units: `life_seconds` from now on, whatever our clock says; None where IAM tells none to be believed: then
    the token serves until it is refused. `expires_at` and `password_expires_at` in Unix seconds by IAM's
    clock, None where there is nothing to tell.
    """

    value: str = field(repr=False)
    life_seconds: float | None = None
    expires_at: float | None = None
    password_expires_at: float | None = None


class _TokenBody(msgspec.Struct):
    # The token itself is in a header: whatever is wrong with these must not cost it.
    expires_at: Any = None
    issued_at: Any = None
    user: Any = None


class _Answer(msgspec.Struct):
    token: _TokenBody


_decoder = msgspec.json.Decoder(_Answer)


def token_request(iam_endpoint: str, *, domain: str, user: str, password: str, project_id: str) -> Request:
    """Ask for a token scoped to a project, without the catalogue of endpoints nobody reads."""
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
        query=(("nocatalog", "true"),),
        headers={"Accept": "application/json", "Content-Type": "application/json;charset=utf8"},
        body=msgspec.json.encode(body),
        auth="password",
        secrets=(password,),
    )


def decode_token(response: Response, request: Request) -> Token:
    """
    Read IAM's answer to a token request.

    Shape: 201, the token in header X-Subject-Token, its end in body {"token": {"expires_at": ...}}.
    Raises: what `error_of` makes of another status than 201; ContractError, naming what is missing.
    """
    if response.status != 201:
        raise error_of(response, request)
    value = response.headers.get("x-subject-token", "")
    if not value:
        raise contract_error("IAM's answer has no header X-Subject-Token", response, request)
    try:
        body = _decoder.decode(response.body).token
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise contract_error(f"IAM's answer is not a token: {exc}", response, request) from exc
    return Token(value, *_life(body, response.received_at), _password_end(body))


def _life(body: _TokenBody, received_at: float) -> tuple[float | None, float | None]:
    """Give the token's life and its end; None for what cannot be believed."""
    expires_at = _seconds(body.expires_at)
    if expires_at is None:
        return None, None
    # By IAM's own clock on both ends where it says when the token began, so that our clock may be wrong.
    life_seconds = expires_at - (_seconds(body.issued_at) or received_at)
    if life_seconds < SHORTEST_LIFE_SECONDS:
        return None, None
    # An end that has passed by our clock, which is that of the alerts, would be told as one.
    return life_seconds, expires_at if expires_at - received_at >= SHORTEST_LIFE_SECONDS else None


def _password_end(body: _TokenBody) -> float | None:
    return _seconds(body.user.get("password_expires_at")) if isinstance(body.user, dict) else None


def _seconds(value: object) -> float | None:
    time_ms = parse_time_ms(value)
    return None if time_ms is None else time_ms / 1000
