"""
Weeks of polls against the simulator, in seconds: at the end all counts must agree exactly.

The poller, the client and the ledger are the real ones, over real HTTP. The clock is the simulator's. It
moves only between polls, so a run depends only on its seed.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from exporter.ledger.ended import KEPT_MS, MOST_KEPT
from exporter.ledger.sqlite import SqliteLedger
from exporter.masking import Secrets
from exporter.model import Target, TargetSnapshot, Totals
from exporter.octopus.auth.password import PasswordCredentials
from exporter.octopus.client import OctopusClient
from exporter.octopus.limiter import EndpointLimiter
from exporter.octopus.messages import NullObserver
from exporter.octopus.retry import Retrier
from exporter.octopus.transport import Transport, open_session
from exporter.runs import RunFilter
from exporter.simulator import DEMO_PROJECT, SimulatorSettings, serve
from exporter.sync.change_reader import PollRules
from exporter.sync.planner import Schedule
from exporter.sync.poller import PollTiming, TargetPoller
from tests.e2e.agreement import lived
from tests.fake_api import COUNTING, a_target

START_MS = 1_750_000_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
# Long enough for a scheduled full sync to see what no other poll does: a finished job that ran again between
# two polls. The simulator reopens no job within two hours of its end.
SCHEDULE = Schedule(40 * 24 * HOUR_MS, 10 * MINUTE_MS, 90 * MINUTE_MS, 20 * MINUTE_MS, 10 * MINUTE_MS)
# No throttling: the exporter would wait in real time.
# No expiry of tokens: the next login of a project is a minute later, and no poll here waits so long.
FAULTS = "errors=0.03,broken=0.01"

Figures = Mapping[tuple[str, ...], int]


@dataclass
class Outcome:
    """The result of a long run: both accounts, also of the failures of the last day, and statistics."""

    polls: int = 0
    failed_polls: int = 0
    requests: int = 0
    full_syncs: Mapping[str, int] = field(default_factory=dict)
    exporter: dict[str, Figures] = field(default_factory=dict)
    simulator: dict[str, Figures] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        return self.exporter == self.simulator


class _Password:
    from_file = False

    def get(self) -> str:
        return "demo-password"


class _Life:
    """One simulator, one target and their common clock; implements poller.Publications."""

    def __init__(self, url: str, session: aiohttp.ClientSession, chance: random.Random) -> None:
        self.url = url
        self.session = session
        self.chance = chance
        self.now_ms = START_MS
        self.target = a_target(project_id=DEMO_PROJECT, endpoint=url)
        self.shown: TargetSnapshot | None = None
        self.rested = 0.0

    async def rest(self, seconds: float) -> None:
        """Do not wait: nothing can happen while the simulated clock stands still."""
        self.rested += seconds
        await asyncio.sleep(0)

    def publish(self, snapshot: TargetSnapshot) -> None:
        self.shown = snapshot

    async def tell(self, what: str, **order: Any) -> Any:
        async with self.session.post(f"{self.url}/simulator/{what}", json=order) as answer:
            return await answer.json()

    async def pass_time(self, minutes: float) -> None:
        self.now_ms = (await self.tell("clock", advance_seconds=minutes * 60))["now_ms"]

    async def account(self, since_ms: int) -> Any:
        async with self.session.get(f"{self.url}/simulator/account?since_ms={since_ms}") as answer:
            return (await answer.json())["targets"][0]

    def poller(self, ledger: SqliteLedger) -> TargetPoller:
        retrier = Retrier(NullObserver(), sleep=self.rest, random=self.chance.random)
        transport = Transport(
            session=self.session, observer=NullObserver(), secrets=Secrets(), timeout_seconds=5
        )
        credentials = PasswordCredentials(
            name="default",
            domain="octopus-demo",
            user="exporter",
            password=_Password(),
            iam_endpoint=self.url,
            transport=transport,
            retrier=retrier,
            # Logins are a minute apart by this clock.
            clock=lambda: self.now_ms / 1000,
        )
        client = OctopusClient(
            transport=transport,
            credentials=credentials,
            limiter=EndpointLimiter(1e6, clock=lambda: self.rested, sleep=self.rest),
            retrier=retrier,
            observer=NullObserver(),
        )
        return TargetPoller(
            self.target,
            client,
            ledger,
            self,
            PollRules(SCHEDULE, 50, 4, COUNTING),
            PollTiming(30, 300),
            clock=lambda: self.now_ms / 1000,
        )


async def long_run(seed: int, polls: int, folder: Path, jobs: int = 400) -> Outcome:
    """Poll `polls` times with faults, quirks and restarts, then once without, and compare the accounts."""
    chance = random.Random(seed)
    order = chance.choice(("created-desc", "created-asc", "update-desc"))
    settings = SimulatorSettings(
        jobs=jobs, seed=seed, speed=0, start_ms=START_MS, faults=FAULTS, order=order, jobs_per_day=1_500
    )
    simulator = await serve(settings)
    outcome = Outcome()
    async with open_session() as session:
        life = _Life(simulator.url, session, chance)
        ledger = await SqliteLedger.open(folder / f"{seed}.db")
        poller = life.poller(ledger)
        await life.pass_time(0)
        while poller.status.last_success_ms is None:  # life begins once there is a baseline
            await poller.poll()
        for _ in range(polls):
            await life.pass_time(chance.choice((0.5, 1, 5)))
            if chance.random() < 0.02:
                await life.tell("quirks", shift="both", shift_every=chance.randint(2, 5), clamp_limit=20)
            if chance.random() < 0.02:
                await life.tell("quirks", omit_total=chance.random() < 0.5)
            if chance.random() < 0.02:
                await ledger.close()
                ledger = await SqliteLedger.open(folder / f"{seed}.db")
                status, poller = poller.status, life.poller(ledger)
                poller.status = status
            await poller.release_all()
            _count(outcome, poller, await poller.poll())
        await life.tell("faults", faults="")
        await life.tell("quirks")
        life.now_ms += SCHEDULE.full_sync_interval_ms
        for _ in range(3):
            await poller.release_all()
            _count(outcome, poller, await poller.poll())
        assert life.shown is not None
        assert life.shown.totals is not None
        totals = life.shown.totals
        outcome.exporter = figures_of(totals)
        outcome.simulator = lived(await life.account(totals.baseline_ms or 0))
        day_ago_ms = max(life.now_ms - KEPT_MS, totals.baseline_ms or 0)
        outcome.exporter["failures of a day"] = await _kept_failures(ledger, life.target, day_ago_ms)
        outcome.simulator["failures of a day"] = lived(await life.account(day_ago_ms))["failures"]
        outcome.full_syncs = poller.status.full_syncs
        await ledger.close()
    await simulator.close()
    return outcome


async def _kept_failures(ledger: SqliteLedger, target: Target, since_ms: int) -> Figures:
    """Count the failed runs in the ledger. None may be there twice."""
    which = RunFilter(since_ms=since_ms)
    async with ledger.reading() as reader:
        selection = await reader.select_failed([target.key], which, MOST_KEPT)
        runs = [failed.run for failed in await reader.failed([target.key], selection.keys)]
    assert len({(run.job_id, run.number) for run in runs}) == len(runs)
    return dict(Counter((run.job_type, run.status, run.msg_code) for run in runs))


def _count(outcome: Outcome, poller: TargetPoller, succeeded: bool) -> None:
    outcome.polls += 1
    outcome.failed_polls += not succeeded
    outcome.requests += poller.status.requests or 0


def figures_of(totals: Totals) -> dict[str, Figures]:
    """Return the published values under the names and in the units of the simulator's account."""
    return {
        "created": _whole({(kind,): value.value for kind, value in totals.created.items()}),
        "started": _whole({(kind,): sum(value.counts) for kind, value in totals.submitting.items()}),
        "submitting_ms": _whole({(kind,): value.sum_ms for kind, value in totals.submitting.items()}),
        "ended": _whole({key: value.value for key, value in totals.completed.items()}),
        "failures": _whole({key: value.value for key, value in totals.failures.items()}),
        "ran": _whole({key: sum(value.counts) for key, value in totals.running.items()}),
        "running_ms": _whole({key: value.sum_ms for key, value in totals.running.items()}),
        "core_us": _whole({key: used.value for key, used in totals.core_seconds.items()}),
        "gpu_us": _whole({key: used.value for key, used in totals.gpu_seconds.items()}),
        "memory_gib_us": _whole({key: used.value for key, used in totals.memory_seconds.items()}),
        "spec_started": _whole(
            {(spec,): sum(value.counts) for spec, value in totals.resource_submitting.items()}
        ),
        "spec_submitting_ms": _whole(
            {(spec,): value.sum_ms for spec, value in totals.resource_submitting.items()}
        ),
        "reruns": _whole({(kind,): value.value for kind, value in totals.reruns.items()}),
        "spec_in_flight": _whole(totals.resource_jobs),
        "listed": _whole(totals.jobs),
    }


def _whole(values: Mapping[tuple[str, ...], int]) -> Figures:
    return {key: value for key, value in values.items() if value}
