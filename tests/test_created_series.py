"""When each counter and histogram began, over new series, restarts, lost ledgers and changed buckets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from exporter.exposition.render import EOF, assemble, render_target
from exporter.ledger.sql import SqlLedger
from exporter.model import CounterValue, HistogramValue, PollStatus, TargetSnapshot, Totals
from exporter.sync.change_reader import PollRules
from exporter.sync.poll import Poll
from tests.fake_api import FakeApi, a_job, a_target, poll_rules
from tests.held import release_held
from tests.ledgers import BackEnd, only_sqlite

TYPE = "FRAME_EXTRACT"
FAILED = (TYPE, "RUN_FAILED")


class Scene:
    """A ledger's file, an API and a target; `at_ms` has our clock at each poll's commit."""

    def __init__(self, back_end: BackEnd) -> None:
        self.back_end = back_end
        self.api = FakeApi()
        self.target = a_target()
        self.at_ms: list[int] = []
        self.ledger: SqlLedger

    async def open(self) -> None:
        self.ledger = await self.back_end.open()

    async def poll(self, rules: PollRules | None = None) -> Totals:
        self.api.now_ms += 10_000
        self.at_ms.append(self.api.now_ms)
        rules = rules or poll_rules()
        await release_held(self.ledger, self.target, rules.counting, self.api.now_ms)
        poll = Poll(self.target, self.api, self.ledger, rules, lambda: self.api.now_ms)
        return await poll.run()

    def fail_job(self, job_id: int, **fields: object) -> None:
        now = self.api.now_ms = self.api.now_ms + 60_000
        times = {"created_ms": now - 35_000, "started_ms": now - 30_000, "ended_ms": now, "updated_ms": now}
        self.api.put(a_job(job_id, "RUN_FAILED", **(times | fields)))


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    scene = Scene(back_end)
    await scene.open()
    yield scene
    await scene.ledger.close()


def series(totals: Totals) -> Iterator[CounterValue | HistogramValue]:
    """Give the series that come with a job type; those of a resource spec come when it is first seen."""
    for counters in (totals.created, totals.completed, totals.failures, totals.reruns):
        yield from counters.values()
    for used in (totals.core_seconds, totals.gpu_seconds, totals.memory_seconds):
        yield from used.values()
    for histograms in (totals.submitting, totals.running):
        yield from histograms.values()


def births(totals: Totals) -> set[int | None]:
    return {value.created_ms for value in series(totals)}


async def test_all_that_is_there_from_the_start_began_with_the_first_commit(scene: Scene) -> None:
    scene.api.put(a_job(1, "RUN_FAILED", ended_ms=1))
    assert births(await scene.poll()) == {scene.at_ms[0]}
    scene.fail_job(2)
    counted = await scene.poll()
    assert counted.completed[FAILED].value == 1
    assert births(counted) == {scene.at_ms[0]}


async def test_a_series_that_is_born_later_began_then(scene: Scene) -> None:
    await scene.poll()
    scene.fail_job(1, msg_code="4711")
    for value in (0, 1):
        totals = await scene.poll()
        found = totals.failures[*FAILED, "4711"]
        assert (found.value, found.created_ms) == (value, scene.at_ms[1])
    assert totals.failures[*FAILED, ""].created_ms == scene.at_ms[0]


async def test_a_type_the_api_invents_began_when_it_was_first_listed(scene: Scene) -> None:
    await scene.poll()
    scene.fail_job(1, job_type="INVENTED")
    for _ in range(3):
        totals = await scene.poll()
        invented = totals.completed["INVENTED", "RUN_FAILED"], totals.running["INVENTED", "FINISHED"]
        assert {value.created_ms for value in invented} == {scene.at_ms[1]}
        assert totals.created[TYPE].created_ms == scene.at_ms[0]


async def test_the_waits_of_a_resource_spec_began_when_it_was_first_seen(scene: Scene) -> None:
    await scene.poll()
    scene.api.put(a_job(1, "QUEUING", created_ms=scene.api.now_ms, resource_spec="2Core_4GiB"))
    queued = (await scene.poll()).resource_submitting["2Core_4GiB"]
    assert (sum(queued.counts), queued.created_ms) == (0, scene.at_ms[1])
    scene.fail_job(1, resource_spec="2Core_4GiB")
    started = (await scene.poll()).resource_submitting["2Core_4GiB"]
    assert (sum(started.counts), started.created_ms) == (1, scene.at_ms[1])


@only_sqlite
async def test_a_restart_leaves_the_beginnings_and_a_lost_ledger_does_not(scene: Scene) -> None:
    scene.fail_job(1)
    before = await scene.poll()
    await scene.ledger.close()
    await scene.open()
    restored = await scene.ledger.restore(scene.target, poll_rules().counting)
    assert restored is not None
    assert births(restored) == births(before) == {scene.at_ms[0]}
    await scene.ledger.close()
    for file in scene.back_end.file.parent.glob("ledger.db*"):
        file.unlink()
    await scene.open()
    assert births(await scene.poll()) == {scene.at_ms[1]}


async def test_changed_buckets_begin_anew_and_nothing_else_does(scene: Scene) -> None:
    await scene.poll()
    scene.fail_job(1)
    await scene.poll()
    other = poll_rules(running_bounds=(5.0,))
    restored = await scene.ledger.restore(scene.target, other.counting)
    assert restored is not None
    # What has counted is empty from now on; since when is said with the next commit.
    assert restored.running[FAILED] == HistogramValue.empty((5.0,))
    scene.fail_job(2)
    totals = await scene.poll(other)
    assert (totals.running[FAILED].counts, totals.running[FAILED].created_ms) == ((0, 1), scene.at_ms[2])
    others = {*totals.submitting.values(), *totals.completed.values(), *totals.created.values()}
    assert {value.created_ms for value in others} == {scene.at_ms[0]}
    scene.fail_job(3)
    totals = await scene.poll(other)
    assert (totals.running[FAILED].counts, totals.running[FAILED].created_ms) == ((0, 2), scene.at_ms[2])


async def test_beginnings_are_exposed_where_they_are_asked_for(scene: Scene) -> None:
    totals = await scene.poll()
    snapshot = TargetSnapshot(scene.target, totals, PollStatus(began_ms=5_000), created_series=True)
    for shown, wanted in ((snapshot, True), (replace(snapshot, created_series=False), False)):
        text = (assemble([render_target(shown)]).openmetrics.plain + EOF).decode()
        found = {
            (family.name, sample.value)
            for family in parse_openmetrics(text)
            for sample in family.samples
            if sample.name == f"{family.name}_created"
        }
        began = scene.at_ms[0] / 1000
        assert found == (
            {
                ("octopus_jobs_created", began),
                ("octopus_jobs_completed", began),
                ("octopus_job_failures", began),
                ("octopus_job_submitting_duration_seconds", began),
                ("octopus_job_running_duration_seconds", began),
                ("octopus_job_core_seconds", began),
                ("octopus_job_gpu_seconds", began),
                ("octopus_job_memory_gibibyte_seconds", began),
                ("octopus_job_reruns", began),
                ("octopus_polls", 5.0),
                ("octopus_polls_skipped", 5.0),
                ("octopus_poll_failures", 5.0),
                ("octopus_ledger_full_syncs", 5.0),
            }
            if wanted
            else set()
        )
