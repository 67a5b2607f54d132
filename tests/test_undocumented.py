"""Job types and statuses that nobody documents: when their runs end, how many get series, what they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from exporter.errors import ApiUnavailable
from exporter.exposition.render import EOF, assemble, render_target
from exporter.ledger.sql import SqlLedger
from exporter.model import JOB_TYPES, OTHER, STATUSES, Job, PollStatus, TargetSnapshot, Totals
from exporter.octopus.wire import ListQuery
from exporter.sync.poll import Poll
from tests.fake_api import AUDIT_MS, FULL_SYNC_MS, FakeApi, a_job, a_target, poll_rules
from tests.held import release_held
from tests.ledgers import BackEnd, only_sqlite

TYPE = "FRAME_EXTRACT"
ARCHIVED = (TYPE, "ARCHIVED")
LOOKBACK_MS = 10_000_000
START_MS = 1_000_000_000


class Scene:
    """A ledger's file and an API; `rules` are how a target is polled, `jobs_listed` is what it lists."""

    def __init__(self, back_end: BackEnd) -> None:
        self.back_end = back_end
        self.api = FakeApi(now_ms=START_MS)
        self.rules = poll_rules(5, LOOKBACK_MS)
        self.target = a_target()
        self.ledger: SqlLedger

    async def open(self) -> None:
        self.ledger = await self.back_end.open()

    async def restart(self) -> None:
        await self.ledger.close()
        await self.open()

    async def poll(self) -> Totals:
        self.api.now_ms += 10_000
        self.api.asked.clear()
        await release_held(self.ledger, self.target)
        return await self._poll().run()

    def _poll(self) -> Poll:
        return Poll(self.target, self.api, self.ledger, self.rules, lambda: self.api.now_ms)

    async def polls(self, number: int) -> Totals:
        for _ in range(number):
            totals = await self.poll()
        return totals

    async def audit(self) -> Totals | None:
        self.api.now_ms += AUDIT_MS
        await release_held(self.ledger, self.target)
        poll = self._poll()
        await poll.run()
        self.api.asked.clear()
        return await poll.audit()

    def put(self, job_id: int, status: str, *, ended: bool = False, **fields: object) -> Job:
        """Let a job that started 30 s ago be in a status now."""
        now = self.api.now_ms = self.api.now_ms + 1_000
        times = {"created_ms": now - 35_000, "started_ms": now - 30_000, "updated_ms": now}
        end = {"ended_ms": now} if ended else {}
        before = self.api.jobs.get(job_id)
        if before is not None:
            times |= {"created_ms": before.created_ms, "started_ms": before.started_ms or 0}
        job = a_job(job_id, status, **(times | end | fields))
        self.api.put(job)
        return job

    def finish_many(self, number: int) -> None:
        """Make the target one that is not read whole at every poll."""
        for job_id in range(10_000, 10_000 + number):
            self.put(job_id, "FINISHED", ended=True)

    async def invented(self) -> tuple[str, ...]:
        return (await self.ledger.summary(self.target)).invented


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    scene = Scene(back_end)
    await scene.open()
    yield scene
    await scene.ledger.close()


def completed(totals: Totals, status: str = "ARCHIVED") -> int | None:
    value = totals.completed.get((TYPE, status))
    return None if value is None else value.value


# -- when a run ends -------------------------------------------------------------------------------------


async def test_a_run_that_ends_in_an_unknown_status_counts_and_its_series_begin_at_zero(scene: Scene) -> None:
    scene.put(1, "RUNNING")
    totals = await scene.poll()
    assert ARCHIVED not in totals.completed
    scene.put(1, "ARCHIVED", ended=True)
    first, second = await scene.poll(), await scene.poll()
    assert (completed(first), completed(second)) == (0, 1)
    assert (sum(first.running[ARCHIVED].counts), sum(second.running[ARCHIVED].counts)) == (0, 1)
    assert (second.jobs[ARCHIVED], second.undocumented_ended) == (1, 1)
    assert ARCHIVED not in second.oldest_created_ms
    assert not any(value.value for value in second.failures.values())
    assert await scene.invented() == ()


async def test_a_run_that_fails_in_an_unknown_status_is_a_failure(scene: Scene) -> None:
    scene.put(1, "RUNNING")
    await scene.poll()
    scene.put(1, "EXPORT_FAILED", ended=True, msg_code="7")
    first, second = await scene.poll(), await scene.poll()
    key = (TYPE, "EXPORT_FAILED", "7")
    assert (first.failures[key].value, second.failures[key].value) == (0, 1)
    async with scene.ledger.reading() as reader:
        (runs,) = (await reader.recent_failures([a_target().key], 50)).values()
    assert [run.status for run in runs] == ["EXPORT_FAILED"]


async def test_one_unknown_status_may_hold_jobs_in_flight_and_ended_ones(scene: Scene) -> None:
    running = scene.put(1, "ARCHIVED")
    scene.put(2, "ARCHIVED", ended=True)
    totals = await scene.poll()
    assert (totals.jobs[ARCHIVED], totals.undocumented_ended) == (2, 1)
    assert totals.oldest_created_ms[ARCHIVED] == running.created_ms
    assert await scene.invented() == ("ARCHIVED",)
    scene.put(1, "FINISHED", ended=True)
    totals = await scene.poll()
    assert (totals.jobs[ARCHIVED], totals.oldest_created_ms) == (1, {})
    assert completed(totals, "FINISHED") == 1


async def test_what_ended_in_an_unknown_status_before_the_first_sync_is_history(scene: Scene) -> None:
    scene.finish_many(12)
    for job_id in range(1, 8):
        scene.put(job_id, "ARCHIVED", ended=True)
    totals = await scene.polls(2)
    assert (totals.jobs[ARCHIVED], completed(totals), totals.created[TYPE].value) == (7, None, 0)


async def test_a_job_that_is_gone_and_comes_back_is_compared_with_what_it_was(scene: Scene) -> None:
    await scene.poll()
    scene.api.now_ms += 60_000
    jobs = [scene.put(1, "ARCHIVED"), scene.put(2, "ARCHIVED", ended=True)]
    await scene.polls(2)
    scene.api.jobs.clear()
    totals = await scene.poll()
    assert (totals.jobs[ARCHIVED], completed(totals), totals.oldest_created_ms) == (0, 1, {})
    scene.api.put(*jobs)
    totals = await scene.poll()
    assert (totals.jobs[ARCHIVED], completed(totals)) == (2, 1)
    scene.api.jobs.clear()
    await scene.poll()
    scene.put(1, "ARCHIVED", ended=True, created_ms=jobs[0].created_ms, started_ms=jobs[0].started_ms)
    totals = await scene.poll()
    assert (totals.jobs[ARCHIVED], completed(totals), totals.created[TYPE].value) == (1, 2, 2)


# -- poll.terminal_statuses ------------------------------------------------------------------------------


async def test_a_status_named_terminal_ends_runs_without_an_end_time(scene: Scene) -> None:
    scene.api.terminal = frozenset({"ARCHIVED"})
    scene.put(1, "RUNNING")
    await scene.poll()
    scene.put(1, "ARCHIVED")
    totals = await scene.polls(2)
    assert (completed(totals), totals.undocumented_ended) == (1, 1)
    assert ARCHIVED not in totals.running  # how long it ran is not known


async def test_naming_a_status_ends_the_runs_in_it_once_and_is_no_spike(scene: Scene) -> None:
    for job_id in range(1, 21):
        scene.put(job_id, "ARCHIVED")
    await scene.poll()
    scene.put(50, "ARCHIVED")
    await scene.poll()
    await scene.restart()
    scene.api.terminal = frozenset({"ARCHIVED"})
    totals = await scene.polls(3)
    assert (totals.jobs[ARCHIVED], totals.undocumented_ended, totals.oldest_created_ms) == (21, 21, {})
    assert completed(totals) == 1  # the others were in that status before anything counted


async def test_a_status_that_is_named_no_more_counts_nothing_twice(scene: Scene) -> None:
    scene.api.terminal = frozenset({"ARCHIVED"})
    await scene.poll()
    for job_id in range(1, 21):
        scene.put(job_id, "ARCHIVED")
    assert completed(await scene.polls(2)) == 20
    for terminal in (frozenset(), frozenset({"ARCHIVED"}), frozenset[str]()):
        await scene.restart()
        scene.api.terminal = terminal
        totals = await scene.polls(2)
        assert (totals.jobs[ARCHIVED], completed(totals)) == (20, 20)
    scene.put(1, "FINISHED", ended=True)
    totals = await scene.poll()
    assert (completed(totals), completed(totals, "FINISHED")) == (20, 0)
    scene.put(2, "RUNNING", started_ms=scene.api.now_ms)
    await scene.poll()
    scene.put(2, "FINISHED", ended=True)
    assert completed(await scene.poll(), "FINISHED") == 1


# -- what they cost --------------------------------------------------------------------------------------


def statuses_listed(scene: Scene) -> list[ListQuery]:
    return [query for query in scene.api.asked if set(query.statuses) - set(STATUSES)]


async def test_jobs_of_unknown_status_older_than_the_lookback_are_left_to_full_syncs(scene: Scene) -> None:
    scene.finish_many(40)
    for job_id in range(1, 31):
        scene.put(job_id, "ARCHIVED")
    await scene.poll()
    scene.api.now_ms += 2 * LOOKBACK_MS
    scene.finish_many(40)
    scene.put(100, "ARCHIVED")
    await scene.poll()  # a full sync, after a gap
    totals = await scene.poll()
    assert (totals.jobs[ARCHIVED], totals.undocumented_ended) == (31, 0)
    assert 1 <= len(statuses_listed(scene)) <= 2
    assert all((query.start_time_ms or 0) > scene.api.jobs[30].created_ms for query in statuses_listed(scene))
    assert not any(query.job_id for query in scene.api.asked)
    scene.put(1, "ARCHIVED", ended=True)
    del scene.api.jobs[2]
    assert (await scene.poll()).jobs[ARCHIVED] == 31
    scene.api.now_ms += 2 * FULL_SYNC_MS
    totals = await scene.poll()
    assert {query.job_id for query in scene.api.asked} == {None, 2}  # a few pages show the others
    totals = await scene.poll()
    assert (totals.jobs[ARCHIVED], completed(totals)) == (29, 1)


async def test_a_status_in_which_nearly_all_jobs_have_ended_is_not_listed_for_the_others(
    scene: Scene,
) -> None:
    for job_id in range(1, 301):
        scene.put(job_id, "ARCHIVED", ended=True)
    scene.put(500, "ARCHIVED")
    await scene.poll()
    assert await scene.invented() == ()
    totals = await scene.poll()
    assert (totals.jobs[ARCHIVED], totals.undocumented_ended, statuses_listed(scene)) == (301, 300, [])


async def test_an_audit_compares_what_the_ledger_has_within_the_lookback(scene: Scene) -> None:
    scene.finish_many(40)
    for job_id in range(1, 4):
        scene.put(job_id, "ARCHIVED", ended=True)
    scene.put(4, "ARCHIVED")
    scene.put(5, "PONDERING")
    await scene.poll()
    totals = await scene.audit()
    assert totals is not None
    assert totals.drift == dict.fromkeys((*STATUSES, "ARCHIVED", "PONDERING"), 0)
    scene.api.now_ms += 2 * LOOKBACK_MS
    scene.put(6, "RESTING")
    totals = await scene.audit()
    assert totals is not None
    # In the others the ledger has jobs in flight since before the lookback.
    assert totals.drift == dict.fromkeys((*STATUSES, "RESTING"), 0)


# -- how many get series ---------------------------------------------------------------------------------


def labels(totals: Totals) -> tuple[set[str], set[str]]:
    """Give the undocumented job types and statuses that are exported."""
    keys = [*totals.jobs, *totals.completed, *totals.running]
    types = {kind for kind, _ in keys} | set(totals.created) | set(totals.submitting)
    return types - set(JOB_TYPES), {status for _, status in keys} - set(STATUSES)


async def test_the_first_that_come_have_labels_of_their_own_and_keep_them(scene: Scene) -> None:
    scene.rules = poll_rules(5, LOOKBACK_MS, max_job_types=2, max_statuses=1)
    await scene.poll()
    scene.api.now_ms += 60_000
    for job_id, kind in enumerate(("A", "B", "C", "A", "other"), start=1):
        scene.put(job_id, "RUNNING", job_type=kind)
    await scene.poll()
    scene.put(6, "NEW")
    await scene.poll()
    for job_id in range(1, 6):
        kind = scene.api.jobs[job_id].job_type
        scene.put(job_id, f"E{job_id}_FAILED", ended=True, job_type=kind, msg_code="7")
    await scene.poll()
    await scene.restart()
    totals = await scene.polls(2)
    own = {kind for kind in ("A", "B", "C", "other") if totals.created.get(kind)}
    assert len(own - {OTHER}) == 2
    assert labels(totals) == (own, {"NEW", OTHER})
    assert sum(value.value for value in totals.completed.values()) == 5
    assert sum(value.value for value in totals.failures.values()) == 5
    assert {status for (_, status, _), value in totals.failures.items() if value.value} == {OTHER}
    assert sum(value.value for value in totals.created.values()) == 6


async def test_the_first_resource_specs_have_labels_of_their_own_and_keep_them(scene: Scene) -> None:
    """Over a restart, a lower bound, and whatever text the API sends."""
    odd = 'a "GPU"\\{}'
    scene.rules = poll_rules(5, LOOKBACK_MS, max_resource_specs=2)
    for job_id, spec in enumerate((odd, "2Core_4GiB", "", "8Core_16GiB", "other", odd), start=1):
        scene.put(job_id, "QUEUING", resource_spec=spec)
    own = {spec for spec, _ in (await scene.poll()).resource_jobs} - {"", OTHER}
    assert len(own) == 2
    scene.rules = poll_rules(5, LOOKBACK_MS, max_resource_specs=0)
    await scene.restart()
    scene.put(7, "QUEUING", resource_spec="64Core_128GiB")
    totals = await scene.poll()
    waiting = {spec: jobs for (spec, status), jobs in totals.resource_jobs.items() if status == "QUEUING"}
    assert waiting.keys() == totals.resource_submitting.keys() == {*own, "", OTHER}
    assert (sum(waiting.values()), waiting[""]) == (7, 1)
    published = assemble([render_target(TargetSnapshot(scene.target, totals, PollStatus()))])
    shown = {
        sample.labels["resource_spec"]: sample.value
        for family in parse_openmetrics((published.openmetrics.plain + EOF).decode())
        for sample in family.samples
        if sample.name == "octopus_resource_jobs" and sample.labels["status"] == "QUEUING"
    }
    assert shown == waiting


async def test_what_a_failed_poll_has_seen_keeps_its_label_and_rows_of_others_take_none(
    scene: Scene,
) -> None:
    scene.rules = poll_rules(5, LOOKBACK_MS, max_job_types=1)
    scene.target = a_target(workspace="7", workspace_id="7")
    scene.put(1, "RUNNING", job_type="THEIRS", workspace_id="8")
    scene.put(2, "RUNNING", job_type="OURS", workspace_id="7")

    def fail(query: ListQuery) -> None:
        if not query.statuses:  # what is in flight was read before
            raise ApiUnavailable("no")

    scene.api.before_page = fail
    with pytest.raises(ApiUnavailable):
        await scene.poll()
    scene.api.before_page = None
    scene.put(3, "QUEUING", job_type="LATER", workspace_id="7")
    await scene.restart()
    totals = await scene.poll()
    assert labels(totals)[0] == {"OURS", OTHER}


async def test_a_configured_job_type_has_a_label_however_many_there_are(scene: Scene) -> None:
    scene.rules = poll_rules(5, LOOKBACK_MS, max_job_types=0)
    scene.target = a_target(job_types=("MINE", TYPE))
    scene.put(1, "RUNNING", job_type="MINE")
    totals = await scene.poll()
    assert totals.jobs["MINE", "RUNNING"] == 1
    scene.target = a_target()
    scene.put(2, "RUNNING", job_type="YOURS")
    totals = await scene.poll()
    assert (totals.jobs["MINE", "RUNNING"], totals.jobs[OTHER, "RUNNING"]) == (1, 1)


async def test_a_job_type_that_counted_as_other_does_not_count_again_when_it_is_configured(
    scene: Scene,
) -> None:
    scene.rules = poll_rules(5, LOOKBACK_MS, max_job_types=0)
    await scene.poll()
    for job_id in range(1, 4):
        scene.put(job_id, "RUN_FAILED", ended=True, job_type="MINE")
    await scene.poll()
    assert (await scene.poll()).completed[OTHER, "RUN_FAILED"].value == 3
    scene.target = a_target(job_types=("MINE", TYPE))
    await scene.poll()
    totals = await scene.poll()
    assert (totals.jobs["MINE", "RUN_FAILED"], totals.completed["MINE", "RUN_FAILED"].value) == (3, 0)
    scene.put(4, "RUN_FAILED", ended=True, job_type="MINE")
    assert (await scene.poll()).completed["MINE", "RUN_FAILED"].value == 1


async def test_a_job_type_that_gets_a_label_of_its_own_later_counts_no_run_again(scene: Scene) -> None:
    scene.rules = poll_rules(5, LOOKBACK_MS, max_job_types=0)
    await scene.poll()
    scene.api.now_ms += 60_000
    scene.put(1, "RUN_FAILED", ended=True, job_type="MINE")
    scene.put(2, "RUNNING", job_type="MINE")
    await scene.poll()
    scene.rules = poll_rules(5, LOOKBACK_MS, max_job_types=1)
    await scene.restart()
    totals = await scene.polls(2)
    assert (totals.jobs["MINE", "RUN_FAILED"], totals.jobs["MINE", "RUNNING"]) == (1, 1)
    scene.put(2, "RUN_FAILED", ended=True, job_type="MINE")
    totals = await scene.polls(2)
    for kind, created in ((OTHER, 2), ("MINE", 0)):
        assert totals.created[kind].value == sum(totals.submitting[kind].counts) == created
        assert (totals.completed[kind, "RUN_FAILED"].value, totals.reruns[kind].value) == (1, 0)


async def test_history_is_labelled_like_all_else(scene: Scene) -> None:
    scene.rules = poll_rules(5, LOOKBACK_MS, max_job_types=2, max_statuses=2)
    for job_id in range(1, 31):
        scene.put(job_id, f"S{job_id % 6}", ended=True, job_type=f"T{job_id % 5}")
    totals = await scene.poll()
    kinds, statuses = labels(totals)
    assert (len(kinds), len(statuses)) == (3, 3)
    assert (sum(totals.jobs.values()), totals.undocumented_ended) == (30, 30)
    by_kind = Counter[str]()
    for (kind, _), jobs in totals.jobs.items():
        by_kind[kind] += jobs
    assert by_kind[OTHER] == 18


@only_sqlite
async def test_ten_thousand_types_and_two_thousand_statuses_stay_bounded_and_exact(scene: Scene) -> None:
    scene.rules = poll_rules(1_000, LOOKBACK_MS)
    await scene.poll()
    scene.api.now_ms += 60_000
    now = scene.api.now_ms
    for n in range(10_000):
        ended = {"ended_ms": now} if n % 2 else {}
        times = {"created_ms": now - 35_000 - n, "started_ms": now - 30_000, "updated_ms": now}
        scene.api.put(a_job(n + 1, f"STATUS_{n % 2_000}_FAILED", job_type=f"TYPE_{n}", **times, **ended))
    await scene.poll()
    totals = await scene.poll()
    kinds, statuses = labels(totals)
    assert (len(kinds), len(statuses)) == (51, 51)
    assert sum(totals.jobs.values()) == 10_000
    assert totals.undocumented_ended == 5_000
    assert sum(value.value for value in totals.created.values()) == 10_000
    assert sum(value.value for value in totals.completed.values()) == 5_000
    assert sum(value.value for value in totals.failures.values()) == 5_000
    assert sum(sum(value.counts) for value in totals.running.values()) == 5_000
    assert len(scene.api.asked) < 30
    exposition = assemble([render_target(TargetSnapshot(scene.target, totals, PollStatus()))]).text.plain
    assert len(exposition) < 5_000_000
    audited = await scene.audit()
    assert audited is not None
    assert len(scene.api.asked) <= len(STATUSES) + 50
    assert not any(value for value in audited.drift.values())
