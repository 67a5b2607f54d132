"""
One HTTP exchange as data: what is asked, what came back, and what makes the asking allowed.

Nothing here sends anything; `transport` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal
from urllib.parse import quote, urlsplit

from exporter.masking import Secrets

AuthKind = Literal["token", "aksk", "password"]


@dataclass(frozen=True, slots=True)
class RequestAuth:
    """
    What makes one request allowed.

    Shape: `fingerprint` tells one secret from another without being one; `secrets` and the `signature`, which
    is good for one request, must never be shown.
    """

    kind: AuthKind
    headers: Mapping[str, str] = field(repr=False)
    fingerprint: str
    secrets: tuple[str, ...] = field(default=(), repr=False)
    signature: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """
    One request to send.

    Shape: `origin` is scheme://host[:port]; `path` and `query` are as meant, not yet percent-encoded; a
    repeated key in `query` is an array. `secrets` and `signature` are kept out of every text that an answer
    brings; `mask` knows them and those of other requests, and is set by who sends it.
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
    def encoded_path(self) -> str:
        return quote(self.path, safe="/")

    @property
    def url(self) -> str:
        """The URL without its query, as errors show it."""
        return self.origin + self.encoded_path

    @property
    def encoded_query(self) -> str:
        """The query, sorted and percent-encoded: it is sent as it is signed."""
        return "&".join(
            f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(self.query)
        )

    @property
    def full_url(self) -> str:
        """The URL, percent-encoded, byte for byte as it is sent."""
        query = self.encoded_query
        return f"{self.url}?{query}" if query else self.url

    def granted(self, grant: RequestAuth) -> Request:
        """Add what makes it allowed."""
        return replace(
            self,
            headers={**self.headers, **grant.headers},
            auth=grant.kind,
            secrets=(*self.secrets, *grant.secrets),
            signature=grant.signature,
        )

    def masked(self, text: str) -> str:
        """Mask the secrets in a text that the answer brought."""
        mask = self.mask or Secrets.of(*self.secrets, self.signature).masked
        return mask(text)


@dataclass(frozen=True, slots=True)
class Response:
    """
    One complete answer.

    Shape: header names in lower case. Units: `sent_at` and `received_at` in Unix seconds, by our clock.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    sent_at: float = 0.0
    received_at: float = 0.0


def split_endpoint(endpoint: str) -> tuple[str, str]:
    """
    Take an endpoint apart into its origin and the prefix its paths begin with.

    A user name in it is dropped: it would show in logs, and nothing here logs in that way.
    """
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.rstrip("/")


def fingerprint(*secrets: str) -> str:
    """Tell secrets apart without keeping them."""
    return sha256("\0".join(secrets).encode()).hexdigest()
