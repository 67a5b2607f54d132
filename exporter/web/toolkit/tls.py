"""
TLS: the context that a web configuration asks for, its connections, and the check of clients' certificates.

A context never accepts more than the configuration allows: what Python's ssl cannot do raises BadTls.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address
from typing import Any

import structlog

from exporter.web.toolkit.names import CURVES, DEFAULT_CIPHERS, TLS12_CIPHERS, VERSIONS
from exporter.web.toolkit.settings import Pem, TlsSettings

Certificate = Mapping[str, Any]

_SENTENCE = b"This port speaks HTTPS only; the request came over plain HTTP.\n"
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_SENTENCE), _SENTENCE)
)
# OpenSSL's minimum for keys and signatures (2: 2048-bit RSA, no SHA-1). A cipher list without it resets it.
_SECURITY = "@SECLEVEL=2"
_FIRST_LINE = "-----BEGIN "


def names(certificate: Certificate) -> Iterator[str]:
    """Give the DNS names, IP and e-mail addresses and URIs of a certificate, written as Go writes them."""
    for kind, name in certificate.get("subjectAltName", ()):
        if kind in {"DNS", "email", "URI"}:
            yield name
        elif kind == "IP Address":
            with suppress(ValueError):  # OpenSSL writes <invalid> for an address of a wrong length
                yield str(ip_address(name.strip()))


class ServerConnection(ssl.SSLObject):
    """
    A connection that tells a client why it is refused, and checks its certificate.

    A client that speaks plain HTTP gets its answer in plain HTTP.

    asyncio closes a connection as soon as its handshake fails, before OpenSSL's alert is sent. The client
    would only see that the connection ended. So a failure is first reported as a wait for more data: then
    asyncio sends the alert. Data that comes later is discarded, until the client or asyncio's time limit
    for handshakes ends the connection.
    """

    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    _failed = False

    def do_handshake(self) -> None:
        if self._failed:
            self.incoming.read()
            raise ssl.SSLWantReadError
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            _log_refusal(error)
            # OpenSSL has read the first five bytes ("GET /"), so only the rest can be searched. It may also
            # have written a TLS alert, which a client of plain HTTP cannot read.
            if b" HTTP/1." in self.incoming.read():
                self.outgoing.read()
                self.outgoing.write(_PLAIN_ANSWER)
            if not self.outgoing.pending:
                raise
            self._failed = True
            raise ssl.SSLWantReadError from error
        try:
            if isinstance(self.context, ServerContext):
                self.context.check_client(self.getpeercert(), resumed=bool(self.session_reused))
        except ssl.SSLError as error:  # OpenSSL does not know this check, and has no alert to send
            _log_refusal(error)
            raise


def _log_refusal(error: ssl.SSLError) -> None:
    # Errors of OpenSSL have the attribute `reason`; those of `check_client` do not.
    structlog.get_logger().debug("TLS handshake refused", reason=getattr(error, "reason", None) or str(error))


class ServerContext(ssl.SSLContext):
    """The context of a server. Shape: an empty `allowed_sans` allows any name of a client."""

    allowed_sans: frozenset[str]  # without a default: a context that nobody has set lets no client in

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kwargs: Any
    ) -> ServerConnection:
        connection = super().wrap_bio(incoming, outgoing, *args, **kwargs)
        assert isinstance(connection, ServerConnection)  # noqa: S101 - sslobject_class says so
        connection.incoming, connection.outgoing = incoming, outgoing
        return connection

    def check_client(self, certificate: Certificate | None, *, resumed: bool) -> None:
        """
        Check what OpenSSL does not check of a client's certificate, which it has verified.

        Shape: `certificate` as SSLObject.getpeercert() gives it; None if the client sent none.
        Raises: SSLCertVerificationError.
        """
        if self.allowed_sans and self.allowed_sans.isdisjoint(names(certificate or {})):
            raise ssl.SSLCertVerificationError("the client's certificate has none of client_allowed_sans")
        # OpenSSL checks the dates in a full handshake only, not when a session is resumed.
        if resumed and certificate and ssl.cert_time_to_seconds(certificate["notAfter"]) < time.time():
            raise ssl.SSLCertVerificationError("the client's certificate has expired")


class BadTls(Exception):
    """Settings from which no context can be built; `key` is the one to change."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def server_context(tls: TlsSettings) -> ServerContext:
    """Build the context. Raises: BadTls."""
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = ServerConnection
    context.set_alpn_protocols(["http/1.1"])
    _set_protocol(context, tls)
    _set_certificate(context, tls)
    _set_clients(context, tls)
    return context


def _set_protocol(context: ServerContext, tls: TlsSettings) -> None:
    suites = [name for name in tls.cipher_suites or DEFAULT_CIPHERS if name in TLS12_CIPHERS]
    # Without a suite of TLS 1.2 there must be no TLS 1.2: OpenSSL would use its default suites.
    least = VERSIONS[tls.min_version] if suites else ssl.TLSVersion.TLSv1_3
    context.minimum_version, context.maximum_version = least, VERSIONS[tls.max_version]
    names = [TLS12_CIPHERS[suite] for suite in suites or DEFAULT_CIPHERS]
    try:
        context.set_ciphers(":".join([*names, _SECURITY]))
    except ssl.SSLError:
        raise BadTls("cipher_suites", "found none that this machine's OpenSSL has, expected others") from None
    # Compression gives secrets away by their length (CRIME); renegotiation costs the server more than a
    # client.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if tls.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        for name in tls.curve_preferences:  # at most one: Python's ssl cannot set a list
            context.set_ecdh_curve(CURVES[name])
    except ValueError:
        message = "cannot be set with this Python's OpenSSL, expected none"
        raise BadTls("curve_preferences", message) from None


class _Encrypted(Exception):
    pass


def _no_passphrase() -> str:
    # Without a callback, OpenSSL would ask for the passphrase on the terminal, and wait.
    raise _Encrypted


def _set_certificate(context: ServerContext, tls: TlsSettings) -> None:
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
            reason = (exc.reason or "no reason given").replace("_", " ").lower()
            fault = (
                f"found a certificate and key that OpenSSL does not take ({reason}), expected a valid pair"
            )
            if exc.reason == "KEY_VALUES_MISMATCH":
                fault = "found the key of another certificate, expected that of cert or cert_file"
            raise BadTls(key, f"{_where(tls.private_key)}{fault}") from None


def _set_clients(context: ServerContext, tls: TlsSettings) -> None:
    context.allowed_sans = frozenset(tls.client_allowed_sans)
    if not tls.asks_clients:
        return
    # OpenSSL does not verify the certificate again when a session is resumed.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    required = tls.client_auth_type == "RequireAndVerifyClientCert"
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    authorities = tls.client_authorities
    if authorities is None:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    try:
        text = authorities.content.decode("ascii", "ignore")
        context.load_verify_locations(cadata=text[text.index(_FIRST_LINE) :])
        # As in Go, each certificate in the list is trusted by itself, even if it is no root.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    except (ssl.SSLError, ValueError):
        key = "client_ca_file" if tls.client_ca_file else "client_ca"
        message = f"{_where(authorities)}found no certificate that OpenSSL can read, expected one in PEM"
        raise BadTls(key, message) from None


def _where(pem: Pem) -> str:
    return f"{pem.file}: " if pem.file else ""


@contextmanager
def _as_file(pem: Pem) -> Iterator[str]:
    """
    Give a file name for content that was read already: ssl loads a key from a file only.

    The file is read once, so that the watched digest is that of the loaded content. The name given here
    is of a file in memory that only this process can open.
    """
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(pem.content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
