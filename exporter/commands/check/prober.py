"""Sends the probes to every target, within bounds of requests and time."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, replace

import structlog

from exporter.clients import ClientFactory
from exporter.commands.check.findings import Cost
from exporter.commands.check.probes import Probe, ProbeResult, RawResponse, first_page, next_probes, read_raw
from exporter.config import Config
from exporter.errors import ApiError, ApiTimeout, InternalFault, PollError
from exporter.masking import Secrets
from exporter.model import Target
from exporter.octopus.client import OctopusClient, RequestCounter
from exporter.octopus.messages import NullObserver, Response
from exporter.octopus.transport import open_session
from exporter.octopus.wire import Page
from exporter.state_log import FaultLog

# Each probe under way may take three more requests, for retries and tokens: altogether they stay below 60.
MOST_REQUESTS = 45
MOST_SECONDS = 55.0
_PROBES_AT_ONCE = 4
_TARGETS_AT_ONCE = 8
# After so many failures in a row no further probe is sent.
_MOST_FAILURES = 4


@dataclass(frozen=True, slots=True)
class ProbedTarget:
    """The results of one target's probes. Shape: `error` says why no page came; rows may be known."""

    target: Target
    results: tuple[ProbeResult, ...]
    cost: Cost
    error: PollError | None = None


async def probe_targets(config: Config, secrets: Secrets) -> list[ProbedTarget]:
    """Probe every target, some at once. Only pages are read: nothing changes on the server."""
    turns = asyncio.Semaphore(_TARGETS_AT_ONCE)

    async def one(clients: ClientFactory, target: Target) -> ProbedTarget:
        async with turns:
            prober = _Prober(clients.client(target), target)
            try:
                return await prober.run()
            except Exception as exc:
                faults = FaultLog(structlog.get_logger(), project=target.project, workspace=target.workspace)
                faults.log("check failed", exc)
                return ProbedTarget(target, (), prober.cost(), InternalFault(exc))

    async with open_session() as session:
        clients = ClientFactory(config, session, NullObserver(), secrets, interactive=True)
        return await asyncio.gather(*(one(clients, target) for target in config.targets()))


class _Prober:
    def __init__(self, client: OctopusClient, target: Target) -> None:
        self._client = client
        self._target = target
        self._counter = RequestCounter()
        self._results: list[ProbeResult] = []
        self._latencies: list[float] = []
        self._began = time.monotonic()
        self._failures = 0
        self._turns = asyncio.Semaphore(_PROBES_AT_ONCE)
        self._has_left_out = False

    async def run(self) -> ProbedTarget:
        while (probes := next_probes(self._results, self._target.path)) and not self._must_stop:
            results = await asyncio.gather(*map(self._in_turn, probes))
            # gather keeps the order of the probes, which decides what later probes ask for.
            self._results += [result for result in results if result is not None]
        self._has_left_out = self._has_left_out or bool(probes)
        error = None if first_page(self._results) is not None else self._results[0].error
        return ProbedTarget(self._target, tuple(self._results), self.cost(), error)

    def cost(self) -> Cost:
        return Cost(
            requests=self._counter.sent,
            seconds=round(time.monotonic() - self._began, 1),
            median=round(statistics.median(self._latencies), 3) if self._latencies else 0.0,
            longest=round(max(self._latencies, default=0.0), 3),
            complete=not self._has_left_out,
        )

    @property
    def _must_stop(self) -> bool:
        return (
            self._counter.sent >= MOST_REQUESTS or self._left_seconds <= 0 or self._failures >= _MOST_FAILURES
        )

    @property
    def _left_seconds(self) -> float:
        return MOST_SECONDS - (time.monotonic() - self._began)

    async def _in_turn(self, probe: Probe) -> ProbeResult | None:
        async with self._turns:
            # The bounds may have been reached while this probe waited for its turn.
            if self._results and self._must_stop:
                self._has_left_out = True
                return None
            return await self._send(probe)

    async def _send(self, probe: Probe) -> ProbeResult:
        raw: list[RawResponse | None] = [None]

        def on_response(response: Response) -> None:
            self._latencies.append(response.received_at - response.sent_at)
            raw[0] = read_raw(response)

        target = self._target
        if probe.workspace_id is not None:
            target = replace(target, workspace_id=probe.workspace_id)
        if probe.path is not None:
            target = replace(target, path=probe.path)
        page: Page | None = None
        error: ApiError | None = None
        asked_ms = _now_ms()
        try:
            async with asyncio.timeout(max(self._left_seconds, 0.0)):
                page = await self._client.list_page(
                    target, probe.query, self._counter, on_response=on_response
                )
            # Only failures in a row count: one that breaks now and then can still be probed.
            self._failures = 0
        except TimeoutError:
            error = ApiTimeout(f"no answer within the {MOST_SECONDS:g} s that a target is given")
        except ApiError as exc:
            error = exc
        # A refusal is a result; these say that the server has trouble, which more probes would add to.
        if error is not None and error.reason in ("unavailable", "timeout", "throttled"):
            self._failures += 1
        return ProbeResult(probe, asked_ms, _now_ms(), page, error, raw[0])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
