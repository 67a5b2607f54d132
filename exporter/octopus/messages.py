"""An HTTP exchange as data: request, authentication and response; and its observer. No I/O here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal, Protocol
from urllib.parse import quote, urlsplit

from exporter.masking import Secrets

AuthKind = Literal["token", "aksk", "password"]


class ApiObserver(Protocol):
    """Receives what the self metrics measure of requests."""

    def request(self, project: str, code: str, seconds: float) -> None:
        """One HTTP exchange ended. `code` is the HTTP status, or "error" if no response came."""

    def retry(self, project: str, reason: str) -> None:
        """A request is about to be sent again. `reason` is one of errors.REASONS."""

    def clock_skew(self, project: str, seconds: float) -> None:
        """The server's clock minus the local clock."""


class NullObserver:
    """An ApiObserver for commands without metrics."""

    def request(self, project: str, code: str, seconds: float) -> None: ...
    def retry(self, project: str, reason: str) -> None: ...
    def clock_skew(self, project: str, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class RequestAuth:
    """
    The authentication of one request.

    Shape: `fingerprint` identifies the secret without revealing it. `secrets` and `signature` must never be
    shown. A `signature` is valid for one request only.
    """

    kind: AuthKind
    headers: Mapping[str, str] = field(repr=False)
    fingerprint: str
    secrets: tuple[str, ...] = field(default=(), repr=False)
    signature: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """
    One HTTP request.

    Shape: `origin` is scheme://host[:port]. `path` and `query` are not percent-encoded yet; a repeated key in
    `query` is an array. `secrets` and `signature` are masked in every text that the response brings. The
    transport sets `mask`, which also knows the secrets of other requests.
    """

    method: str
    origin: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    auth: AuthKind | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    signature: str = field(default="", repr=False)
    mask: Callable[[str], str] | None = field(default=None, repr=False, compare=False)

    @property
    def host(self) -> str:
        return self.origin.partition("://")[2]

    @property
    def url(self) -> str:
        """The percent-encoded URL without its query, as errors show it."""
        return self.origin + quote(self.path, safe="/")

    @property
    def encoded_query(self) -> str:
        """The query, sorted and percent-encoded. It is sent exactly as it is signed."""
        return "&".join(
            f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(self.query)
        )

    @property
    def full_url(self) -> str:
        """The percent-encoded URL, byte for byte as it is sent."""
        query = self.encoded_query
        return f"{self.url}?{query}" if query else self.url

    def with_auth(self, auth: RequestAuth) -> Request:
        return replace(
            self,
            headers={**self.headers, **auth.headers},
            auth=auth.kind,
            secrets=(*self.secrets, *auth.secrets),
            signature=auth.signature,
        )

    def masked(self, text: str) -> str:
        mask = self.mask or Secrets.of(*self.secrets, self.signature).masked
        return mask(text)


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response. Shape: header names in lower case. Units: Unix seconds, by the local clock."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    sent_at: float = 0.0
    received_at: float = 0.0


def split_endpoint(endpoint: str) -> tuple[str, str]:
    """Split an endpoint into its origin and the prefix of its paths."""
    parts = urlsplit(endpoint)
    # A user name in the URL is dropped: it would show in logs, and no request logs in with it.
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.rstrip("/")


def fingerprint(*secrets: str) -> str:
    """Hash secrets, so that two can be compared without storing either."""
    return sha256("\0".join(secrets).encode()).hexdigest()
