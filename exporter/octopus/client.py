"""The API client: lists pages, with rate limit, authentication, retries and masking."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from exporter.errors import AuthError, PermissionRefused
from exporter.model import Target, TargetKey
from exporter.octopus.auth.credentials import Authoriser, Credentials, ProjectScope
from exporter.octopus.concurrency import Concurrency
from exporter.octopus.limiter import EndpointLimiter
from exporter.octopus.messages import ApiObserver, Request, RequestAuth, Response
from exporter.octopus.retry import Retrier
from exporter.octopus.transport import Transport
from exporter.octopus.wire import ListQuery, Page, clock_skew, decode_page, list_request, masked_page

FIRST_RENEWAL_PAUSE_SECONDS = 300.0
LONGEST_RENEWAL_PAUSE_SECONDS = 6 * 3600.0


@dataclass(slots=True)
class RequestCounter:
    """
    Counts the list requests that a poll sent, including repeated ones.

    Shape: `concurrency` bounds those that are under way, and learns from how long they take.
    """

    sent: int = 0
    concurrency: Concurrency = field(default_factory=Concurrency)


@dataclass(slots=True)
class _RenewalPause:
    """
    When a target's token may be renewed after a 403 again.

    The pause doubles with every renewal that did not help: usually the permission is really missing, and a
    new token at every poll would change nothing. Units: seconds, and seconds of the client's clock.
    """

    seconds: float = FIRST_RENEWAL_PAUSE_SECONDS
    until: float = -math.inf
    last_denied: str = ""

    def lengthen(self, fingerprint: str, now: float) -> None:
        # Concurrent requests report the same new token: count it once.
        if fingerprint != self.last_denied:
            self.last_denied = fingerprint
            self.seconds = min(2 * self.seconds, LONGEST_RENEWAL_PAUSE_SECONDS)
            self.until = now + self.seconds


@dataclass(kw_only=True, slots=True, eq=False, repr=False)
class OctopusClient:
    """Lists jobs with one set of credentials at one endpoint."""

    transport: Transport
    credentials: Credentials
    limiter: EndpointLimiter
    retrier: Retrier
    observer: ApiObserver
    terminal_statuses: frozenset[str] = frozenset()
    clock: Callable[[], float] = time.monotonic
    _pauses: dict[TargetKey, _RenewalPause] = field(default_factory=dict, init=False)

    async def list_page(
        self,
        target: Target,
        query: ListQuery,
        counter: RequestCounter | None = None,
        *,
        on_response: Callable[[Response], None] | None = None,
    ) -> Page:
        """
        List one page of a target's jobs.

        Shape: `on_response` gets every response before it is decoded; its texts are not masked.
        Raises: ApiError, after the retries.
        """
        request = list_request(target, query)
        counter = counter or RequestCounter()
        return await self.retrier.run(
            partial(self._attempt, target, query, request, counter, on_response), target.project
        )

    async def _attempt(
        self,
        target: Target,
        query: ListQuery,
        request: Request,
        counter: RequestCounter,
        on_response: Callable[[Response], None] | None,
    ) -> Page:
        """Send a request; after a 401 or 403 renew the credentials and send it once more."""
        scope = ProjectScope(target.project, target.project_id)
        sent_with: list[RequestAuth] = []
        decode = partial(self._decode, scope.project, on_response)

        # Authorised first, then the turn: a renewal must not hold up the requests of other credentials.
        async def send() -> Page:
            async with self._turn(scope) as (authorise, waited_seconds):
                auth = authorise(request)
                sent_with.append(auth)
                counter.sent += 1
                pace, is_page = self.limiter.requests_per_second, query.limit > 1
                with counter.concurrency.observed(
                    self.clock, pace, is_page=is_page, waited_seconds=waited_seconds
                ):
                    return await self.transport.send(request.with_auth(auth), scope.project, decode)

        try:
            page = await send()
        except (AuthError, PermissionRefused) as error:
            # If nothing was sent, the credentials themselves failed.
            if not sent_with:
                raise
            if not await self._is_renewed(error, sent_with[-1], target, scope):
                raise
            self.observer.retry(scope.project, AuthError.reason)
            try:
                page = await send()
            except PermissionRefused:
                pause = self._pauses.setdefault(target.key, _RenewalPause())
                pause.lengthen(sent_with[-1].fingerprint, self.clock())
                raise
        self._pauses.pop(target.key, None)
        return page

    @asynccontextmanager
    async def _turn(self, scope: ProjectScope) -> AsyncIterator[tuple[Authoriser, float]]:
        """Wait for a turn; give what authorises a request, and how many seconds the wait for others took."""
        async with self.credentials.authorise(scope) as authorise:
            asked_at = self.clock()
            async with self.limiter.turn():
                yield authorise, self.clock() - asked_at

    async def _is_renewed(
        self, error: AuthError | PermissionRefused, used: RequestAuth, target: Target, scope: ProjectScope
    ) -> bool:
        if isinstance(error, AuthError):
            return await self.credentials.renew(used, scope)
        pause = self._pauses.get(target.key)
        may_renew = pause is None or self.clock() >= pause.until
        return await self.credentials.refresh(used, scope, may_renew=may_renew)

    def _decode(
        self,
        project: str,
        on_response: Callable[[Response], None] | None,
        response: Response,
        request: Request,
    ) -> Page:
        if on_response is not None:
            on_response(response)
        page = decode_page(response, request, self.terminal_statuses)
        if page.server_time_ms is not None:
            skew = clock_skew(page.server_time_ms, response.sent_at, response.received_at)
            self.observer.clock_skew(project, skew)
        # Before anything sees the page: from here on its texts go to the ledger, the log and /metrics.
        return masked_page(page, self.transport.secrets)
