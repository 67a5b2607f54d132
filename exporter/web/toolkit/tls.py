"""Build the TLS context that a web configuration asks for: never one that lets in more."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from exporter.web.toolkit.client_policy import ClientPolicy
from exporter.web.toolkit.connection import ServerConnection, ServerContext
from exporter.web.toolkit.names import CURVES, DEFAULT_CIPHERS, TLS12_CIPHERS, VERSIONS
from exporter.web.toolkit.scalars import Pem
from exporter.web.toolkit.settings import TlsServer

# OpenSSL's own floor for keys and signatures (2: 2048-bit RSA, no SHA-1), which a cipher list would reset.
_SECURITY = "@SECLEVEL=2"
_FIRST_LINE = "-----BEGIN "


class BadTls(Exception):
    """Settings that make no context; `key` names the one to look at."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def server_context(tls: TlsServer) -> ServerContext:
    """Build the context. Raises: BadTls."""
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = ServerConnection
    context.set_alpn_protocols(["http/1.1"])
    _set_protocol(context, tls)
    _set_curves(context, tls)
    _set_certificate(context, tls)
    _set_clients(context, tls)
    return context


def _set_protocol(context: ServerContext, tls: TlsServer) -> None:
    suites = [name for name in tls.cipher_suites or DEFAULT_CIPHERS if name in TLS12_CIPHERS]
    least = VERSIONS[tls.min_version] if suites else ssl.TLSVersion.TLSv1_3
    context.minimum_version, context.maximum_version = least, VERSIONS[tls.max_version]
    names = [TLS12_CIPHERS[suite] for suite in suites or DEFAULT_CIPHERS]
    try:
        context.set_ciphers(":".join([*names, _SECURITY]))
    except ssl.SSLError:
        raise BadTls("cipher_suites", "found none that this machine's OpenSSL has, expected others") from None
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if tls.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE


def _set_curves(context: ServerContext, tls: TlsServer) -> None:
    try:
        for name in tls.curve_preferences:  # one at most: Python's ssl sets no list
            context.set_ecdh_curve(CURVES[name])
    except ValueError:
        message = "cannot be set with this Python's OpenSSL, expected none"
        raise BadTls("curve_preferences", message) from None


def _set_certificate(context: ServerContext, tls: TlsServer) -> None:
    key = "key_file" if tls.key_file else "key"
    with ExitStack() as opened:
        certificate = opened.enter_context(_as_file(tls.certificate))
        private_key = opened.enter_context(_as_file(tls.private_key))
        try:
            context.load_cert_chain(certificate, private_key, password=_no_passphrase)
        except _Encrypted:
            message = f"{_where(tls.private_key)}found an encrypted key, expected one without a passphrase"
            raise BadTls(key, message) from None
        except ssl.SSLError as exc:
            raise BadTls(key, f"{_where(tls.private_key)}{_reason(exc)}") from None


def _reason(error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "found the key of another certificate, expected that of cert or cert_file"
    reason = (error.reason or "no reason given").replace("_", " ").lower()
    return f"found a certificate and key that OpenSSL does not take ({reason}), expected a valid pair"


class _Encrypted(Exception):
    pass


def _no_passphrase() -> str:
    raise _Encrypted


def _set_clients(context: ServerContext, tls: TlsServer) -> None:
    context.policy = ClientPolicy(frozenset(tls.client_allowed_sans))
    if not tls.asks_clients:
        return
    # A resumed session is not verified anew.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    _set_authorities(context, tls)
    context.verify_mode = ssl.CERT_REQUIRED if tls.requires_clients else ssl.CERT_OPTIONAL


def _set_authorities(context: ServerContext, tls: TlsServer) -> None:
    authorities = tls.client_authorities
    if authorities is None:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    key = "client_ca_file" if tls.client_ca_file else "client_ca"
    try:
        text = authorities.content.decode("ascii", "ignore")
        context.load_verify_locations(cadata=text[text.index(_FIRST_LINE) :])
        # As in Go, what is in the list is trusted by itself, whoever signed it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    except (ssl.SSLError, ValueError):
        message = f"{_where(authorities)}found no certificate that OpenSSL can read, expected one in PEM"
        raise BadTls(key, message) from None


def _where(pem: Pem) -> str:
    return f"{pem.file}: " if pem.file else ""


@contextmanager
def _as_file(pem: Pem) -> Iterator[str]:
    """Give a name to what was read: ssl takes files only. It is in memory, and nobody else's."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(pem.content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
