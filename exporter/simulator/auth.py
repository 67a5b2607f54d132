"""
Authentication: tokens that IAM issues for a password, and requests signed with SDK-HMAC-SHA256.

Signatures are verified by code that is written apart from the exporter's signer, so that the two check each
other. Pure but for its memory: the real time comes in with every call. Units: real Unix seconds.
Source: the signing vectors in the tests, the published example among them.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from random import Random
from urllib.parse import quote
from uuid import UUID, uuid5

import msgspec

from exporter.simulator.responses import (
    SimulatedResponse,
    gateway_error,
    iam_error,
    json_response,
    service_error,
)
from exporter.simulator.settings import DemoCredentials

ALGORITHM = "SDK-HMAC-SHA256"
MAX_SKEW_SECONDS = 15 * 60

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Access=(?P<key>[^,]+), SignedHeaders=(?P<headers>[^,]+), "
    r"Signature=(?P<signature>[0-9a-f]+)"
)
MAX_FAILURES = 5
KEY_LOCKED_SECONDS = 5 * 60
USER_LOCKED_SECONDS = 15 * 60
TOKEN_BYTES = 1800

_NAMES = UUID("6f63746f-7075-7373-696d-756c61746f72")
_NO_TOKEN = "Incorrect IAM authentication information: x-auth-token not found"  # noqa: S105 - a message
_TOKEN_OVER = "Incorrect IAM authentication information: The token must be updated."  # noqa: S105 - a message
_BAD_SIGNATURE = "Incorrect IAM authentication information: verify aksk signature fail"
_KEY_LOCKED = "Incorrect IAM authentication information: AK access failed to reach the limit, forbidden"
_REVOKED = "The token has been revoked, or its permissions have changed."
_OLD_SIGNATURE = "Incorrect IAM authentication information: the request time has expired"


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """
    A request as it came, with all that its signature covers.

    Shape: `path` and `query` decoded, `headers` by lower-case name.
    """

    method: str
    path: str
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Authorization:
    """The parts of an Authorization header."""

    access_key: str
    signed_headers: tuple[str, ...]
    signature: str


def parse_authorization(header: str) -> Authorization | None:
    """Take the header apart; None for one of another form."""
    match = _AUTHORIZATION.fullmatch(header.strip())
    if match is None:
        return None
    return Authorization(match["key"], tuple(match["headers"].split(";")), match["signature"])


def signature(request: SignedRequest, signed_headers: Sequence[str], secret_key: str) -> str:
    """Compute the signature: HMAC over the algorithm, the date and the hash of the canonical request."""
    digest = sha256(canonical_request(request, signed_headers).encode()).hexdigest()
    text = f"{ALGORITHM}\n{request.headers.get('x-sdk-date', '')}\n{digest}"
    return hmac.new(secret_key.encode(), text.encode(), sha256).hexdigest()


def canonical_request(request: SignedRequest, signed_headers: Sequence[str]) -> str:
    """Write method, path with a closing slash, sorted query, signed headers, their names, the body's hash."""
    path = quote(request.path, safe="/~").rstrip("/") + "/"
    pairs = (f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in sorted(request.query))
    headers = (f"{name}:{request.headers.get(name, '').strip()}\n" for name in signed_headers)
    lines = (request.method, path, "&".join(pairs), "".join(headers), ";".join(signed_headers))
    return "\n".join((*lines, sha256(request.body).hexdigest()))


def is_signed(request: SignedRequest, authorization: Authorization, secret_key: str) -> bool:
    """Tell whether this key signed this request."""
    expected = signature(request, authorization.signed_headers, secret_key)
    return hmac.compare_digest(expected, authorization.signature)


def is_recent(request: SignedRequest, now_seconds: float) -> bool:
    """Tell whether the request is dated within 15 minutes of now."""
    try:
        date = datetime.strptime(request.headers.get("x-sdk-date", ""), "%Y%m%dT%H%M%S%z")
    except ValueError:
        return False
    return abs(date.timestamp() - now_seconds) <= MAX_SKEW_SECONDS


class _Domain(msgspec.Struct):
    name: str


class _User(msgspec.Struct):
    name: str
    password: str
    domain: _Domain


class _Password(msgspec.Struct):
    user: _User


class _Identity(msgspec.Struct):
    methods: list[str]
    password: _Password


class _ScopeProject(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class _Scope(msgspec.Struct):
    project: _ScopeProject


class _Auth(msgspec.Struct):
    identity: _Identity
    scope: _Scope


class _TokenRequest(msgspec.Struct):
    auth: _Auth


@dataclass(slots=True)
class Lock:
    """Locked for a while after more than five failures in a row."""

    seconds: float
    _failures: int = 0
    _until: float = 0.0

    def is_locked(self, now: float) -> bool:
        return now < self._until

    def note(self, success: bool, now: float) -> None:
        self._failures = 0 if success else self._failures + 1
        if self._failures > MAX_FAILURES:
            self._failures, self._until = 0, now + self.seconds


@dataclass(frozen=True, slots=True)
class IssuedToken:
    project_id: str
    expires_at: float
    is_revoked: bool = False


class Authenticator:
    """
    Issue tokens and check requests.

    Shape: projects are named in a scope by id, or by name: cn-north-11 the first, cn-north-11_2 the second…
    """

    def __init__(
        self, credentials: DemoCredentials, projects: tuple[str, ...], ttl_seconds: float, seed: int
    ) -> None:
        self._credentials = credentials
        self._projects = {_project_name(number): project for number, project in enumerate(projects)}
        self._ttl_seconds = ttl_seconds
        self._rng = Random(f"tokens {seed}")
        self._tokens: dict[str, IssuedToken] = {}
        self._user_lock = Lock(USER_LOCKED_SECONDS)
        self._key_lock = Lock(KEY_LOCKED_SECONDS)

    def issue(self, body: bytes, now: float, expires_at: str | None = None) -> SimulatedResponse:
        """
        SimulatedResponse a request for a token: 201 with the token in X-Subject-Token, or why not.

        Shape: `expires_at` is written instead of the true time of expiry.
        """
        try:
            auth = msgspec.json.decode(body, type=_TokenRequest).auth
        except msgspec.MsgspecError:
            return iam_error(400, "Bad Request", "The request body is invalid.")
        if self._user_lock.is_locked(now):
            return iam_error(401, "Unauthorized", "The account is locked. Please try again later.")
        is_right = self._is_right(auth.identity)
        self._user_lock.note(is_right, now)
        if not is_right:
            return iam_error(401, "Unauthorized", "The username or password is wrong.")
        name = self._name_of(auth.scope.project)
        if name is None:
            return iam_error(404, "Not Found", "The project in the scope does not exist.")
        return self._issued(name, now, expires_at)

    def check_token(
        self, text: str | None, project_id: str, request_id: str, now: float
    ) -> SimulatedResponse | None:
        """Return the refusal of a token that is not valid for this project, or None."""
        if text is None:
            return gateway_error(401, "APIGW.0301", _NO_TOKEN, request_id)
        token = self._tokens.get(text)
        if token is None:
            return service_error(401, "400001", "The request token is invalid.")
        if token.expires_at <= now:
            return gateway_error(401, "APIGW.0307", _TOKEN_OVER, request_id)
        if token.is_revoked:
            return gateway_error(403, "APIGW.0302", _REVOKED, request_id)
        if token.project_id != project_id:
            return service_error(403, "400003", "The token is of another project.")
        return None

    def expire(self, text: str) -> None:
        """Let a token expire now."""
        if text in self._tokens:
            self._tokens[text] = replace(self._tokens[text], expires_at=0.0)

    def revoke(self, text: str) -> None:
        """Refuse a token with 403 from now on."""
        if text in self._tokens:
            self._tokens[text] = replace(self._tokens[text], is_revoked=True)

    def check_signature(
        self, request: SignedRequest, request_id: str, now: float
    ) -> SimulatedResponse | None:
        """Return the refusal of a signed request, or None."""
        if self._key_lock.is_locked(now):
            return gateway_error(401, "APIGW.0301", _KEY_LOCKED, request_id)
        is_right = self._has_right_signature(request)
        self._key_lock.note(is_right, now)
        if not is_right:
            return gateway_error(401, "APIGW.0301", _BAD_SIGNATURE, request_id)
        if not is_recent(request, now):
            return gateway_error(401, "APIGW.0301", _OLD_SIGNATURE, request_id)
        return None

    def _is_right(self, identity: _Identity) -> bool:
        user, known = identity.password.user, self._credentials
        given = (user.domain.name, user.name)
        is_same = hmac.compare_digest(user.password.encode(), known.password.encode())
        return "password" in identity.methods and given == (known.domain, known.user) and is_same

    def _has_right_signature(self, request: SignedRequest) -> bool:
        authorization = parse_authorization(request.headers.get("authorization", ""))
        if authorization is None or authorization.access_key != self._credentials.access_key:
            return False
        if request.headers.get("x-security-token", "") != self._credentials.security_token:
            return False
        return is_signed(request, authorization, self._credentials.secret_key)

    def _name_of(self, project: _ScopeProject) -> str | None:
        for name, project_id in self._projects.items():
            if project.id == project_id or (project.id is None and project.name == name):
                return name
        return None

    def _issued(self, project_name: str, now: float, expires_at: str | None) -> SimulatedResponse:
        text = "MII" + b64encode(self._rng.randbytes(TOKEN_BYTES)).decode()
        token = self._tokens[text] = IssuedToken(self._projects[project_name], now + self._ttl_seconds)
        domain = {"id": _id_of(self._credentials.domain), "name": self._credentials.domain}
        user = {"id": _id_of(self._credentials.user), "name": self._credentials.user, "domain": domain}
        body = {
            "token": {
                "methods": ["password"],
                "issued_at": _iam_time(now),
                "expires_at": expires_at or _iam_time(token.expires_at),
                "project": {"id": token.project_id, "name": project_name, "domain": domain},
                "roles": [{"id": "0", "name": "te_admin"}],
                "user": user | {"password_expires_at": ""},
            }
        }
        return json_response(201, body, {"X-Subject-Token": text})


def _project_name(number: int) -> str:
    return "cn-north-11" if number == 0 else f"cn-north-11_{number + 1}"


def _id_of(name: str) -> str:
    return uuid5(_NAMES, name).hex


def _iam_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
