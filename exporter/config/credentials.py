"""The models of the credentials: a token, a user's password, an access key, or the SDK's provider chain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo

from exporter.config.addresses import ENDPOINT, iam_endpoint, parse_endpoint
from exporter.config.fields import IN_QUOTES, FileName, Parsed, Scalar, Section, TextScalar
from exporter.config.problems import expected, refused
from exporter.config.secret import MASK, Secret, is_secret_text


@dataclass(frozen=True)
class SecretScalar(Scalar):
    """
    A secret, given either in the key itself or as a file in the key `…_file`.

    The model has to declare the field of the file first: pydantic validates fields in their order, and
    this one looks at the other. An `optional` secret that is not given is None.
    """

    optional: bool = False

    def read(self, value: object) -> Secret:
        if isinstance(value, bool):
            raise expected(f"a text, {IN_QUOTES}")
        text = str(value) if isinstance(value, str | int) else ""
        if not is_secret_text(text):
            raise expected("one line of text that is not empty")
        return Secret(text)

    def read_at(self, value: object, info: ValidationInfo) -> Secret | None:
        key = f"{info.field_name}"
        file = info.data.get(f"{key}_file")
        if value is not None and value != NOT_GIVEN:
            if file is not None:
                raise refused(f"{key}_file is given too, expected only one of both")
            return value if isinstance(value, Secret) else self.read(value)
        if file is not None:
            return Secret(file=file)
        # A field with an error is missing in info.data: its error is reported already.
        if self.optional or f"{key}_file" not in info.data:
            return None
        raise refused(f"missing, expected {key} or {key}_file")

    def write(self, value: Secret | None) -> str | None:
        return None if value is None else MASK


NOT_GIVEN = Secret()

RequiredSecret = Annotated[Secret, SecretScalar()]
OptionalSecret = Annotated[Secret | None, SecretScalar(optional=True)]
SecretFile = Annotated[Path | None, FileName()]


def _secret() -> Any:
    """Declare the field of a secret. It is validated even if it is not given: its file may be given."""
    return Field(default_factory=lambda: NOT_GIVEN, validate_default=True)


class TokenSettings(Section):
    """A token that something else gets and renews. As a file, it is read again at every use."""

    type: Literal["token"]
    """the word token"""
    token_file: SecretFile = None
    """a file with the token"""
    token: RequiredSecret = _secret()
    """the token"""


class PasswordSettings(Section):
    """A user's name and password, for which IAM gives tokens."""

    type: Literal["password"]
    """the word password"""
    domain: Annotated[str, TextScalar("the account's name")]
    """the account's name"""
    user: Annotated[str, TextScalar("the IAM user's name")]
    """the IAM user's name"""
    password_file: SecretFile = None
    """a file with the password"""
    password: RequiredSecret = _secret()
    """the password"""
    iam_endpoint: Annotated[str | None, Parsed(ENDPOINT, parse_endpoint)] = None
    """where tokens are asked for; by default the IAM of the project's region"""

    def iam_endpoint_for(self, region: str) -> str:
        """Give the IAM endpoint that gives tokens for this region ("" if the project has none)."""
        return self.iam_endpoint or iam_endpoint(region)


class AccessKeySettings(Section):
    """An access key and its secret key, permanent or (with a security token) temporary."""

    type: Literal["aksk"]
    """the word aksk"""
    access_key_file: SecretFile = None
    """a file with the access key"""
    access_key: RequiredSecret = _secret()
    """the access key"""
    secret_key_file: SecretFile = None
    """a file with the secret key"""
    secret_key: RequiredSecret = _secret()
    """the secret key"""
    security_token_file: SecretFile = None
    """a file with the security token"""
    security_token: OptionalSecret = _secret()
    """the security token of a temporary access key"""


class ChainSettings(Section):
    """The official SDK's provider chain: environment, profile, ECS agency, OIDC, pod identity."""

    type: Literal["chain"]
    """the word chain"""


AnyCredentials = TokenSettings | PasswordSettings | AccessKeySettings | ChainSettings
Credentials = Annotated[AnyCredentials, Field(discriminator="type")]

CREDENTIALS: dict[str, type[Section]] = {
    "token": TokenSettings,
    "password": PasswordSettings,
    "aksk": AccessKeySettings,
    "chain": ChainSettings,
}
