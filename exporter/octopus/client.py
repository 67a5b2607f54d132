"""Asking the API for pages: paced, allowed, retried and told about."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from exporter.errors import AuthError, PermissionRefused
from exporter.model import Target, TargetKey
from exporter.octopus.auth.credentials import Credentials, ProjectScope
from exporter.octopus.limiter import EndpointLimiter
from exporter.octopus.messages import Request, RequestAuth, Response
from exporter.octopus.observer import ApiObserver
from exporter.octopus.page_masking import masked_page
from exporter.octopus.retrier import Retrier
from exporter.octopus.transport import Transport
from exporter.octopus.wire import ListQuery, Page, clock_skew, decode_page, list_request

FIRST_RENEWAL_PAUSE_SECONDS = 300.0
LONGEST_RENEWAL_PAUSE_SECONDS = 6 * 3600.0


@dataclass(slots=True)
class RequestCounter:
    """Counts what a poll costs: every list request that was sent, those sent again included."""

    sent: int = 0


@dataclass(slots=True)
class _Call:
    """One page to get; `grant` is what it was last sent with."""

    request: Request
    scope: ProjectScope
    counter: RequestCounter
    target: TargetKey
    look: Callable[[Response], None] | None = None
    grant: RequestAuth | None = None


@dataclass(slots=True)
class _RenewalPause:
    """
    How long a target waits until its token is renewed because of a 403 once more.

    It doubles with every renewal that has not helped: most often the permission is really missing. Units:
    seconds, and seconds of the client's clock.
    """

    seconds: float = FIRST_RENEWAL_PAUSE_SECONDS
    until: float = -math.inf
    _not_helped: str = ""

    def lengthen(self, fingerprint: str, now: float) -> None:
        """Note that this token was answered with 403 too; requests sent together may all say so."""
        if fingerprint != self._not_helped:
            self._not_helped = fingerprint
            self.seconds = min(2 * self.seconds, LONGEST_RENEWAL_PAUSE_SECONDS)
            self.until = now + self.seconds


class OctopusClient:
    """Lists jobs with one set of credentials at one endpoint."""

    def __init__(
        self,
        *,
        transport: Transport,
        credentials: Credentials,
        limiter: EndpointLimiter,
        retrier: Retrier,
        observer: ApiObserver,
        terminal_statuses: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._limiter = limiter
        self._retrier = retrier
        self._observer = observer
        self._terminal_statuses = terminal_statuses
        self._clock = clock
        self._pauses: dict[TargetKey, _RenewalPause] = {}

    async def list_page(
        self,
        target: Target,
        query: ListQuery,
        counter: RequestCounter | None = None,
        *,
        look: Callable[[Response], None] | None = None,
    ) -> Page:
        """
        List one page of a target's jobs.

        Shape: `look` is given every answer before it is read; its texts are not masked.
        Raises: ApiError, after whatever retries it deserves.
        """
        scope = ProjectScope(target.project, target.project_id)
        call = _Call(list_request(target, query), scope, counter or RequestCounter(), target.key, look)
        return await self._retrier.run(partial(self._allowed, call), target.project)

    async def _allowed(self, call: _Call) -> Page:
        """Ask; where the credentials are rejected or denied, renew them and ask once more."""
        call.grant = None
        try:
            page = await self._attempt(call)
        except (AuthError, PermissionRefused) as error:
            if call.grant is None or not await self._renewed(call, call.grant, error):
                raise
            self._observer.retry(call.scope.project, AuthError.reason)
            page = await self._second_attempt(call)
        self._pauses.pop(call.target, None)
        return page

    async def _renewed(self, call: _Call, grant: RequestAuth, error: AuthError | PermissionRefused) -> bool:
        """Tell whether there is something else than this grant to ask with."""
        if isinstance(error, AuthError):
            return await self._credentials.renew(grant, call.scope)
        pause = self._pauses.get(call.target)
        may_renew = pause is None or self._clock() >= pause.until
        return await self._credentials.refresh(grant, call.scope, may_renew=may_renew)

    async def _second_attempt(self, call: _Call) -> Page:
        try:
            return await self._attempt(call)
        except PermissionRefused:
            if call.grant is not None:
                pause = self._pauses.setdefault(call.target, _RenewalPause())
                pause.lengthen(call.grant.fingerprint, self._clock())
            raise

    async def _attempt(self, call: _Call) -> Page:
        async with self._credentials.authorise(call.scope) as authorise, self._limiter.turn():
            call.grant = authorise(call.request)
            call.counter.sent += 1
            project = call.scope.project
            return await self._transport.ask(
                call.request.granted(call.grant), project, self._decoder(project, call.look)
            )

    def _decoder(
        self, project: str, look: Callable[[Response], None] | None
    ) -> Callable[[Response, Request], Page]:
        def decode(response: Response, request: Request) -> Page:
            if look is not None:
                look(response)
            page = masked_page(
                decode_page(response, request, self._terminal_statuses), self._transport.secrets
            )
            if page.server_time_ms is not None:
                skew = clock_skew(page.server_time_ms, response.sent_at, response.received_at)
                self._observer.clock_skew(project, skew)
            return page

        return decode
