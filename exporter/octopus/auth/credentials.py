"""The interface of all credentials, and the two simple kinds: a token and an access key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from exporter.errors import AuthError, ConfigError
from exporter.octopus.auth.lockout_guard import LockoutGuard, SharedRefusals
from exporter.octopus.auth.signing import AccessKey, sign_request
from exporter.octopus.messages import Request, RequestAuth, fingerprint

# Called right before sending: a signature made earlier would age while its request waits for the limiter.
Authoriser = Callable[[Request], RequestAuth]


class SecretSource(Protocol):
    @property
    def from_file(self) -> bool:
        """Whether `get` reads a file, which may block."""

    def get(self) -> str:
        """Return the current secret; a file is read again."""


@dataclass(frozen=True, slots=True)
class ProjectScope:
    """The project that a request is authorised for; `project` is the label."""

    project: str
    project_id: str


class Credentials(Protocol):
    def authorise(self, scope: ProjectScope) -> AbstractAsyncContextManager[Authoriser]:
        """
        Authorise one HTTP exchange. Send it inside the block: an error that leaves the block is noted.

        Raises: ApiError (no token available); CredentialsRefused, at once, while a refused secret cools down.
        """

    async def renew(self, rejected: RequestAuth, scope: ProjectScope) -> bool:
        """After a 401: get other authentication; return whether there is one. Raises: ApiError (no token)."""

    async def refresh(self, denied: RequestAuth, scope: ProjectScope, *, may_renew: bool) -> bool:
        """
        After a 403: get a newer token than the denied one; return whether there is one.

        A permission that was granted later is in newer tokens only. `may_renew` False: use a newer token only
        if there is one already. Access keys carry no permissions, so they return False.
        Raises: ApiError (no token available, and the old one is no longer valid).
        """
        return False

    def expires_at(self, scope: ProjectScope) -> float | None:
        """Return when the current token or key expires (Unix seconds); None if unknown. Thread-safe."""
        return None


# Here and below without a repr, which would show the secrets.
@dataclass(kw_only=True, eq=False, repr=False)
class TokenCredentials(Credentials):
    """A token that another program renews; its file is read again for every request."""

    name: str
    token: SecretSource

    @asynccontextmanager
    async def authorise(self, scope: ProjectScope) -> AsyncIterator[Authoriser]:
        auth = await self._auth()
        yield lambda request: auth

    async def renew(self, rejected: RequestAuth, scope: ProjectScope) -> bool:
        return (await self._auth()).fingerprint != rejected.fingerprint

    async def refresh(self, denied: RequestAuth, scope: ProjectScope, *, may_renew: bool) -> bool:
        return await self.renew(denied, scope)

    async def _auth(self) -> RequestAuth:
        (token,) = await read_secrets(self.name, token=self.token)
        return token_auth(self.name, token)


@dataclass(kw_only=True, eq=False, repr=False)
class AccessKeyCredentials(Credentials):
    """An access key that signs requests; its parts are read again for every request."""

    name: str
    access_key: SecretSource
    secret_key: SecretSource
    security_token: SecretSource | None = None
    clock: Callable[[], float] = time.time
    refusals: SharedRefusals | None = None

    def __post_init__(self) -> None:
        self._guard = LockoutGuard(self.name, clock=self.clock, shared=self.refusals)

    @asynccontextmanager
    async def authorise(self, scope: ProjectScope) -> AsyncIterator[Authoriser]:
        key = await self._key()
        async with self._guard.attempt(key.fingerprint):
            yield partial(sign_request, key=key, project_id=scope.project_id, clock=self.clock)

    async def renew(self, rejected: RequestAuth, scope: ProjectScope) -> bool:
        return (await self._key()).fingerprint != rejected.fingerprint

    async def _key(self) -> AccessKey:
        parts = {"access_key": self.access_key, "secret_key": self.secret_key}
        if self.security_token is not None:
            parts["security_token"] = self.security_token
        return checked_key(self.name, AccessKey(*await read_secrets(self.name, **parts)))


def token_auth(name: str, token: str) -> RequestAuth:
    """Raises: AuthError (the token is empty or not allowed in a header)."""
    _check_secret(name, "token", token)
    return RequestAuth("token", {"X-Auth-Token": token}, fingerprint(token), (token,))


def checked_key(name: str, key: AccessKey) -> AccessKey:
    """Raises: AuthError (a part is missing or not allowed in a header)."""
    _check_secret(name, "access_key", key.access_key)
    _check_secret(name, "secret_key", key.secret_key)
    if key.security_token:
        _check_secret(name, "security_token", key.security_token)
    return key


def _check_secret(name: str, key: str, secret: str) -> None:
    if not secret:
        raise AuthError(f"credentials {name}: {key} is empty")
    # A line break would let the secret add headers to the request.
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise AuthError(f"credentials {name}: {key} holds a blank or a character that no header can carry")


async def read_secrets(name: str, **sources: SecretSource) -> list[str]:
    """Read the current secrets, in the order of the arguments. Raises: AuthError (one cannot be read)."""

    def read_all() -> list[str]:
        secrets = []
        for key, source in sources.items():
            try:
                secret = source.get()
                # An environment variable with invalid UTF-8 holds surrogates, which cannot be hashed or sent.
                secret.encode()
            except (OSError, ValueError, ConfigError) as exc:
                raise AuthError(f"credentials {name}: {key} cannot be read: {exc}") from exc
            secrets.append(secret)
        return secrets

    # A file on a network disk can block for seconds, which would stop the event loop.
    if any(source.from_file for source in sources.values()):
        return await asyncio.to_thread(read_all)
    return read_all()
