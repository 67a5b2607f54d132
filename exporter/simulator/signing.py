"""
Verify the SDK-HMAC-SHA256 signature of a request.

Written apart from the exporter's signer, so that the two check each other.
Source: the signing vectors in the tests, the published example among them.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from urllib.parse import quote

ALGORITHM = "SDK-HMAC-SHA256"
MAX_SKEW_SECONDS = 15 * 60

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Access=(?P<key>[^,]+), SignedHeaders=(?P<headers>[^,]+), "
    r"Signature=(?P<signature>[0-9a-f]+)"
)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """
    What is signed.

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
