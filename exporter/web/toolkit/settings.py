"""The web configuration file: every key, its default, and what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from exporter.config.scalars import ChoiceScalar, Flag, TextScalar, Whole
from exporter.config.section import Section
from exporter.web.toolkit.names import CIPHERS, CURVES, HEADERS, NO_CLIENT_CERT, VERSIONS
from exporter.web.toolkit.scalars import (
    CERTIFICATE,
    PRIVATE_KEY,
    BcryptHash,
    ClientAuthType,
    GoDuration,
    HeaderValue,
    InlinePem,
    Pem,
    PemFile,
    UserName,
)

# Never in use: a TlsServer without a certificate or key is none.
_NO_PEM = Pem(b"", None)

Version = Annotated[str, ChoiceScalar(tuple(VERSIONS))]
Certificate = Annotated[Pem | None, InlinePem(CERTIFICATE)]
CertificateFile = Annotated[Pem | None, PemFile(CERTIFICATE)]


class TlsServer(Section):
    """How connections are encrypted, and who may open one."""

    cert: Certificate = None
    """the certificate, with those that sign it, in PEM"""
    key: Annotated[Pem | None, InlinePem(PRIVATE_KEY)] = None
    """the certificate's key, in PEM"""
    client_ca: Certificate = None
    """the certificates that sign those of clients, in PEM"""
    cert_file: CertificateFile = None
    """a file with the certificate"""
    key_file: Annotated[Pem | None, PemFile(PRIVATE_KEY)] = None
    """a file with the certificate's key"""
    client_ca_file: CertificateFile = None
    """a file with the certificates that sign those of clients"""
    client_auth_type: Annotated[str, ClientAuthType()] = NO_CLIENT_CERT
    """whether clients are asked for a certificate, and what it has to be"""
    client_allowed_sans: tuple[Annotated[str, TextScalar("a DNS name, IP, e-mail address or URI")], ...] = ()
    """the subject alternative names of which a client's certificate has to have one"""
    min_version: Version = "TLS12"
    """the least version that is spoken"""
    max_version: Version = "TLS13"
    """the highest version that is spoken"""
    cipher_suites: tuple[Annotated[str, ChoiceScalar(CIPHERS)], ...] = ()
    """the cipher suites up to TLS 1.2"""
    curve_preferences: tuple[Annotated[str, ChoiceScalar(tuple(CURVES))], ...] = ()
    """the curve of the key exchange, one at most"""
    prefer_server_cipher_suites: Annotated[bool, Flag()] = True
    """whether the order of cipher_suites decides, not the client's"""

    @property
    def certificate(self) -> Pem:
        return self.cert or self.cert_file or _NO_PEM

    @property
    def private_key(self) -> Pem:
        return self.key or self.key_file or _NO_PEM

    @property
    def client_authorities(self) -> Pem | None:
        return self.client_ca or self.client_ca_file

    @property
    def asks_clients(self) -> bool:
        return self.client_auth_type != NO_CLIENT_CERT

    @property
    def requires_clients(self) -> bool:
        return self.client_auth_type == "RequireAndVerifyClientCert"


class Headers(Section):
    """Headers of every answer; an empty one is not set."""

    content_security_policy: Annotated[str, HeaderValue()] = Field(
        default="", alias="Content-Security-Policy"
    )
    strict_transport_security: Annotated[str, HeaderValue()] = Field(
        default="", alias="Strict-Transport-Security"
    )
    x_content_type_options: Annotated[str, HeaderValue(HEADERS["X-Content-Type-Options"])] = Field(
        default="", alias="X-Content-Type-Options"
    )
    x_frame_options: Annotated[str, HeaderValue(HEADERS["X-Frame-Options"])] = Field(
        default="", alias="X-Frame-Options"
    )
    x_xss_protection: Annotated[str, HeaderValue()] = Field(default="", alias="X-XSS-Protection")

    @classmethod
    def keys(cls) -> dict[str, str]:
        return dict.fromkeys(HEADERS, "a header's value")

    def given(self) -> dict[str, str]:
        """Give the headers there are, by name."""
        return {name: value for name, value in self.model_dump(by_alias=True).items() if value}


class HttpServer(Section):
    """How HTTP is spoken."""

    http2: Annotated[bool | None, Flag()] = None
    """taken, and without effect"""
    headers: Headers = Headers()
    """headers of every answer"""


class RateLimit(Section):
    """How many requests are answered."""

    interval_seconds: Annotated[float, GoDuration()] = 0.0
    """the time in which one more request is allowed; 0: no limit"""
    burst: Annotated[int, Whole(0)] = 0
    """how many requests may come at once"""


class WebSettings(Section):
    """The whole file, checked."""

    tls_server_config: TlsServer | None = None
    """how connections are encrypted"""
    http_server_config: HttpServer = HttpServer()
    """how HTTP is spoken"""
    basic_auth_users: Mapping[Annotated[str, UserName()], Annotated[bytes, BcryptHash()]] = Field(
        default={}, repr=False
    )
    """users and the bcrypt hashes of their passwords"""
    rate_limit: RateLimit = RateLimit()
    """how many requests are answered"""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_tls(cls, data: object) -> object:
        """Take `tls_server_config: {}` as no TLS, as the toolkit does; a key in it asks for TLS."""
        if isinstance(data, Mapping) and data.get("tls_server_config") == {}:
            return {key: value for key, value in data.items() if key != "tls_server_config"}
        return data


SECTIONS: dict[str, type[Section]] = {
    "tls_server_config": TlsServer,
    "http_server_config": HttpServer,
    "rate_limit": RateLimit,
}
