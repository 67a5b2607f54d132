"""Tokens from IAM for a user name and password."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import structlog

from exporter.errors import AuthError
from exporter.octopus.auth.credentials import (
    Authoriser,
    ProjectScope,
    SecretSource,
    read_secrets,
    token_grant,
)
from exporter.octopus.auth.iam import Token, decode_token, token_request
from exporter.octopus.auth.lockout_guard import SecretTrial
from exporter.octopus.auth.renewal import Lease, LeaseKeeper, renewal_time
from exporter.octopus.messages import RequestAuth, fingerprint
from exporter.octopus.retrier import Retrier
from exporter.octopus.transport import Transport

# A token that was answered with 403 is not renewed before: nothing will have changed since it was got.
YOUNGEST_RENEWED_SECONDS = 300.0
_PASSWORD_NOTICE_SECONDS = 7 * 86400

_log = structlog.get_logger(__name__)


class PasswordCredentials:
    """
    One token per project, got from IAM, renewed well before its end and when the API rejects it.

    Workspaces of a project share its token. The password is read again for every token. Tokens of one project
    are got at least a minute apart: one that is refused before is used on until then.
    """

    def __init__(
        self,
        *,
        name: str,
        domain: str,
        user: str,
        password: SecretSource,
        iam_endpoint: str,
        transport: Transport,
        retrier: Retrier,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._domain = domain
        self._user = user
        self._password = password
        self._iam_endpoint = iam_endpoint
        self._transport = transport
        self._retrier = retrier
        self._clock = clock
        self._trial = SecretTrial(name, clock=clock)
        self._keepers: dict[str, LeaseKeeper[RequestAuth]] = {}
        self._told_password_end: float | None = None

    @asynccontextmanager
    async def authorise(self, scope: ProjectScope) -> AsyncIterator[Authoriser]:
        lease = await self._keeper(scope).get()
        yield lambda request: lease.value

    async def renew(self, rejected: RequestAuth, scope: ProjectScope) -> bool:
        lease = await self._keeper(scope).replace(rejected.fingerprint)
        return lease.fingerprint != rejected.fingerprint

    async def refresh(self, denied: RequestAuth, scope: ProjectScope, *, may_renew: bool) -> bool:
        min_age_seconds = YOUNGEST_RENEWED_SECONDS if may_renew else math.inf
        lease = await self._keeper(scope).refresh(denied.fingerprint, min_age_seconds)
        return lease.fingerprint != denied.fingerprint

    def expires_at(self, scope: ProjectScope) -> float | None:
        # Not by _keeper, which may make one: any thread may ask.
        keeper = self._keepers.get(scope.project_id)
        return None if keeper is None else keeper.expires_at

    def _keeper(self, scope: ProjectScope) -> LeaseKeeper[RequestAuth]:
        keeper = self._keepers.get(scope.project_id)
        if keeper is None:
            keeper = LeaseKeeper(self._name, partial(self._fetch, scope), clock=self._clock)
            self._keepers[scope.project_id] = keeper
        return keeper

    async def _fetch(self, scope: ProjectScope, patient: bool) -> Lease[RequestAuth]:
        (password,) = await read_secrets(self._name, password=self._password)
        if not password:
            raise AuthError(f"credentials {self._name}: password is empty")
        ask = partial(self._ask, scope, password)
        async with self._trial.attempt(fingerprint(self._domain, self._user, password)):
            token = await (self._retrier.run(ask, scope.project) if patient else ask())
        self._warn_of_password_end(token.password_expires_at)
        now, life, grant = self._clock(), token.life_seconds, token_grant(self._name, token.value)
        # As long as its token is in use the password is kept in mind too, to be masked.
        grant = replace(grant, secrets=(*grant.secrets, password))
        if life is None:
            return Lease(grant, grant.fingerprint, now)
        return Lease(grant, grant.fingerprint, now, renewal_time(now, life), now + life, token.expires_at)

    async def _ask(self, scope: ProjectScope, password: str) -> Token:
        request = token_request(
            self._iam_endpoint,
            domain=self._domain,
            user=self._user,
            password=password,
            project_id=scope.project_id,
        )
        return await self._transport.ask(request, scope.project, decode_token)

    def _warn_of_password_end(self, end: float | None) -> None:
        """Warn of a password about to end, once. An end that has passed is wrong: it was accepted."""
        if end is None or end == self._told_password_end:
            return
        if 0 < end - self._clock() < _PASSWORD_NOTICE_SECONDS:
            self._told_password_end = end
            when = datetime.fromtimestamp(end, UTC).isoformat(timespec="seconds")
            _log.warning("the password expires soon", credentials=self._name, expires_at=when)
