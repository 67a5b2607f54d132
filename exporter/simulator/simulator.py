"""The remote API without sockets: a request in, a response out. Callers pass the clocks; nothing waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set
from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID, uuid5

from exporter.errors import ConfigError
from exporter.simulator.auth import Authenticator, SignedRequest
from exporter.simulator.pages import PageWriter, odd_kinds
from exporter.simulator.query import BadParameterError, parse
from exporter.simulator.responses import (
    Faults,
    SimulatedResponse,
    bad_parameter,
    gateway_error,
    iam_error,
    service_error,
)
from exporter.simulator.settings import SimulatorSettings
from exporter.simulator.table import Listing, RecentChanges
from exporter.simulator.world import World

_REQUEST_IDS = UUID("72657175-6573-7473-6f66-6f63746f7075")
FOREVER_MS = 2**62


class SimulatedClock:
    """Simulated time over real, monotonic seconds. Units: Unix ms; `speed` 2 is twice as fast as real."""

    def __init__(self, start_ms: int, speed: float, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._base_ms = start_ms
        self._base_seconds = monotonic()
        self.speed = speed

    def now_ms(self) -> int:
        return self._base_ms + int((self._monotonic() - self._base_seconds) * self.speed * 1000)

    def set_speed(self, speed: float) -> None:
        """Run at another speed; 0 stops the clock. Raises: ConfigError (below 0, infinite, no number)."""
        if not 0 <= speed < float("inf"):
            raise ConfigError([f"speed: {speed}: expected a number of 0 or more"])
        # Adds up the time that has passed at the old speed.
        self.jump(0)
        self.speed = speed

    def jump(self, seconds: float) -> None:
        """Go forward at once by simulated seconds. Raises: ConfigError for a jump back."""
        if not 0 <= seconds < float("inf"):
            raise ConfigError([f"advance_seconds: {seconds}: expected a number of 0 or more"])
        now_seconds = self._monotonic()
        passed_ms = int((now_seconds - self._base_seconds) * self.speed * 1000)
        self._base_ms += passed_ms + int(seconds * 1000)
        self._base_seconds = now_seconds


class Simulator:
    """
    IAM and the job list.

    Shape: `requests` counts the responses by (kind, HTTP status), kind "list" or "token"; `quirks` and
    `faults` may change while it serves. Units: `real_now` gives Unix seconds, for tokens and signatures;
    `clock` gives the simulated time of the jobs; `monotonic` gives real seconds, for the lags.
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
        self.requests: Counter[tuple[str, int]] = Counter()
        self.world = World(settings, clock.now_ms())
        table = self.world.table
        # After the history has been made, so that it is not recorded as changes.
        self._changes = self.world.changes = RecentChanges(table, self.world.listings, monotonic)
        rng = Random(f"quirks {settings.seed}")
        self._pages = PageWriter(
            table, self.world.specs, self.world.messages, self._changes, settings.order, rng
        )
        self._real_now = real_now
        self._auth = Authenticator(
            settings.credentials, settings.projects, settings.token_ttl_seconds, settings.seed
        )
        self._answered = 0
        self._pages_before_last = 0

    def list_jobs(self, request: SignedRequest, project_id: str) -> SimulatedResponse:
        """Answer GET /v1.0/{project_id}/data/system-jobs."""
        request_id = self._next_request_id()
        faults = self.faults.draw()
        if "throttle" in faults:
            response = self.faults.throttled(request_id)
        elif "errors" in faults:
            response = self.faults.failed(request_id)
        else:
            refused = self._refused(request, project_id, request_id, faults)
            response = refused or self._page(request, project_id, "blank" in faults)
        if "broken" in faults and response.status == 200:
            response = self.faults.broken(response)
        if "garbled" in faults and response.status == 200:
            response = self.faults.garbled(response)
        return self._sent("list", response, faults, {"X-Request-Id": request_id})

    def issue_token(self, request: SignedRequest) -> SimulatedResponse:
        """Answer POST /v3/auth/tokens. Of the faults, only errors and slowness apply to IAM."""
        request_id = self._next_request_id()
        faults = self.faults.draw()
        if "errors" in faults:
            response = iam_error(503, "Service Unavailable", "The service is currently unavailable.")
        else:
            response = self._auth.issue(request.body, self._real_now(), self.quirks.token_expires_at)
        trace = {"X-Request-Id": request_id, "X-IAM-Trace-Id": f"token_cn-north-11_null_{request_id}"}
        return self._sent("token", response, faults, trace)

    def refuse(self, is_known_path: bool) -> SimulatedResponse:
        """Answer the path of the list requested with another method, or a path that nobody serves."""
        request_id = self._next_request_id()
        message = "The API does not exist or has not been published in the environment"
        response = gateway_error(404, "APIGW.0101", message, request_id)
        if is_known_path:
            response = service_error(405, "400005", "The request method is not supported.")
        return replace(response, headers={"X-Request-Id": request_id})

    def account(self, since_ms: int, until_ms: int) -> dict[str, Any]:
        """Count what the jobs did from `since_ms` to before `until_ms`, and name the rows served odd."""
        world = self.present()
        targets = world.account.targets(world.listings, since_ms, until_ms)
        for target, listing in zip(targets, world.listings, strict=True):
            target["odd"] = self._odd(listing)
        return {
            "now_ms": world.now_ms,
            "newest_ms": max(world.table.updated_ms, default=0),
            "since_ms": since_ms,
            "until_ms": until_ms,
            "settled": self._changes.is_settled(self.quirks.longest_lag_seconds),
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
        """Return the world, moved on to the present of the simulated clock."""
        self.world.advance(self.clock.now_ms())
        return self.world

    def _refused(
        self, request: SignedRequest, project_id: str, request_id: str, faults: Set[str]
    ) -> SimulatedResponse | None:
        """Return the response to a request that may not read the project, or None."""
        token, now = request.headers.get("x-auth-token"), self._real_now()
        # The fault ends the token of this very request: the exporter still believes it valid.
        if token is not None and "expiry" in faults:
            self._auth.expire(token)
        if token is not None and "revoke" in faults:
            self._auth.revoke(token)
        if project_id not in self.settings.projects:
            return service_error(404, "400004", "The project does not exist.")
        if "authorization" in request.headers:
            return self._auth.check_signature(request, request_id, now)
        return self._auth.check_token(token, project_id, request_id, now)

    def _page(self, request: SignedRequest, project_id: str, is_blank: bool) -> SimulatedResponse:
        world, quirks = self.present(), self.quirks
        try:
            query = parse(request.query, world.table, quirks)
        except BadParameterError as error:
            return bad_parameter(error.name, error.value, world.now_ms)
        number = None if is_blank else world.find_listing(project_id, query.workspace_id)
        if number is None:
            return self._pages.response([], 0, query, quirks, world.now_ms)
        response, more_follow = self._pages.page(world.listings[number], query, quirks, world.now_ms)
        # Not after a request for one row, which only wants the total.
        if query.limit > 1 and more_follow:
            # Insert or delete a row, so that the next page does not begin where this one ended.
            self._pages_before_last += 1
            turn, rest = divmod(self._pages_before_last, quirks.shift_every)
            if quirks.shift != "none" and not rest:
                if quirks.shift == "insert" or (quirks.shift == "both" and turn % 2):
                    world.insert_one(number)
                else:
                    world.delete_one(number)
        return response

    def _sent(
        self, kind: str, response: SimulatedResponse, faults: Set[str], headers: dict[str, str]
    ) -> SimulatedResponse:
        self.requests[kind, response.status] += 1
        sent = replace(
            response,
            headers={**response.headers, **headers},
            delay_seconds=response.delay_seconds + self.quirks.latency_seconds,
        )
        return self.faults.slowed(sent) if "slow" in faults else sent

    def _next_request_id(self) -> str:
        self._answered += 1
        # By the seed, so that the same requests get the same ids in every run.
        return uuid5(_REQUEST_IDS, f"{self.settings.seed} {self._answered}").hex
