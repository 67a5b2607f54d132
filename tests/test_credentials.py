from __future__ import annotations

from pathlib import Path

import pytest

from exporter.errors import AuthError, ConfigError
from exporter.octopus.auth.credentials import AccessKeyCredentials, SecretSource, TokenCredentials
from tests.octopus_fakes import SCOPE, Clock, Secret, grant, token


class FileSecret:
    """A secret in a file, as the configuration has them."""

    from_file = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self) -> str:
        return self._path.read_text().strip()


class Unconfigured:
    from_file = False

    def get(self) -> str:
        raise ConfigError(["no such variable"])


async def test_a_token_file_is_read_again_at_every_use(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    credentials = TokenCredentials(name="default", token=FileSecret(path))
    first = await grant(credentials)
    assert first.headers == {"X-Auth-Token": "one"}
    assert not await credentials.renew(first, SCOPE)
    path.write_text("two\n")
    assert await credentials.renew(first, SCOPE)
    assert await token(credentials) == "two"


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        (FileSecret(Path("/nonexistent/token")), "token cannot be read: .*/nonexistent/token"),
        (Unconfigured(), "token cannot be read: no such variable"),
        (Secret(""), "token is empty"),
        (Secret("a\udcff"), "token cannot be read: .*surrogates not allowed"),
        (Secret("a\r\nX-Admin: yes"), "token holds a blank or a character that no header can carry"),
        (Secret("ключ"), "token holds a blank or a character that no header can carry"),
    ],
)
async def test_a_secret_that_cannot_be_sent_is_an_error_that_does_not_show_it(
    secret: SecretSource, message: str
) -> None:
    with pytest.raises(AuthError, match=f"credentials default: {message}") as caught:
        await grant(TokenCredentials(name="default", token=secret))
    assert "X-Admin" not in str(caught.value)


async def test_the_parts_of_a_key_are_read_again_at_every_use() -> None:
    access, secret, session_token = Secret("AK"), Secret("SK"), Secret("")
    credentials = AccessKeyCredentials(
        name="default", access_key=access, secret_key=secret, security_token=session_token, clock=Clock()
    )
    first = await grant(credentials)
    assert "X-Security-Token" not in first.headers
    assert not await credentials.renew(first, SCOPE)
    access.value, secret.value, session_token.value = "AK2", "SK2", "ST2"
    assert await credentials.renew(first, SCOPE)
    second = await grant(credentials)
    assert second.headers["X-Security-Token"] == "ST2"
    assert "Access=AK2," in second.headers["Authorization"]
