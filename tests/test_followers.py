"""What a replica publishes of the targets that others poll."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import pytest

from exporter.config import Config
from exporter.counting.rules import CountingRules
from exporter.errors import LedgerError
from exporter.exposition.publication import Publisher
from exporter.exposition.render import FamilyLines
from exporter.followers import Followers, continued, counted_from, merged
from exporter.masking import Secrets
from exporter.model import PollStatus, Reason, Target, TargetKey, TargetSnapshot, Totals
from exporter.sync.shared_ledger import SharedLedger, SharedTarget, Takeover
from tests.snapshots import POLL, TOTALS


def test_counters_of_polls_never_go_back_whoever_began_them() -> None:
    """The first polls of a holder could not be recorded, so the next holder began at 0, a minute later."""
    none = PollStatus(began_ms=1_000)
    known = replace(none, polls=3, failures=none.failures | {"ledger": 2}, full_syncs={"first": 1})
    recorded = PollStatus(up=True, polls=1, failures=none.failures | {"timeout": 1}, began_ms=61_000)
    status = merged(known, replace(recorded, full_syncs={"first": 0, "gap": 1}))
    assert (status.up, status.polls, status.began_ms) == (True, 3, 1_000)
    assert without_zeros(status.failures) == {"ledger": 2, "timeout": 1}
    assert status.full_syncs == {"first": 1, "gap": 1}


def test_a_process_counts_polls_from_0_and_the_ledger_goes_on() -> None:
    """It may show no less than the process before it, whose last polls were not recorded, or begin at 0."""
    before = PollStatus(
        up=True, polls=7, skipped=2, failures={**PollStatus().failures, "auth": 3}, began_ms=1
    )
    later = replace(before, polls=9, failures={**before.failures, "auth": 4}, began_ms=1)
    shown = merged(PollStatus(began_ms=61_000), counted_from(before, later))
    assert (shown.polls, shown.skipped, shown.began_ms) == (2, 0, 61_000)
    assert without_zeros(shown.failures) == {"auth": 1}
    assert continued(before, shown) == later


def without_zeros(counts: Mapping[Reason, int]) -> dict[Reason, int]:
    return {reason: count for reason, count in counts.items() if count}


# -- what is published ---------------------------------------------------------------------------------------

CONFIG = Config.model_validate(
    {
        "projects": [
            {
                "id": "0876",
                "name": "perception",
                "endpoint": "https://octopus.example",
                "workspaces": ["0", "7"],
            }
        ],
        "credentials": {"default": {"type": "token", "token": "t"}},
        "poll": {"interval": "30s"},
        "ledger": {"url": "postgresql://db/octopus", "lease": "15s"},
        "metrics": {"max_age": "5m"},
    }
)
FIRST, SECOND = (target.key for target in CONFIG.targets())
NOW = 1_700_000_100.0
# As recorded before this process, which counts polls from its first look on: a second after NOW.
POLLED = replace(POLL, polls=0, began_ms=round(NOW * 1000) + 1_000, last_success_ms=round(NOW * 1000) - 5_000)


class _Nothing:
    """Implements exposition.publication.SelfMetrics."""

    def render(self) -> Sequence[Sequence[FamilyLines]]:
        return []


class Stage:
    """Followers before a ledger that is a table of what others have recorded. `ours` are polled here."""

    def __init__(self) -> None:
        self.seen: dict[TargetKey, SharedTarget] = {}
        self.recorded: dict[TargetKey, Totals] = {}
        self.error: LedgerError | None = None
        self.ours: set[TargetKey] = set()
        self.reads: list[TargetKey] = []
        self.looks: list[int] = []
        self.seconds = 0.0
        self.publisher = Publisher(_Nothing())
        self.followers = Followers(
            cast("SharedLedger", self),
            self.publisher,
            Secrets(lambda: NOW),
            CONFIG,
            is_ours=self.ours.__contains__,
            on_look=lambda seen: self.looks.append(len(seen)),
            clock=lambda: NOW + self.seconds,
            timer=lambda: self.seconds,
        )

    def record(
        self, key: TargetKey, revision: int, poll: PollStatus | None = POLLED, lease_left: float = 9.0
    ) -> None:
        """Let another replica record a poll."""
        self.recorded[key] = replace(TOTALS, revision=revision, committed_ms=77)
        self.seen[key] = SharedTarget(key, revision, poll, "other", 1, lease_left)

    async def look(self) -> tuple[SharedTarget, ...]:
        if self.error is not None:
            raise self.error
        return tuple(self.seen.values())

    async def takeovers(self, most: int) -> Sequence[Takeover]:
        return ()

    async def restore(self, target: Target, rules: CountingRules) -> Totals | None:
        self.reads.append(target.key)
        return self.recorded.get(target.key)

    async def follow(self, seconds: float = 1.0) -> None:
        """Look once, so many seconds later, and read what has moved."""
        self.seconds += seconds
        await self.followers.look()
        reading = asyncio.create_task(self.followers._read_moved())
        await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        reading.cancel()

    def last(self, key: TargetKey = FIRST) -> TargetSnapshot:
        last = self.publisher.last(key)
        assert last is not None
        return last

    def revision(self, key: TargetKey = FIRST) -> int:
        totals = self.last(key).totals
        return 0 if totals is None else totals.revision


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_what_another_replica_has_recorded_is_published(stage: Stage) -> None:
    stage.record(FIRST, 3)
    await stage.follow()
    shown = stage.last()
    assert (stage.revision(), shown.poll, shown.held, shown.stale) == (3, POLLED, False, False)
    # Of the other target nothing is known: all its counters are there, at 0.
    assert (stage.last(SECOND).totals, stage.last(SECOND).poll.polls) == (None, 0)
    assert stage.looks == [1]


async def test_only_what_has_moved_is_read_again(stage: Stage) -> None:
    stage.record(FIRST, 3)
    stage.record(SECOND, 8)
    await stage.follow()
    shown = stage.last(SECOND)
    stage.record(FIRST, 4)
    await stage.follow()
    assert stage.reads == [FIRST, SECOND, FIRST]
    # What has not changed is not published again: a rendering costs more than a look.
    assert stage.last(SECOND) is shown
    stage.record(SECOND, 8, replace(POLLED, polls=10))
    await stage.follow()
    assert (stage.last(SECOND).poll.polls, len(stage.reads)) == (10, 3)


async def test_a_target_that_is_polled_here_is_left_to_its_poller(stage: Stage) -> None:
    stage.ours.add(FIRST)
    stage.record(FIRST, 3)
    await stage.follow()
    assert (stage.publisher.last(FIRST), stage.reads) == (None, [])


async def test_totals_never_go_back(stage: Stage) -> None:
    stage.record(FIRST, 3)
    await stage.follow()
    stage.recorded[FIRST] = replace(TOTALS, revision=2)
    stage.seen[FIRST] = replace(stage.seen[FIRST], revision=4)
    await stage.follow()
    assert stage.revision() == 3


async def test_a_reading_that_a_poller_has_overtaken_is_dropped(stage: Stage) -> None:
    stage.record(FIRST, 3)
    stage.seconds += 1
    await stage.followers.look()
    stage.ours.add(FIRST)
    await stage.followers._read(CONFIG.targets()[0])
    assert stage.publisher.last(FIRST) is None


async def test_a_target_that_is_given_up_is_said_to_be_so_at_once(stage: Stage) -> None:
    snapshot = TargetSnapshot(CONFIG.targets()[0], replace(TOTALS, revision=5), POLLED)
    stage.publisher.publish(snapshot)
    stage.followers.given_up([FIRST])
    assert stage.last() == replace(snapshot, held=False)


async def test_failing_polls_of_others_drop_the_gauges_after_max_age(stage: Stage) -> None:
    failing = replace(POLLED, up=False)
    stage.record(FIRST, 3, failing)
    await stage.follow()
    assert not stage.last().stale
    await stage.follow(300)
    assert stage.last().stale
    # Its holder lists everything, which takes long: no poll has failed.
    stage.record(FIRST, 3, POLLED)
    await stage.follow()
    assert not stage.last().stale
    # Nobody polls it any more.
    stage.record(FIRST, 3, POLLED, lease_left=-1)
    await stage.follow()
    assert stage.last().stale


async def test_a_target_that_nobody_takes_fails_a_lease_later(stage: Stage) -> None:
    stage.record(FIRST, 3, lease_left=-14)
    await stage.follow()
    assert stage.last().poll.up
    stage.record(FIRST, 3, lease_left=-16)
    await stage.follow()
    shown = stage.last()
    assert (shown.poll.up, shown.poll.error and shown.poll.error.message) == (
        False,
        "no replica polls this target",
    )
    stage.record(FIRST, 3, lease_left=-17)
    await stage.follow()
    assert stage.last() is shown
    stage.record(FIRST, 3)
    await stage.follow()
    assert (stage.last().poll.up, stage.last().poll.error) == (True, None)


async def test_a_target_without_a_recorded_poll_is_as_old_as_its_last_commit(stage: Stage) -> None:
    """A ledger that was migrated from SQLite has none."""
    stage.record(FIRST, 3, None)
    await stage.follow()
    assert stage.last().poll.last_success_ms == 77


async def test_without_the_ledger_polls_fail_and_then_gauges_are_dropped(stage: Stage) -> None:
    stage.record(FIRST, 3)
    await stage.follow()
    stage.error = LedgerError("the database is away")
    await stage.follow(10)
    assert stage.last().poll == POLLED
    await stage.follow(6)
    shown = stage.last()
    assert (shown.poll.up, shown.poll.error and shown.poll.error.reason) == (False, "ledger")
    assert (shown.poll.polls, shown.poll.failures["ledger"], shown.stale) == (POLLED.polls + 1, 1, False)
    assert stage.followers.sight.away_since_ms == round((NOW + 1) * 1000)
    await stage.follow(1)
    assert stage.last().poll.polls == POLLED.polls + 1
    # One poll fails each interval, and four leases after the last look the gauges go.
    await stage.follow(30)
    assert (stage.last().poll.failures["ledger"], stage.last().stale) == (2, False)
    await stage.follow(13)
    assert stage.last().stale
    # The counters of polls do not go back when the ledger is there again.
    stage.error = None
    await stage.follow()
    shown = stage.last()
    assert (shown.poll.up, shown.poll.error, shown.stale) == (True, None, False)
    assert (shown.poll.polls, shown.poll.failures["ledger"]) == (POLLED.polls + 2, 2)
    assert stage.followers.sight.away_since_ms is None


async def test_a_target_that_leaves_the_configuration_is_withdrawn(stage: Stage) -> None:
    stage.record(FIRST, 3)
    stage.record(SECOND, 3)
    await stage.follow()
    (project,) = CONFIG.projects
    less = project.model_copy(update={"workspaces": ("7",)})
    stage.followers.configure(CONFIG.model_copy(update={"projects": (less,)}))
    await stage.follow()
    assert (stage.publisher.last(FIRST), stage.revision(SECOND)) == (None, 3)


async def test_other_rules_read_everything_again(stage: Stage) -> None:
    stage.record(FIRST, 3)
    await stage.follow()
    metrics = CONFIG.metrics.model_copy(update={"running_buckets": (1.0, 2.0)})
    stage.followers.configure(CONFIG.model_copy(update={"metrics": metrics}))
    await stage.follow()
    await stage.follow()
    assert stage.reads == [FIRST, FIRST]
