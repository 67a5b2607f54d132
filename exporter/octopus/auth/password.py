"""Tokens from IAM for a user name and password."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

import structlog

from exporter.errors import AuthError
from exporter.octopus.auth.credentials import (
    Authoriser,
    Credentials,
    ProjectScope,
    SecretSource,
    read_secrets,
    token_auth,
)
from exporter.octopus.auth.iam import decode_token, token_request
from exporter.octopus.auth.lockout_guard import LockoutGuard, SharedRefusals
from exporter.octopus.auth.renewal import ExpiringSecret, SecretRenewer, renewal_time
from exporter.octopus.messages import RequestAuth, fingerprint
from exporter.octopus.retry import Retrier
from exporter.octopus.transport import Transport

# After a 403, a token younger than this is not renewed: a new one would carry the same permissions.
YOUNGEST_RENEWED_SECONDS = 300.0
_PASSWORD_NOTICE_SECONDS = 7 * 86400

_log = structlog.get_logger(__name__)


# No repr: it would show the password's source.
@dataclass(kw_only=True, eq=False, repr=False)
class PasswordCredentials(Credentials):
    """
    One token per project, shared by its workspaces; renewed well before it expires and when it is rejected.

    The password is read again for every token. Tokens of one project are fetched at least a minute apart: a
    token that is rejected sooner stays in use until then.
    """

    name: str
    domain: str
    user: str
    password: SecretSource
    iam_endpoint: str
    transport: Transport
    retrier: Retrier
    clock: Callable[[], float] = time.time
    refusals: SharedRefusals | None = None
    _renewers: dict[str, SecretRenewer[RequestAuth]] = field(default_factory=dict, init=False)
    _warned_password_end: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._guard = LockoutGuard(self.name, clock=self.clock, shared=self.refusals)

    @asynccontextmanager
    async def authorise(self, scope: ProjectScope) -> AsyncIterator[Authoriser]:
        token = await self._renewer(scope).get()
        yield lambda request: token.value

    async def renew(self, rejected: RequestAuth, scope: ProjectScope) -> bool:
        token = await self._renewer(scope).replace(rejected.fingerprint)
        return token.fingerprint != rejected.fingerprint

    async def refresh(self, denied: RequestAuth, scope: ProjectScope, *, may_renew: bool) -> bool:
        min_age_seconds = YOUNGEST_RENEWED_SECONDS if may_renew else math.inf
        token = await self._renewer(scope).refresh(denied.fingerprint, min_age_seconds)
        return token.fingerprint != denied.fingerprint

    def expires_at(self, scope: ProjectScope) -> float | None:
        # Not through _renewer(), which changes the dict: a scrape calls this in another thread.
        renewer = self._renewers.get(scope.project_id)
        return None if renewer is None else renewer.expires_at

    def _renewer(self, scope: ProjectScope) -> SecretRenewer[RequestAuth]:
        renewer = self._renewers.get(scope.project_id)
        if renewer is None:
            renewer = SecretRenewer(self.name, partial(self._fetch, scope), clock=self.clock)
            self._renewers[scope.project_id] = renewer
        return renewer

    async def _fetch(self, scope: ProjectScope, with_retries: bool) -> ExpiringSecret[RequestAuth]:
        (password,) = await read_secrets(self.name, password=self.password)
        if not password:
            raise AuthError(f"credentials {self.name}: password is empty")
        request = token_request(
            self.iam_endpoint,
            domain=self.domain,
            user=self.user,
            password=password,
            project_id=scope.project_id,
        )
        log_in = partial(self.transport.send, request, scope.project, decode_token)
        async with self._guard.attempt(fingerprint(self.domain, self.user, password)):
            token = await (self.retrier.run(log_in, scope.project) if with_retries else log_in())
        now, life, end = self.clock(), token.life_seconds, token.password_expires_at
        # Warn once of each end. An end in the past is wrong: IAM has accepted the password.
        if end is not None and end != self._warned_password_end and 0 < end - now < _PASSWORD_NOTICE_SECONDS:
            self._warned_password_end = end
            when = datetime.fromtimestamp(end, UTC).isoformat(timespec="seconds")
            _log.warning("the password expires soon", credentials=self.name, expires_at=when)
        auth = token_auth(self.name, token.value)
        # With the password, so that it is masked for as long as its token is used.
        auth = replace(auth, secrets=(*auth.secrets, password))
        if life is None:
            return ExpiringSecret(auth, auth.fingerprint, now)
        return ExpiringSecret(
            auth, auth.fingerprint, now, renewal_time(now, life), now + life, token.expires_at
        )
