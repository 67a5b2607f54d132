"""What a single value of the web configuration may be, as annotations of the models' fields."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationInfo

from exporter.config.problems import expected, refused
from exporter.config.scalars import Scalar, TextScalar
from exporter.web.toolkit.durations import parse_go_duration
from exporter.web.toolkit.names import CLIENT_AUTH_TYPES, NO_CLIENT_CERT, UNVERIFIED_TYPES
from exporter.web.toolkit.watched_files import Sources

# 53 characters of salt and hash; what precedes them is the version and the cost.
_BCRYPT = re.compile(r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")

CERTIFICATE = "CERTIFICATE"
PRIVATE_KEY = "PRIVATE KEY"


@dataclass(frozen=True, slots=True)
class Pem:
    """A certificate, a chain of them or a key; `file` is None where the web configuration holds it itself."""

    content: bytes = field(repr=False)
    file: Path | None


@dataclass(frozen=True)
class _PemScalar(Scalar):
    """
    Something in PEM; an empty text is none.

    Shape: `what` is the word that its first line ends with, such as CERTIFICATE.
    """

    what: str

    def read(self, value: object) -> Pem | None:
        raise NotImplementedError

    def write(self, value: Pem | None) -> str | None:
        return None if value is None else "<pem>"

    def describe(self) -> dict[str, Any]:
        return {"type": "string"}

    @property
    def _named(self) -> str:
        return "a certificate" if self.what == CERTIFICATE else "a private key"

    def _is_in(self, content: bytes) -> bool:
        return re.search(rb"-----BEGIN [A-Z0-9 ]*%s-----" % self.what.encode(), content) is not None


@dataclass(frozen=True)
class InlinePem(_PemScalar):
    """PEM as a text of the file."""

    def read(self, value: object) -> Pem | None:
        if value == "":
            return None
        if not isinstance(value, str) or not self._is_in(value.encode()):
            raise expected(f"{self._named} in PEM")
        return Pem(value.encode(), None)


@dataclass(frozen=True)
class PemFile(_PemScalar):
    """A file of PEM, read at once through the context's `sources`; a relative name is in its `folder`."""

    def read_at(self, value: object, info: ValidationInfo) -> Pem | None:
        if value == "":
            return None
        name = TextScalar("a file name").read(value)
        context: dict[str, Any] = info.context or {}
        path: Path = context["folder"] / name
        sources: Sources = context["sources"]
        try:
            content = sources.read(path)
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
        if name not in CLIENT_AUTH_TYPES:
            raise expected(f"{', '.join(CLIENT_AUTH_TYPES[:-1])} or {CLIENT_AUTH_TYPES[-1]}")
        return name

    def describe(self) -> dict[str, Any]:
        return {"enum": [*CLIENT_AUTH_TYPES, ""]}


@dataclass(frozen=True)
class BcryptHash(Scalar):
    """A password's hash."""

    def read(self, value: object) -> bytes:
        if not isinstance(value, str) or not _BCRYPT.fullmatch(value):
            raise expected("a bcrypt hash such as htpasswd -nBC 10 USER gives")
        return value.encode("ascii")

    def write(self, value: bytes) -> str:
        return "<secret>"

    def describe(self) -> dict[str, Any]:
        return {"type": "string", "pattern": _BCRYPT.pattern}


@dataclass(frozen=True)
class UserName(Scalar):
    """A user's name; a colon would end it in the request's header."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value or ":" in value:
            raise expected("a user name without a colon")
        return TextScalar("a user name").read(value)

    def describe(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[^:]+$"}


@dataclass(frozen=True)
class HeaderValue(Scalar):
    """A header's value: one of these (none: any), or an empty text."""

    allowed: tuple[str, ...] = ()

    def read(self, value: object) -> str:
        if value == "":
            return ""
        if self.allowed and value not in self.allowed:
            raise expected(" or ".join(self.allowed))
        return TextScalar("a header's value: one line of ASCII", r"[\x20-\x7e]+").read(value)

    def describe(self) -> dict[str, Any]:
        return {"enum": ["", *self.allowed]} if self.allowed else {"type": "string"}


@dataclass(frozen=True)
class GoDuration(Scalar):
    """
    A duration in Go's spelling.

    Units: seconds.
    """

    def read(self, value: object) -> float:
        try:
            return parse_go_duration(str(value))
        except ValueError:
            raise expected("0 or a duration such as 1s, 500ms or 1m30s") from None

    def describe(self) -> dict[str, Any]:
        return {"type": ["string", "integer"]}
