"""Whom a TLS handshake lets in, beyond what OpenSSL has verified."""

from __future__ import annotations

import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

Certificate = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClientPolicy:
    """
    What is asked of a client's certificate that OpenSSL has verified.

    Shape: `allowed_sans` empty is any.
    """

    allowed_sans: frozenset[str]

    def check(self, certificate: Certificate | None, *, resumed: bool) -> None:
        """
        Refuse what may not connect.

        Shape: `certificate` as SSLObject.getpeercert() gives it; None where the client showed none.
        Raises: SSLCertVerificationError.
        """
        if self.allowed_sans and self.allowed_sans.isdisjoint(names(certificate)):
            raise ssl.SSLCertVerificationError("the client's certificate has none of client_allowed_sans")
        # OpenSSL looks at the dates in a full handshake, and not again when a session is resumed.
        if resumed and certificate and has_ended(certificate, time.time()):
            raise ssl.SSLCertVerificationError("the client's certificate has expired")


def names(certificate: Certificate | None) -> Collection[str]:
    """Give a certificate's DNS names, IP and e-mail addresses and URIs, spelled as Go does."""
    return set(_names(certificate)) if certificate else ()


def _names(certificate: Certificate) -> Iterator[str]:
    for kind, name in certificate.get("subjectAltName", ()):
        if kind in {"DNS", "email", "URI"}:
            yield name
        elif kind == "IP Address":
            with suppress(ValueError):  # OpenSSL writes <invalid> for one of an impossible length
                yield str(ip_address(name.strip()))


def has_ended(certificate: Certificate, now: float) -> bool:
    """Tell whether a certificate is no longer valid. Units: `now` in Unix seconds."""
    return ssl.cert_time_to_seconds(certificate["notAfter"]) < now
