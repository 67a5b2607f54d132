"""Credentials that sign requests with an access key."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from exporter.octopus.auth.credentials import (
    Authoriser,
    ProjectScope,
    SecretSource,
    check_secret,
    read_secrets,
)
from exporter.octopus.auth.lockout_guard import SecretTrial
from exporter.octopus.auth.signing import AccessKey, signed_grant
from exporter.octopus.messages import RequestAuth


class AccessKeyCredentials:
    """An access key, its parts read again at every use; a refused one cools down."""

    def __init__(
        self,
        *,
        name: str,
        access_key: SecretSource,
        secret_key: SecretSource,
        security_token: SecretSource | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._parts = {"access_key": access_key, "secret_key": secret_key}
        if security_token is not None:
            self._parts["security_token"] = security_token
        self._clock = clock
        self._trial = SecretTrial(name, clock=clock)

    @asynccontextmanager
    async def authorise(self, scope: ProjectScope) -> AsyncIterator[Authoriser]:
        key = await self._key()
        async with self._trial.attempt(key.fingerprint):
            yield partial(signed_grant, key=key, project_id=scope.project_id, clock=self._clock)

    async def renew(self, rejected: RequestAuth, scope: ProjectScope) -> bool:
        return (await self._key()).fingerprint != rejected.fingerprint

    async def refresh(self, denied: RequestAuth, scope: ProjectScope, *, may_renew: bool) -> bool:
        return False

    def expires_at(self, scope: ProjectScope) -> float | None:
        return None

    async def _key(self) -> AccessKey:
        return checked_key(self._name, AccessKey(*await read_secrets(self._name, **self._parts)))


def checked_key(name: str, key: AccessKey) -> AccessKey:
    """Raises: AuthError (a part is missing, or no header can carry it)."""
    check_secret(name, "access_key", key.access_key)
    check_secret(name, "secret_key", key.secret_key)
    if key.security_token:
        check_secret(name, "security_token", key.security_token)
    return key
