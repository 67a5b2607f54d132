"""
Connections to PostgreSQL that break, and replicas that write too late: nothing is lost, and nothing doubled.

An answer to COMMIT that does not come leaves it open whether it was recorded. The next poll compares with
what the ledger has, whichever it was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import psycopg
import pytest

from exporter.config import LedgerSettings
from exporter.counting.rules import EventRules
from exporter.errors import LedgerError
from exporter.ledger.database import Database
from exporter.ledger.postgres import fence, lanes
from exporter.ledger.postgres.ledger import PostgresLedger
from exporter.model import Totals
from exporter.octopus.wire import ListQuery
from exporter.sync.ledger import Audit, FoundBy, PageOrigin, PollResult, RowKind
from exporter.sync.server_traits import Filters, ServerTraits
from tests.e2e.waiting import until
from tests.fake_api import COUNTING, a_job, a_target, poll_rules
from tests.ledger_scene import FAILED, Scene
from tests.ledgers import SharedDatabase, SoleReplica
from tests.postgres import PgBouncer, PostgresDatabase, PostgresServer
from tests.postgres_proxy import BreakingProxy, breaking_proxy, is_commit, is_query

TARGET = a_target()
RULES = poll_rules(events=EventRules())
NOT_HELD = "does not hold the lease"


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[BreakingProxy]:
    with breaking_proxy(postgres.port) as made:
        yield made


async def opened(url: str) -> Scene:
    scene = Scene(SharedDatabase(url))
    await scene.open()
    return scene


@pytest.fixture
async def scene(database: PostgresDatabase, proxy: BreakingProxy) -> AsyncIterator[Scene]:
    """The connections of this ledger lead through the proxy; what the test asks beside it does not."""
    scene = await opened(database.url.replace(f":{database.server.port}/", f":{proxy.port}/"))
    scene.back_end = SharedDatabase(database.url)
    scene.ledger._url = database.url
    yield scene
    await scene.ledger.close()


class Account:
    """What the ledger must have counted, of jobs that failed one by one."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.jobs = 0
        # So that the series of this spec is none that is new, and held, with the first run.
        scene.api.put(a_job(10_000, job_type="PACKAGE_IMPORT", resource_spec="2Core_4GiB"))

    async def fail_one(self) -> bool:
        """Let a job fail, and poll; tell whether that was recorded, as far as the poll knows."""
        self.jobs += 1
        self.scene.run_job(self.jobs, resource_spec="2Core_4GiB")
        waiting = a_job(10_000 + self.jobs, job_type="PACKAGE_IMPORT", resource_spec="1Core_4GiB")
        self.scene.api.put(waiting)
        try:
            await self.scene.poll(rules=RULES)
        except LedgerError:
            return False
        return True

    async def balance(self) -> None:
        totals = await self.scene.poll(rules=RULES)
        runs = totals.completed[FAILED].value
        assert (runs, totals.failures[*FAILED, ""].value, totals.created[FAILED[0]].value) == (self.jobs,) * 3
        assert sum(totals.running[FAILED].counts) == self.jobs
        assert totals.core_seconds[FAILED].value == self.jobs * 2000 * 30_000
        assert sum(totals.resource_submitting["2Core_4GiB"].counts) == self.jobs
        assert totals.resource_jobs["1Core_4GiB", "QUEUING"] == self.jobs
        assert self.scene.rows("failed_runs") == self.scene.rows("events") == self.jobs
        assert self.scene.rows("staged") == 0


@pytest.mark.parametrize("is_sent", [True, False], ids=["without an answer", "unsent"])
async def test_a_connection_lost_at_any_commit_loses_and_doubles_nothing(
    scene: Scene, proxy: BreakingProxy, is_sent: bool
) -> None:
    account = Account(scene)
    await scene.poll(rules=RULES)
    recorded = []
    for number in range(1, 100):
        proxy.break_at(number, counts=is_commit, is_sent=is_sent)
        recorded.append(await account.fail_one())
        if proxy.breaks_at:  # a poll has no more of them
            break
        await account.balance()
    proxy.breaks_at = 0
    await account.balance()
    assert proxy.broken == number - 1 >= 8
    assert recorded.count(False) >= 8


@pytest.mark.parametrize("is_sent", [True, False], ids=["without an answer", "unsent"])
async def test_a_connection_lost_at_any_question_loses_and_doubles_nothing(
    scene: Scene, proxy: BreakingProxy, is_sent: bool
) -> None:
    account = Account(scene)
    await scene.poll(rules=RULES)
    number = 1
    while not proxy.breaks_at:
        proxy.break_at(number, counts=is_query, is_sent=is_sent)
        await account.fail_one()
        number += 7
    proxy.breaks_at = 0
    await account.balance()
    assert proxy.broken >= 8


async def test_a_backend_that_is_ended_during_a_poll_loses_and_doubles_nothing(
    scene: Scene, database: PostgresDatabase
) -> None:
    account = Account(scene)
    await scene.poll(rules=RULES)
    for page in range(1, 4):
        left = iter(range(page))

        def end_at_the_last(_query: ListQuery, left: Iterator[int] = left) -> None:
            if next(left, None) == 0:
                database.terminate()

        scene.api.before_page = end_at_the_last
        await account.fail_one()
        scene.api.before_page = None
        await account.balance()


async def test_idle_connections_that_have_ended_cost_no_poll(
    scene: Scene, database: PostgresDatabase
) -> None:
    await scene.poll()
    assert database.terminate() > 0
    await scene.poll()


async def test_what_is_staged_and_lost_with_the_server_is_not_taken_for_all(
    scene: Scene, database: PostgresDatabase
) -> None:
    """The unlogged table is empty after a crash. The poll must not take its jobs for deleted ones."""
    account = Account(scene)
    scene.api.put(*(a_job(job_id, "RUNNING") for job_id in range(101, 111)))
    await account.fail_one()
    scene.api.page_size = 4

    def crash_at_the_second_page(query: ListQuery) -> None:
        if query.offset:
            scene.api.before_page = None
            database.server.restart(immediate=True)

    scene.api.before_page = crash_at_the_second_page
    assert not await account.fail_one()
    totals = await scene.poll(rules=RULES)
    assert totals.jobs[FAILED[0], "RUNNING"] == 10


# -- a replica whose lease has gone ------------------------------------------------------------------------


async def stage(ledger: SoleReplica, *job_ids: int) -> None:
    await ledger.begin(TARGET)
    jobs = [a_job(job_id, "RUNNING") for job_id in job_ids]
    origin = PageOrigin(FoundBy.WINDOW, 1)
    await ledger.stage(TARGET, jobs, [RowKind.OWN] * len(jobs), origin, COUNTING)


async def record(ledger: SoleReplica) -> Totals:
    poll = PollResult(TARGET, 500_000, 500_000, 0, 500_000, None, full=True, filters=Filters())
    return await ledger.record(poll, COUNTING)


async def everything(ledger: SoleReplica) -> list[str]:
    """Try all that writes; give what was refused, and why."""
    refused = []
    for name, work in (
        ("begin", lambda: ledger.begin(TARGET)),
        ("stage", lambda: ledger.staged(TARGET, 1, 1)),
        ("record", lambda: record(ledger)),
        ("learnt", lambda: ledger.learnt(TARGET, ServerTraits(), Filters())),
        ("audited", lambda: ledger.audited(TARGET, Audit(1, {}), COUNTING)),
        ("release", lambda: ledger.release(TARGET, (), COUNTING, 1)),
        ("forget", lambda: ledger.forget(TARGET.key, lambda: True)),
    ):
        if name == "stage":  # what waits in memory is staged before the next question
            origin = PageOrigin(FoundBy.WINDOW, 1)
            await ledger.stage(TARGET, [a_job(9, "RUNNING")], [RowKind.OWN], origin, COUNTING)
        try:
            await work()
        except LedgerError as exc:
            refused.append(f"{name}: {exc}")
    return refused


async def test_a_replica_that_lost_its_lease_writes_nothing(database: PostgresDatabase) -> None:
    """It does not know yet: it slept through its lease."""
    stale, holder = await SoleReplica.at(database.url), await SoleReplica.at(database.url)
    await stage(stale, 1)
    await record(stale)
    holder.take(TARGET.key)
    await stage(holder, 1, 2)
    before = database.sql("TABLE targets; TABLE jobs; TABLE staged; TABLE leases")
    refused = await everything(stale)
    assert database.sql("TABLE targets; TABLE jobs; TABLE staged; TABLE leases") == before
    works = ("begin", "stage", "record", "learnt", "audited", "release", "forget")
    assert refused == [f"{work}: this replica does not hold the lease of this target" for work in works]
    assert sum((await record(holder)).jobs.values()) == 2
    await stale.close()
    await holder.close()


async def test_a_poll_from_before_a_lease_was_lost_and_taken_again_is_not_recorded(
    database: PostgresDatabase,
) -> None:
    """What it has staged was deleted, and the rows that are there now are those of another poll."""
    first, second = await SoleReplica.at(database.url), await SoleReplica.at(database.url)
    await stage(first, 1, 2, 3)
    await first.staged(TARGET, 1, 1)
    second.take(TARGET.key)
    await stage(second, 1)
    await second.staged(TARGET, 1, 1)
    first.take(TARGET.key)
    with pytest.raises(LedgerError, match="what this poll has read is lost"):
        await record(first)
    await stage(first, 1, 2, 3)
    assert sum((await record(first)).jobs.values()) == 3
    await first.close()
    await second.close()


async def test_the_lease_that_counts_is_the_one_from_when_the_work_was_given(
    database: PostgresDatabase,
) -> None:
    ledger = await SoleReplica.at(database.url)
    await stage(ledger, 1)
    with psycopg.connect(database.server.admin_url(database.name)) as other:
        other.execute("SELECT 1 FROM leases FOR UPDATE")  # as a takeover does
        recording = asyncio.create_task(record(ledger))
        await asyncio.to_thread(waits_for_a_lock, database)
        other.execute("UPDATE leases SET fence = fence + 1")
    with pytest.raises(LedgerError, match=NOT_HELD):
        await recording
    await ledger.close()


def waits_for_a_lock(database: PostgresDatabase) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    until(lambda: database.sql(waiting) == "1", "the transaction waits for the lease")


async def test_a_target_that_was_let_go_is_refused_without_asking(database: PostgresDatabase) -> None:
    ledger = await PostgresLedger.open(LedgerSettings(url=database.url))
    with pytest.raises(LedgerError, match=NOT_HELD):
        await ledger.begin(TARGET)
    await ledger.close()


async def test_a_process_that_is_stopped_in_a_heartbeat_keeps_no_lock(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "_IDLE_SECONDS", 0.3)
    ledger = await SoleReplica.at(database.url)
    ledger.take(TARGET.key)

    def stand_still(db: Database) -> None:
        db.execute("SELECT 1 FROM leases FOR UPDATE")
        with psycopg.connect(database.server.admin_url(database.name)) as other:
            other.execute("SELECT 1 FROM leases FOR UPDATE")
        db.execute("UPDATE leases SET holder = 'me'")

    with pytest.raises(LedgerError, match="idle-in-transaction timeout"):
        await ledger._keeper.ask(stand_still, writes=True, within_seconds=10)
    assert database.sql("SELECT count(*) FROM leases WHERE holder = 'me'") == "0"
    await ledger.close()


# -- a server that does not answer -------------------------------------------------------------------------


async def test_a_server_that_does_not_answer_does_not_hold_up_the_end(
    scene: Scene, database: PostgresDatabase
) -> None:
    await scene.poll()
    database.server.pause()
    polling = asyncio.create_task(scene.poll())
    await asyncio.sleep(0)
    began = time.monotonic()
    await scene.ledger.close()
    assert time.monotonic() - began < 4
    with pytest.raises(LedgerError):
        await polling


async def test_letting_go_ends_the_wait_for_a_server_that_does_not_answer(
    scene: Scene, database: PostgresDatabase
) -> None:
    await scene.poll()
    database.server.pause()
    asking = asyncio.create_task(scene.ledger.listed_since(TARGET, None))
    while not any(lane.at_work_for for lane in scene.ledger._lanes._lanes):
        await asyncio.sleep(0.01)
    scene.ledger.let_go([TARGET.key])
    with pytest.raises(LedgerError, match="ledger postgresql://"):
        await asyncio.wait_for(asking, 3)
    database.server.go_on()


async def test_what_a_server_never_answers_is_given_up_in_the_end(
    scene: Scene, database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that hangs when another one has taken over: its machine goes on confirming what it gets."""
    monkeypatch.setattr("exporter.ledger.postgres.ledger._LOOK_SECONDS", 0.2)
    monkeypatch.setattr(lanes, "_LONGEST_READING_SECONDS", 0.3)
    monkeypatch.setattr(lanes, "_LONGEST_WRITING_SECONDS", 0.6)
    polled_too = a_target(workspace="7")
    scene.ledger.take(polled_too.key)
    await scene.poll()
    # Each lane has a connection.
    await asyncio.gather(*(scene.ledger.count_events() for _ in range(4)))
    database.server.pause()
    # No lease ends here, which would end these.
    asking = [
        asyncio.create_task(scene.ledger.restore(TARGET, COUNTING)),
        asyncio.create_task(scene.ledger.waiting_events(10)),
        asyncio.create_task(scene.ledger.begin(polled_too)),
    ]
    async with asyncio.timeout(4):
        while not all(task.done() for task in asking):
            with suppress(LedgerError):
                await scene.ledger.look()
            await asyncio.sleep(0.05)
    assert all(isinstance(task.exception(), LedgerError) for task in asking)
    database.server.go_on()
    await scene.poll()


async def test_a_database_that_is_away_fails_at_once_and_is_found_again(
    scene: Scene, database: PostgresDatabase
) -> None:
    account = Account(scene)
    await scene.poll(rules=RULES)
    await account.fail_one()
    database.server.stop()
    for _ in range(5):
        began = time.monotonic()
        assert not await account.fail_one()
        assert time.monotonic() - began < 2
    database.server.start()
    async with asyncio.timeout(15):
        while not await account.fail_one():
            await asyncio.sleep(0.1)
    await account.balance()


async def test_a_pooler_that_restarts_loses_and_doubles_nothing(
    database: PostgresDatabase, bouncer: PgBouncer
) -> None:
    scene = await opened(bouncer.url(database.name))
    account = Account(scene)
    await scene.poll(rules=RULES)
    for _ in range(3):
        await account.fail_one()
        bouncer.restart()
    await account.balance()
    await scene.ledger.close()
