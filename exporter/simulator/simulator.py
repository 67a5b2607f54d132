"""
The remote API without its sockets: a request in, an answer out.

The clocks come in from outside; nothing here waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set
from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID, uuid5

from exporter.simulator.answers import (
    Answer,
    bad_parameter,
    gateway_error,
    iam_error,
    service_error,
)
from exporter.simulator.auth import Gate
from exporter.simulator.clock import SimulatedClock
from exporter.simulator.faults import Faults
from exporter.simulator.listing import Listing
from exporter.simulator.pages import Scribe, odd_kinds
from exporter.simulator.past import Past
from exporter.simulator.query import BadParameterError, Query, parse
from exporter.simulator.quirks import Quirks
from exporter.simulator.settings import SimulatorSettings
from exporter.simulator.signing import SignedRequest
from exporter.simulator.views import Seen, Views
from exporter.simulator.world import World

_REQUEST_IDS = UUID("72657175-6573-7473-6f66-6f63746f7075")
FOREVER_MS = 2**62


class Simulator:
    """
    IAM and the job list.

    Shape: `requests` counts what was answered by (kind, HTTP status), kind "list" or "token"; `quirks` and
    `faults` may change while it serves. Units: `real_now` gives Unix seconds, for tokens and signatures;
    `clock` is the time the jobs live in; `monotonic` gives real seconds, for what lags.
    """

    def __init__(
        self,
        settings: SimulatorSettings,
        clock: SimulatedClock,
        real_now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.quirks = settings.quirks
        self.faults = Faults(settings.faults, settings.seed, settings.slow_seconds)
        self.world = World(settings, clock.now_ms())
        self._past = self.world.past = Past(self.world.table, self.world.listings, monotonic)
        rng = Random(f"quirks {settings.seed}")
        self._views = Views(self.world.table, self._past, settings.order, rng)
        self.requests: Counter[tuple[str, int]] = Counter()
        self._real_now = real_now
        self._gate = Gate(settings.credentials, settings.projects, settings.token_ttl_seconds, settings.seed)
        self._scribe = Scribe(self.world.table, self.world.messages, rng)
        self._answered = 0
        self._pages = 0

    def list_jobs(self, request: SignedRequest, project_id: str) -> Answer:
        """Answer GET /v1.0/{project_id}/data/system-jobs."""
        request_id = self._next_request_id()
        befallen = self.faults.draw()
        answer = self._listed(request, project_id, request_id, befallen)
        if "broken" in befallen and answer.status == 200:
            answer = self.faults.broken(answer)
        if "garbled" in befallen and answer.status == 200:
            answer = self.faults.garbled(answer)
        return self._sent("list", answer, befallen, {"X-Request-Id": request_id})

    def issue_token(self, request: SignedRequest) -> Answer:
        """Answer POST /v3/auth/tokens. Of the faults, errors and slowness befall IAM too."""
        request_id = self._next_request_id()
        befallen = self.faults.draw()
        if "errors" in befallen:
            answer = iam_error(503, "Service Unavailable", "The service is currently unavailable.")
        else:
            answer = self._gate.issue(request.body, self._real_now(), self.quirks.token_expires_at)
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
        """Add up what the jobs did from `since_ms` to before `until_ms`, and name the rows served odd."""
        world = self.present()
        targets = world.account.targets(world.listings, since_ms, until_ms)
        for target, listing in zip(targets, world.listings, strict=True):
            target["odd"] = self._odd(listing)
        return {
            "now_ms": world.now_ms,
            "newest_ms": max(world.table.updated_ms, default=0),
            "since_ms": since_ms,
            "until_ms": until_ms,
            "settled": self._past.is_settled(self.quirks.longest_lag_seconds),
            "targets": targets,
        }

    def _odd(self, listing: Listing) -> list[dict[str, Any]]:
        """Name the listed jobs whose rows the quirks make odd, or hide."""
        table, quirks = self.world.table, self.quirks
        if not quirks.odd_rows and not quirks.hidden_ids:
            return []
        odd: list[dict[str, Any]] = []
        for number in listing.all_ids:
            status = table.statuses[table.status[number - 1]]
            kinds = [one.what for one in odd_kinds(number, status, quirks)]
            job_id = number + quirks.id_offset
            if kinds or job_id in quirks.hidden_ids:
                job_type = table.types[table.job_type[number - 1]]
                what = ["hidden"] if job_id in quirks.hidden_ids else kinds
                odd.append({"id": job_id, "job_type": job_type, "status": status, "what": what})
        return odd

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
        return refusal or self._page(request, project_id, "blank" in befallen)

    def _refusal(
        self, request: SignedRequest, project_id: str, request_id: str, befallen: Set[str]
    ) -> Answer | None:
        token, now = request.headers.get("x-auth-token"), self._real_now()
        if token is not None and "expiry" in befallen:
            self._gate.expire(token)
        if token is not None and "revoke" in befallen:
            self._gate.revoke(token)
        if project_id not in self.settings.projects:
            return service_error(404, "400004", "The project does not exist.")
        if "authorization" in request.headers:
            return self._gate.check_signature(request, request_id, now)
        return self._gate.check_token(token, project_id, request_id, now)

    def _page(self, request: SignedRequest, project_id: str, is_blank: bool) -> Answer:
        world, quirks = self.present(), self.quirks
        try:
            query = parse(request.query, world.table, quirks)
        except BadParameterError as error:
            return bad_parameter(error.name, error.value, world.now_ms)
        number = None if is_blank else world.find_listing(project_id, query.workspace_id)
        if number is None:
            return self._scribe.page([], 0, query, quirks, world.now_ms)
        seen = self._seen(number, query, quirks)
        answer = self._scribe.page(seen.rows, seen.total, query, quirks, world.now_ms)
        if query.limit > 1 and query.offset + len(seen.rows) < seen.total:
            self._shift(number)
        return answer

    def _seen(self, number: int, query: Query, quirks: Quirks) -> Seen:
        listing, now_ms = self.world.listings[number], self.world.now_ms
        return self._views.see(
            listing, query, quirks, lambda ids: self._scribe.rows(ids, listing, quirks, now_ms)
        )

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
