"""
What has to hold between the keys of tls_server_config.

It is checked on the file as it is, so that it is told along with what is wrong with single values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from exporter.config.problems import Problem
from exporter.web.toolkit.names import NO_CLIENT_CERT, TLS12_CIPHERS, TOO_OLD, VERSIONS

_SECTION = "tls_server_config"
_NO_CLIENTS = "found without a client_auth_type, expected RequireAndVerifyClientCert there"


def check_together(tree: object) -> list[Problem]:
    """Find what contradicts itself, or is missing, in the TLS of a document."""
    match tree:
        case {"tls_server_config": dict() as tls} if tls:
            found = (*_sources(tls), *_clients(tls), *_versions(tls), *_curves(tls))
            return [Problem((_SECTION, key), message) for key, message in found]
    return []


def _sources(tls: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key in ("cert", "key", "client_ca"):
        inline, file = tls.get(key), tls.get(f"{key}_file")
        if inline and file:
            yield key, f"found beside {key}_file, expected one of the two"
        if not inline and not file and key != "client_ca":
            yield f"{key}_file", f"missing, expected {key}_file or {key}"


def _clients(tls: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    if (tls.get("client_auth_type") or NO_CLIENT_CERT) != NO_CLIENT_CERT:
        return
    # The toolkit takes client_allowed_sans even so, and lets everybody in.
    for key in ("client_ca", "client_ca_file", "client_allowed_sans"):
        if tls.get(key):
            yield key, _NO_CLIENTS


def _versions(tls: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    low, high = str(tls.get("min_version") or "TLS12"), str(tls.get("max_version") or "TLS13")
    if low not in VERSIONS or high not in VERSIONS:
        return
    suites = tls.get("cipher_suites")
    if high in TOO_OLD:
        yield "max_version", f"found {high}, which OpenSSL speaks no more, expected TLS12 or TLS13"
    elif VERSIONS[high] < VERSIONS[low]:
        yield "max_version", f"found {high} below min_version, expected {low} or later"
    elif high == "TLS12" and isinstance(suites, list) and suites and TLS12_CIPHERS.keys().isdisjoint(suites):
        yield "cipher_suites", "found only suites of TLS 1.3 below max_version TLS12, expected one of TLS 1.2"


def _curves(tls: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    curves = tls.get("curve_preferences")
    if isinstance(curves, list) and len(curves) > 1:
        yield "curve_preferences", f"found {len(curves)} curves, expected one: Python's ssl sets no more"
