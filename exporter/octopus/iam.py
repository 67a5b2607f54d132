"""
The token exchange with IAM, as data.

Source: Huawei Cloud IAM API reference, "obtaining a user token through password authentication".
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from exporter.octopus.exchange import Request, Response, split_endpoint
from exporter.octopus.refusal import contract_error, error_of
from exporter.octopus.wire import parse_time_ms


@dataclass(frozen=True, slots=True)
class Token:
    """
    A token as IAM gave it.

    Units: `expires_at` and `password_expires_at` in Unix seconds by IAM's clock, `password_expires_at` None
    where the password does not end; `life_seconds` from now on, whatever our clock says.
    """

    value: str = field(repr=False)
    expires_at: float
    life_seconds: float
    password_expires_at: float | None = None


class _User(msgspec.Struct):
    password_expires_at: str | None = None


class _TokenBody(msgspec.Struct):
    expires_at: str
    issued_at: str | None = None
    user: _User | None = None


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
    expires_at = _seconds(body.expires_at)
    if expires_at is None:
        raise contract_error("IAM's answer is not a token: token.expires_at is not a time", response, request)
    # By IAM's own clock on both ends where it says when the token began, so that our clock may be wrong.
    issued_at = _seconds(body.issued_at) or response.received_at
    return Token(value, expires_at, expires_at - issued_at, _password_end(body))


def _password_end(body: _TokenBody) -> float | None:
    return _seconds(body.user.password_expires_at) if body.user else None


def _seconds(value: str | None) -> float | None:
    time_ms = parse_time_ms(value)
    return None if time_ms is None else time_ms / 1000
