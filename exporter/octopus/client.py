"""Asking the API for pages: paced, allowed, retried and told about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from exporter.errors import AuthError
from exporter.model import Target
from exporter.octopus.credentials import Credentials, ProjectScope
from exporter.octopus.exchange import Grant, Request, Response
from exporter.octopus.limiter import EndpointLimiter
from exporter.octopus.observer import ApiObserver
from exporter.octopus.page_masking import masked_page
from exporter.octopus.retrier import Retrier
from exporter.octopus.transport import Transport
from exporter.octopus.wire import ListQuery, Page, clock_skew, decode_page, list_request


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
    grant: Grant | None = None


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
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._limiter = limiter
        self._retrier = retrier
        self._observer = observer
        self._terminal_statuses = terminal_statuses

    async def list_page(
        self, target: Target, query: ListQuery, counter: RequestCounter | None = None
    ) -> Page:
        """
        List one page of a target's jobs.

        Raises: ApiError, after whatever retries it deserves.
        """
        scope = ProjectScope(target.project, target.project_id)
        call = _Call(list_request(target, query), scope, counter or RequestCounter())
        return await self._retrier.run(partial(self._allowed, call), target.project)

    async def _allowed(self, call: _Call) -> Page:
        """Ask; where the credentials are rejected, renew them and ask once more."""
        call.grant = None
        try:
            return await self._attempt(call)
        except AuthError as error:
            if call.grant is None or not await self._credentials.renew(call.grant, call.scope):
                raise
            self._observer.retry(call.scope.project, error.reason)
        return await self._attempt(call)

    async def _attempt(self, call: _Call) -> Page:
        async with self._credentials.authorise(call.scope) as authorise, self._limiter.turn():
            call.grant = authorise(call.request)
            call.counter.sent += 1
            project = call.scope.project
            return await self._transport.ask(
                call.request.granted(call.grant), project, self._decoder(project)
            )

    def _decoder(self, project: str) -> Callable[[Response, Request], Page]:
        def decode(response: Response, request: Request) -> Page:
            page = masked_page(
                decode_page(response, request, self._terminal_statuses), self._transport.secrets
            )
            if page.server_time_ms is not None:
                skew = clock_skew(page.server_time_ms, response.sent_at, response.received_at)
                self._observer.clock_skew(project, skew)
            return page

        return decode
