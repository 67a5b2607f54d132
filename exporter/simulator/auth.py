"""
Authentication: tokens that IAM issues for a password, and requests signed with SDK-HMAC-SHA256.

The code that verifies signatures is independent of the exporter's signer, so that each checks the other.
It reads no clock: every call passes the real time. Units: real Unix seconds.
Source: the signing vectors in the tests, the published example among them.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """A request as its signature covers it. Shape: `path`, `query` decoded, `headers` by lower-case name."""

    method: str
    path: str
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes = b""


def signature(request: SignedRequest, signed_headers: Sequence[str], secret_key: str) -> str:
    """
    Compute the signature: HMAC over the algorithm, the date and the hash of the canonical request.

    This is: method, path with a final slash, sorted query, signed headers, their names and the body's hash.
    """
    path = quote(request.path, safe="/~").rstrip("/") + "/"
    pairs = (f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in sorted(request.query))
    headers = (f"{name}:{request.headers.get(name, '').strip()}\n" for name in signed_headers)
    lines = (request.method, path, "&".join(pairs), "".join(headers), ";".join(signed_headers))
    canonical = "\n".join((*lines, sha256(request.body).hexdigest()))
    digest = sha256(canonical.encode()).hexdigest()
    text = f"{ALGORITHM}\n{request.headers.get('x-sdk-date', '')}\n{digest}"
    return hmac.new(secret_key.encode(), text.encode(), sha256).hexdigest()


@dataclass(slots=True)
class Lock:
    """Locks an account or a key for a time after more than five failures in a row."""

    seconds: float
    _failures: int = 0
    _until: float = 0.0

    def is_locked(self, now: float) -> bool:
        return now < self._until

    def note(self, success: bool, now: float) -> None:
        self._failures = 0 if success else self._failures + 1
        if self._failures > MAX_FAILURES:
            # From 0 again: once it is unlocked, it takes as many failures to lock it again.
            self._failures, self._until = 0, now + self.seconds


@dataclass(slots=True)
class IssuedToken:
    project_id: str
    expires_at: float
    is_revoked: bool = False


class Authenticator:
    """Issues tokens, checks requests. Shape: a scope has a project's id or name, such as cn-north-11_2."""

    def __init__(
        self, credentials: DemoCredentials, projects: tuple[str, ...], ttl_seconds: float, seed: int
    ) -> None:
        self._credentials = credentials
        self._projects = {
            f"cn-north-11_{number}" if number > 1 else "cn-north-11": project
            for number, project in enumerate(projects, 1)
        }
        self._ttl_seconds = ttl_seconds
        self._rng = Random(f"tokens {seed}")
        self._tokens: dict[str, IssuedToken] = {}
        self._user_lock = Lock(USER_LOCKED_SECONDS)
        self._key_lock = Lock(KEY_LOCKED_SECONDS)

    def issue(self, body: bytes, now: float, expires_at: str | None = None) -> SimulatedResponse:
        """
        Answer a request for a token: 201 with the token in X-Subject-Token, or the reason for the refusal.

        Shape: `expires_at` is written instead of the true time of expiry.
        """
        known = self._credentials
        try:
            auth = msgspec.json.decode(body)["auth"]
            user = auth["identity"]["password"]["user"]
            given = user["domain"]["name"], user["name"], user["password"]
            is_right = "password" in auth["identity"]["methods"]
            scope_id, scope_name = map(auth["scope"]["project"].get, ("id", "name"))
        except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
            return iam_error(400, "Bad Request", "The request body is invalid.")
        # Before the password is looked at: while an account is locked, the right one is refused too.
        if self._user_lock.is_locked(now):
            return iam_error(401, "Unauthorized", "The account is locked. Please try again later.")
        is_right = is_right and given == (known.domain, known.user, known.password)
        self._user_lock.note(is_right, now)
        if not is_right:
            return iam_error(401, "Unauthorized", "The username or password is wrong.")
        for name, project_id in self._projects.items():
            if scope_id == project_id or (scope_id is None and scope_name == name):
                return self._issued(name, now, expires_at)
        return iam_error(404, "Not Found", "The project in the scope does not exist.")

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
        if text in self._tokens:
            self._tokens[text].expires_at = 0.0

    def revoke(self, text: str) -> None:
        """Refuse a token with 403 from now on."""
        if text in self._tokens:
            self._tokens[text].is_revoked = True

    def check_signature(
        self, request: SignedRequest, request_id: str, now: float
    ) -> SimulatedResponse | None:
        """Return the refusal of a signed request, or None."""
        if self._key_lock.is_locked(now):
            return gateway_error(401, "APIGW.0301", _KEY_LOCKED, request_id)
        is_right = self._has_right_signature(request)
        # A wrong signature counts towards the lock. One that is right and too old does not.
        self._key_lock.note(is_right, now)
        if not is_right:
            return gateway_error(401, "APIGW.0301", _BAD_SIGNATURE, request_id)
        try:
            date = datetime.strptime(request.headers.get("x-sdk-date", ""), "%Y%m%dT%H%M%S%z")
            is_recent = abs(date.timestamp() - now) <= MAX_SKEW_SECONDS
        except ValueError:
            is_recent = False
        return None if is_recent else gateway_error(401, "APIGW.0301", _OLD_SIGNATURE, request_id)

    def _has_right_signature(self, request: SignedRequest) -> bool:
        match = _AUTHORIZATION.fullmatch(request.headers.get("authorization", "").strip())
        if match is None or match["key"] != self._credentials.access_key:
            return False
        if request.headers.get("x-security-token", "") != self._credentials.security_token:
            return False
        expected = signature(request, match["headers"].split(";"), self._credentials.secret_key)
        return hmac.compare_digest(expected, match["signature"])

    def _issued(self, project_name: str, now: float, expires_at: str | None) -> SimulatedResponse:
        # As long as real tokens, and with their first letters: code that logs or cuts them must meet both.
        text = "MII" + b64encode(self._rng.randbytes(TOKEN_BYTES)).decode()
        token = self._tokens[text] = IssuedToken(self._projects[project_name], now + self._ttl_seconds)
        known = self._credentials
        domain = {"id": uuid5(_NAMES, known.domain).hex, "name": known.domain}
        user = {"id": uuid5(_NAMES, known.user).hex, "name": known.user, "domain": domain}
        shown = {
            "methods": ["password"],
            "issued_at": _iam_time(now),
            "expires_at": expires_at or _iam_time(token.expires_at),
            "project": {"id": token.project_id, "name": project_name, "domain": domain},
            "roles": [{"id": "0", "name": "te_admin"}],
            "user": user | {"password_expires_at": ""},
        }
        return json_response(201, {"token": shown}, {"X-Subject-Token": text})


def _iam_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
