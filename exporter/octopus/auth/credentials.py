"""
Being allowed to ask: what all credentials are, and those that are given as they are.

`access_key` signs requests, `password` gets tokens from IAM, `chain` takes what the official SDK finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from exporter.errors import AuthError, ConfigError
from exporter.octopus.messages import Request, RequestAuth, fingerprint

# Called right before sending: a signature ages while its request queues.
Authoriser = Callable[[Request], RequestAuth]


class SecretSource(Protocol):
    @property
    def from_file(self) -> bool:
        """Whether `get` reads a file, which may take a while."""

    def get(self) -> str:
        """The secret as it is now: a file is read again."""


@dataclass(frozen=True, slots=True)
class ProjectScope:
    """For which project a request is allowed; `project` is the label."""

    project: str
    project_id: str


class Credentials(Protocol):
    def authorise(self, scope: ProjectScope) -> AbstractAsyncContextManager[Authoriser]:
        """
        Allow one exchange, which takes place inside the block: its end tells whether the secret was accepted.

        Raises: ApiError (no token to be had); CredentialsRefused, at once, while a refused secret cools down.
        """

    async def renew(self, rejected: RequestAuth, scope: ProjectScope) -> bool:
        """
        Get something else than what the API rejected; tell whether there is.

        Raises: ApiError (no token to be had).
        """

    async def refresh(self, denied: RequestAuth, scope: ProjectScope, *, may_renew: bool) -> bool:
        """
        Get a newer token than the one that was answered with 403; tell whether there is one.

        Permissions given later are in newer tokens only. `may_renew` False: only what there is already. What
        cannot be renewed, and keys, which carry no permissions, are not tried again.
        Raises: ApiError (no token to be had, and the old one does not serve any more).
        """

    def expires_at(self, scope: ProjectScope) -> float | None:
        """
        Tell when what is in use for this project ends (Unix seconds); None where that is not known.

        Any thread may ask.
        """


class TokenCredentials:
    """A token somebody else renews; its file is read again at every use."""

    def __init__(self, *, name: str, token: SecretSource) -> None:
        self._name = name
        self._token = token

    @asynccontextmanager
    async def authorise(self, scope: ProjectScope) -> AsyncIterator[Authoriser]:
        grant = await self._grant()
        yield lambda request: grant

    async def renew(self, rejected: RequestAuth, scope: ProjectScope) -> bool:
        return (await self._grant()).fingerprint != rejected.fingerprint

    async def refresh(self, denied: RequestAuth, scope: ProjectScope, *, may_renew: bool) -> bool:
        return await self.renew(denied, scope)

    def expires_at(self, scope: ProjectScope) -> float | None:
        return None

    async def _grant(self) -> RequestAuth:
        (token,) = await read_secrets(self._name, token=self._token)
        return token_grant(self._name, token)


def token_grant(name: str, token: str) -> RequestAuth:
    """Raises: AuthError (no token, or one that no header can carry)."""
    check_secret(name, "token", token)
    return RequestAuth("token", {"X-Auth-Token": token}, fingerprint(token), (token,))


def check_secret(name: str, key: str, secret: str) -> None:
    """Raises: AuthError (nothing, or what no header can carry)."""
    if not secret:
        raise AuthError(f"credentials {name}: {key} is empty")
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise AuthError(f"credentials {name}: {key} holds a blank or a character that no header can carry")


async def read_secrets(name: str, **secrets: SecretSource) -> list[str]:
    """
    Read secrets as they are now, in a thread where that may take a while.

    Raises: AuthError (one cannot be read).
    """
    if any(secret.from_file for secret in secrets.values()):
        return await asyncio.to_thread(_read_all, name, secrets)
    return _read_all(name, secrets)


def _read_all(name: str, secrets: Mapping[str, SecretSource]) -> list[str]:
    return [_read(name, key, secret) for key, secret in secrets.items()]


def _read(name: str, key: str, secret: SecretSource) -> str:
    try:
        value = secret.get()
        # Bytes of an environment variable that are no text: what would hash or send it would stumble.
        value.encode()
    except (OSError, ValueError, ConfigError) as exc:
        raise AuthError(f"credentials {name}: {key} cannot be read: {exc}") from exc
    return value
