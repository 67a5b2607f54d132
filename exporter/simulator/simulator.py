"""
The remote API without its sockets: a request in, an answer out.

The clocks come in from outside; nothing here waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from exporter.simulator.answers import (
    Answer,
    Scribe,
    bad_parameter,
    gateway_error,
    iam_error,
    service_error,
)
from exporter.simulator.auth import Gate
from exporter.simulator.clock import SimulatedClock
from exporter.simulator.faults import Faults
from exporter.simulator.listing import Listing
from exporter.simulator.query import BadParameterError, Found, Query, find, parse
from exporter.simulator.settings import SimulatorSettings
from exporter.simulator.signing import SignedRequest
from exporter.simulator.world import World

_REQUEST_IDS = UUID("72657175-6573-7473-6f66-6f63746f7075")
FOREVER_MS = 2**62


class Simulator:
    """
    IAM and the job list.

    Shape: `requests` counts what was answered by (kind, HTTP status), kind "list" or "token"; `quirks` and
    `faults` may change while it serves. Units: `real_now` gives Unix seconds, for tokens and signatures;
    `clock` is the time the jobs live in.
    """

    def __init__(
        self, settings: SimulatorSettings, clock: SimulatedClock, real_now: Callable[[], float]
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.quirks = settings.quirks
        self.faults = Faults(settings.faults, settings.seed, settings.slow_seconds)
        self.world = World(settings, clock.now_ms())
        self.requests: Counter[tuple[str, int]] = Counter()
        self._real_now = real_now
        self._gate = Gate(settings.credentials, settings.projects, settings.token_ttl_seconds, settings.seed)
        self._scribe = Scribe(self.world.table, self.world.messages)
        self._answered = 0
        self._pages = 0

    def list_jobs(self, request: SignedRequest, project_id: str) -> Answer:
        """Answer GET /v1.0/{project_id}/data/system-jobs."""
        request_id = self._next_request_id()
        befallen = self.faults.draw()
        answer = self._listed(request, project_id, request_id, befallen)
        if "broken" in befallen and answer.status == 200:
            answer = self.faults.broken(answer)
        return self._sent("list", answer, befallen, {"X-Request-Id": request_id})

    def issue_token(self, request: SignedRequest) -> Answer:
        """Answer POST /v3/auth/tokens. Of the faults, errors and slowness befall IAM too."""
        request_id = self._next_request_id()
        befallen = self.faults.draw()
        if "errors" in befallen:
            answer = iam_error(503, "Service Unavailable", "The service is currently unavailable.")
        else:
            answer = self._gate.issue(request.body, self._real_now())
        trace = {"X-Request-Id": request_id, "X-IAM-Trace-Id": f"token_cn-north-11_null_{request_id}"}
        return self._sent("token", answer, befallen, trace)

    def not_found(self) -> Answer:
        """Answer a path the gateway does not know."""
        request_id = self._next_request_id()
        message = "The API does not exist or has not been published in the environment"
        answer = gateway_error(404, "APIGW.0101", message, request_id)
        return replace(answer, headers={"X-Request-Id": request_id})

    def wrong_method(self) -> Answer:
        """Answer a known path asked with another method."""
        answer = service_error(405, "400005", "The request method is not supported.")
        return replace(answer, headers={"X-Request-Id": self._next_request_id()})

    def account(self, since_ms: int, until_ms: int) -> dict[str, Any]:
        """Add up what the jobs did from `since_ms` to before `until_ms`."""
        world = self.present()
        targets = world.account.targets(world.listings, since_ms, until_ms)
        return {"now_ms": world.now_ms, "since_ms": since_ms, "until_ms": until_ms, "targets": targets}

    def present(self) -> World:
        """Return the world as it is by the clock."""
        self.world.advance(self.clock.now_ms())
        return self.world

    def _listed(self, request: SignedRequest, project_id: str, request_id: str, befallen: Set[str]) -> Answer:
        if "throttle" in befallen:
            return self.faults.throttled(request_id)
        if "errors" in befallen:
            return self.faults.failed(request_id)
        refusal = self._refusal(request, project_id, request_id, befallen)
        return refusal or self._page(request, project_id)

    def _refusal(
        self, request: SignedRequest, project_id: str, request_id: str, befallen: Set[str]
    ) -> Answer | None:
        token, now = request.headers.get("x-auth-token"), self._real_now()
        if token is not None and "expiry" in befallen:
            self._gate.expire(token)
        if project_id not in self.settings.projects:
            return service_error(404, "400004", "The project does not exist.")
        if "authorization" in request.headers:
            return self._gate.check_signature(request, request_id, now)
        return self._gate.check_token(token, project_id, request_id, now)

    def _page(self, request: SignedRequest, project_id: str) -> Answer:
        world = self.present()
        try:
            query = parse(request.query, world.table, self.quirks)
        except BadParameterError as error:
            return bad_parameter(error.name, error.value, world.now_ms)
        number = world.find_listing(project_id, query.workspace_id)
        if number is None:
            listing, found = Listing(project_id, query.workspace_id), Found([], 0)
        else:
            listing = world.listings[number]
            found = find(world.table, listing, self._bent(query), self.settings.order)
        answer = self._scribe.page(listing, query, found, self.quirks, world.now_ms)
        if number is not None and query.limit > 1 and query.offset + len(found.ids) < found.total:
            self._shift(number)
        return answer

    def _bent(self, query: Query) -> Query:
        """Clamp the limit and reach back for repeated rows, as the quirks have it."""
        limit = min(query.limit, self.quirks.clamp_limit or query.limit)
        repeated = min(query.offset, self.quirks.repeat_rows)
        return replace(query, offset=query.offset - repeated, limit=limit + repeated)

    def _shift(self, listing: int) -> None:
        """Insert or delete a row behind a page, so that the next one does not begin where this one ended."""
        self._pages += 1
        turn, rest = divmod(self._pages, self.quirks.shift_every)
        if self.quirks.shift == "none" or rest:
            return
        if self.quirks.shift == "insert" or (self.quirks.shift == "both" and turn % 2):
            self.world.insert_one(listing)
        else:
            self.world.delete_one(listing)

    def _sent(self, kind: str, answer: Answer, befallen: Set[str], headers: dict[str, str]) -> Answer:
        self.requests[kind, answer.status] += 1
        late = replace(
            answer,
            headers={**answer.headers, **headers},
            delay_seconds=answer.delay_seconds + self.quirks.latency_seconds,
        )
        return self.faults.slowed(late) if "slow" in befallen else late

    def _next_request_id(self) -> str:
        self._answered += 1
        return uuid5(_REQUEST_IDS, f"{self.settings.seed} {self._answered}").hex
