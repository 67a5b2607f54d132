"""The web configuration file: the types of its values, then every key, its default, and what it is for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationInfo, model_validator

from exporter.config.durations import parse_go_duration
from exporter.config.fields import ChoiceScalar, Flag, Scalar, Section, TextScalar, Whole
from exporter.config.problems import expected, refused
from exporter.config.secret import MASK
from exporter.web.toolkit.names import (
    CIPHERS,
    CLIENT_AUTH_TYPES,
    CURVES,
    NO_CLIENT_CERT,
    UNVERIFIED_TYPES,
    VERSIONS,
)
from exporter.web.toolkit.watched_files import WatchedFiles

# Version and cost, then 53 characters of salt and hash.
_BCRYPT = re.compile(r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")

CERTIFICATE = "CERTIFICATE"
PRIVATE_KEY = "PRIVATE KEY"


@dataclass(frozen=True, slots=True)
class Pem:
    """A certificate, a chain of them or a key; `file` is None if it is in the web configuration itself."""

    content: bytes = field(repr=False)
    file: Path | None


@dataclass(frozen=True)
class PemScalar(Scalar):
    """PEM in the file itself; an empty text is None. Shape: `what` ends its first line: CERTIFICATE."""

    what: str

    def read(self, value: object) -> Pem | None:
        if value == "":
            return None
        if not isinstance(value, str) or not self._is_in(value.encode()):
            raise expected(f"{self._named} in PEM")
        return Pem(value.encode(), None)

    def write(self, value: Pem | None) -> str | None:
        return None if value is None else "<pem>"

    @property
    def _named(self) -> str:
        return "a certificate" if self.what == CERTIFICATE else "a private key"

    def _is_in(self, content: bytes) -> bool:
        return re.search(rb"-----BEGIN [A-Z0-9 ]*%s-----" % self.what.encode(), content) is not None


@dataclass(frozen=True)
class PemFile(PemScalar):
    """A file of PEM, read through the context's `files`; a relative name is in the context's `folder`."""

    def read_at(self, value: object, info: ValidationInfo) -> Pem | None:
        if value == "":
            return None
        name = TextScalar("a file name").read(value)
        context: dict[str, Any] = info.context or {}
        path: Path = context["folder"] / name
        files: WatchedFiles = context["files"]
        try:
            content = files.read(path)
        except OSError as error:
            raise refused(f"{path}: cannot be read ({error.strerror}), expected {self._named}") from None
        if not self._is_in(content):
            raise refused(f"{path}: found no {self.what} in it, expected {self._named} in PEM")
        return Pem(content, path)


@dataclass(frozen=True)
class ClientAuthType(Scalar):
    """How clients are asked for certificates; an empty text is NoClientCert."""

    def read(self, value: object) -> str:
        name = str(value) or NO_CLIENT_CERT
        if name in UNVERIFIED_TYPES:
            fault = f"found {name}, which verifies no certificate: Python's ssl cannot do that"
            raise refused(f"{fault}, expected {' or '.join(CLIENT_AUTH_TYPES[1:])}")
        return ChoiceScalar(CLIENT_AUTH_TYPES).read(name)


@dataclass(frozen=True)
class BcryptHash(Scalar):
    def read(self, value: object) -> bytes:
        if not isinstance(value, str) or not _BCRYPT.fullmatch(value):
            raise expected("a bcrypt hash such as htpasswd -nBC 10 USER gives")
        return value.encode("ascii")

    def write(self, value: bytes) -> str:
        return MASK


@dataclass(frozen=True)
class UserName(Scalar):
    """The name of a user. In the header of a request, a colon ends it."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value or ":" in value:
            raise expected("a user name without a colon")
        return TextScalar("a user name").read(value)


@dataclass(frozen=True)
class HeaderValue(Scalar):
    """The value of a header: one of `allowed` (if empty: any value), or an empty text."""

    allowed: tuple[str, ...] = ()

    def read(self, value: object) -> str:
        if value == "":
            return ""
        if self.allowed and value not in self.allowed:
            raise expected(" or ".join(self.allowed))
        return TextScalar("a header's value: one line of ASCII", r"[\x20-\x7e]+").read(value)


@dataclass(frozen=True)
class GoDuration(Scalar):
    """A duration as Go writes it. Units: seconds."""

    def read(self, value: object) -> float:
        try:
            return parse_go_duration(str(value))
        except ValueError:
            raise expected("0 or a duration such as 1s, 500ms or 1m30s") from None


# Never used: the check of the document refuses TLS without a certificate or a key.
_NO_PEM = Pem(b"", None)

Version = Annotated[str, ChoiceScalar(tuple(VERSIONS))]
Certificate = Annotated[Pem | None, PemScalar(CERTIFICATE)]
CertificateFile = Annotated[Pem | None, PemFile(CERTIFICATE)]


class TlsSettings(Section):
    """How connections are encrypted, and who may open one."""

    cert: Certificate = None
    """the certificate, with those that sign it, in PEM"""
    key: Annotated[Pem | None, PemScalar(PRIVATE_KEY)] = None
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
    """the lowest version that is spoken"""
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


def _header_name(attribute: str) -> str:
    return attribute.replace("_", "-").title().replace("Xss", "XSS")


class HeaderSettings(Section):
    """Headers of every answer; an empty one is not set."""

    model_config = ConfigDict(alias_generator=_header_name)

    content_security_policy: Annotated[str, HeaderValue()] = ""
    strict_transport_security: Annotated[str, HeaderValue()] = ""
    x_content_type_options: Annotated[str, HeaderValue(("nosniff",))] = ""
    x_frame_options: Annotated[str, HeaderValue(("deny", "sameorigin"))] = ""
    x_xss_protection: Annotated[str, HeaderValue()] = ""

    def given(self) -> dict[str, str]:
        """Give the headers to set, by name."""
        return {name: value for name, value in self.model_dump(by_alias=True).items() if value}


class HttpSettings(Section):
    http2: Annotated[bool | None, Flag()] = None
    """accepted, and without effect"""
    headers: HeaderSettings = HeaderSettings()
    """headers of every answer"""


class RateLimitSettings(Section):
    interval_seconds: Annotated[float, GoDuration()] = 0.0
    """the time in which one more request is allowed; 0: no limit"""
    burst: Annotated[int, Whole(0)] = 0
    """how many requests may come at once"""


class ToolkitSettings(Section):
    tls_server_config: TlsSettings | None = None
    """how connections are encrypted"""
    http_server_config: HttpSettings = HttpSettings()
    """how HTTP is spoken"""
    basic_auth_users: Mapping[Annotated[str, UserName()], Annotated[bytes, BcryptHash()]] = Field(
        default={}, repr=False
    )
    """users and the bcrypt hashes of their passwords"""
    rate_limit: RateLimitSettings = RateLimitSettings()
    """how many requests are answered"""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_tls(cls, data: object) -> object:
        """Treat `tls_server_config: {}` as no TLS, as the toolkit does. With any key in it, TLS is wanted."""
        if isinstance(data, Mapping) and data.get("tls_server_config") == {}:
            return {key: value for key, value in data.items() if key != "tls_server_config"}
        return data


SECTIONS: dict[str, type[Section]] = {
    "tls_server_config": TlsSettings,
    "http_server_config": HttpSettings,
    "rate_limit": RateLimitSettings,
}
