"""
Replicas on one ledger: whatever befalls them, every run is counted once, and each of them exports it.

What befalls them is drawn: a failure tells the seed and the last events. Longer runs by hand:

    REPLICAS_EVENTS=300 REPLICAS_SEED=7 REPLICAS_LEASE=15 pytest tests/e2e/test_replicas.py -k befalls -s
    REPLICAS_TAKEOVERS=20 REPLICAS_LEASE=15 pytest tests/e2e/test_replicas.py -k takes_over -s
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.e2e.chaos import Chaos, Fleet, assert_events_agree, open_fleet, wait_for_agreement
from tests.e2e.cut_proxy import proxies
from tests.e2e.lease_watch import LeaseWatch
from tests.e2e.replicas import Replica, wait_until_all_are_held
from tests.e2e.scrape_watch import ScrapeWatch
from tests.e2e.waiting import until
from tests.postgres import PgBouncer, PostgresDatabase

pytestmark = pytest.mark.e2e

SEED = int(os.environ.get("REPLICAS_SEED", "20261126"))
EVENTS = int(os.environ.get("REPLICAS_EVENTS", "10"))
LEASE_SECONDS = float(os.environ.get("REPLICAS_LEASE", "3"))
TAKEOVERS = int(os.environ.get("REPLICAS_TAKEOVERS", "1"))
# As many events come one soon after the other; then all must agree.
_EVENTS_A_ROUND = 10
# Other tests run at the same time there, and delay all processes.
_BUSY = 10.0 if "CI" in os.environ else 0.0
# A takeover also takes a poll, and a look at the leases comes once a second.
_AFTER_A_CRASH = LEASE_SECONDS + 5 + _BUSY
_AFTER_SIGTERM = 5.0 + _BUSY


@contextmanager
def fleet_of(
    count: int,
    folder: Path,
    database: PostgresDatabase,
    bouncer: PgBouncer | None = None,
    *,
    url: str = "",
) -> Iterator[Fleet]:
    """Run replicas until the block ends; all their targets are published, and held once."""
    with ExitStack() as running:
        ways = running.enter_context(proxies())
        fleet = open_fleet(
            running, folder, count, ways, database, bouncer, url=url, lease_seconds=LEASE_SECONDS
        )
        for replica in fleet.replicas:
            replica.start()
        for replica in fleet.replicas:
            replica.wait_until_it_is_ready()
        wait_until_all_are_held(fleet.replicas, len(fleet.accounts()))
        yield fleet


@contextmanager
def watched(fleet: Fleet) -> Iterator[ScrapeWatch]:
    """Scrape the replicas all the time; nothing that is found may be wrong."""
    watch = ScrapeWatch(fleet.replicas, fleet.accounts())
    watch.start()
    try:
        yield watch
    finally:
        for replica in fleet.replicas:
            if replica.runs:
                replica.thaw()
        watch.end()
    assert watch.found == []


@pytest.mark.parametrize(
    ("count", "pooled"), [(2, True), (3, False)], ids=["two through PgBouncer", "three directly"]
)
def test_every_run_is_counted_once_whatever_befalls_the_replicas(
    tmp_path: Path, database: PostgresDatabase, bouncer: PgBouncer, count: int, pooled: bool
) -> None:
    with fleet_of(count, tmp_path, database, bouncer if pooled else None) as fleet, watched(fleet) as watch:
        chaos, began = Chaos(fleet, watch, Random(SEED)), time.monotonic()
        while chaos.happened.total() < EVENTS:
            last = chaos.round(min(_EVENTS_A_ROUND, EVENTS - chaos.happened.total()))
            tell(f"{chaos.happened.total()} events, {time.monotonic() - began:.0f} s: {', '.join(last)}")
        assert_events_agree(fleet, chaos.happened["kill"])
        tell(f"seed {SEED}, {watch.scrapes} scrapes: {dict(chaos.happened.most_common())}")


def test_another_replica_takes_over_in_time(tmp_path: Path, database: PostgresDatabase) -> None:
    """After a crash, when the lease has ended; after SIGTERM, at once."""
    taken: dict[str, list[float]] = {"kill": [], "terminate": []}
    watch = LeaseWatch(database)
    with fleet_of(2, tmp_path, database) as fleet:
        watch.start()
        try:
            for number in range(2 * TAKEOVERS):
                way, leaving = list(taken)[number % 2], fleet.replicas[number // 2 % 2]
                taken[way] += takeovers(fleet, watch, leaving, way)
        finally:
            watch.end()
    for way, seconds in taken.items():
        ordered = sorted(seconds)
        p99 = ordered[min(int(0.99 * len(ordered)), len(ordered) - 1)]
        tell(
            f"lease {LEASE_SECONDS:g} s, {way}: {len(ordered)} takeovers,"
            f" p50 {statistics.median(ordered):.2f} s, p99 {p99:.2f} s, most {ordered[-1]:.2f} s"
        )
    # A busy machine may delay some of them.
    assert statistics.median(taken["kill"]) < _AFTER_A_CRASH
    assert statistics.median(taken["terminate"]) < _AFTER_SIGTERM


def takeovers(fleet: Fleet, watch: LeaseWatch, leaving: Replica, way: str) -> list[float]:
    """End a replica, and measure how long each of its targets was not polled. Then all is as it was."""
    share = len(fleet.accounts()) // 2
    until(lambda: len(leaving.held()) >= share, "the replica has its share")
    held = leaving.held()
    until(lambda: held <= watch.recorded(), "a poll of each")
    lost = {target: watch.now()[target] for target in held}
    if way == "kill":
        leaving.program.kill()
    else:
        leaving.terminate()
    seconds = [watch.takeover_seconds(target, hold) for target, hold in lost.items()]
    leaving.program.wait()
    leaving.start()
    leaving.wait_until_it_is_ready()
    until(lambda: len(leaving.held()) >= share, "the replica has its share again")
    wait_until_all_are_held(fleet.replicas, len(fleet.accounts()))
    return seconds


@pytest.mark.parametrize("words", [b"FOR KEY SHARE", b"COMMIT"], ids=["begin", "commit"])
def test_what_a_replica_writes_after_its_lease_is_refused(
    tmp_path: Path, database: PostgresDatabase, words: bytes
) -> None:
    """
    A replica is frozen while what it has read is on its way to the database, until another has counted that.

    Then what was on its way arrives; and later the replica wakes up. Where its transaction had begun, the
    server has ended it: else its lock would have kept all others from the lease.
    """
    with fleet_of(2, tmp_path, database) as fleet, watched(fleet) as watch:
        stale, other = fleet.replicas
        assert stale.proxy
        simulator, accounts = fleet.simulators[0], watch.accounts
        stale.proxy.hold_at(words)
        simulator.advance(600)
        until(lambda: stale.proxy and stale.proxy.is_holding, "a transaction on its way")
        stale.freeze()
        until(lambda: len(other.held()) == len(accounts), "the other replica has everything")
        wait_for_agreement([other], accounts)

        stale.proxy.let_through()
        # It has arrived, and is not committed: the replica does not run.
        arrived = []
        if words != b"COMMIT":
            arrived = until(lambda: database.sql(STALE), "the stale transaction").splitlines()
        stale.thaw()
        for pid, began, number in (line.split("|") for line in arrived):
            ended = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND xact_start = '{began}'"
            until(lambda asked=ended: database.sql(asked) == "0", "the end of it")
            if number:
                assert database.sql(f"SELECT pg_xact_status('{number}')") == "aborted"
        wait_until_all_are_held(fleet.replicas, len(accounts))
        simulator.advance(600)
        wait_for_agreement(fleet.replicas, accounts)
        lost = stale.scrape_names("octopus_exporter_leases_lost_total")
        assert lost.total("octopus_exporter_leases_lost_total") > 0


STALE = """
    SELECT pid, xact_start, backend_xid FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'
        AND state_change < clock_timestamp() - INTERVAL '0.7 seconds'
"""


def test_a_server_that_is_away_for_a_while_costs_no_count(tmp_path: Path, database: PostgresDatabase) -> None:
    """Polls fail for the reason `ledger`, scrapes go on, and what ended meanwhile is counted once."""
    server = database.server
    ways: list[Callable[[], None]] = [lambda: server.stop(immediate=True), server.set_read_only]
    with fleet_of(2, tmp_path, database) as fleet, watched(fleet) as watch:
        for begin in ways:
            fleet.simulators[0].advance(300)
            wait_for_agreement(fleet.replicas, watch.accounts)
            created = [replica.scrape().total(CREATED) for replica in fleet.replicas]
            failed = [ledger_failures(replica) for replica in fleet.replicas]
            begin()
            fleet.simulators[0].advance(300)
            # Also those of targets that nobody holds any more, so that alerts fire.
            until(
                lambda was=failed: all(
                    ledger_failures(r) > f for r, f in zip(fleet.replicas, was, strict=True)
                ),
                "polls that fail for the reason ledger",
            )
            assert [replica.scrape().total(CREATED) for replica in fleet.replicas] == created
            server.settle()
            wait_for_agreement(fleet.replicas, watch.accounts)


CREATED = "octopus_jobs_created_total"


def ledger_failures(replica: Replica) -> float:
    return replica.scrape_names("octopus_poll_failures_total").total(
        "octopus_poll_failures_total", reason="ledger"
    )


def test_a_standby_that_is_promoted_goes_on_exactly(tmp_path: Path, database: PostgresDatabase) -> None:
    """The URL names both servers; the first crashes and stays away."""
    server = database.server
    with server.standby() as standby, ExitStack() as running:
        both = database.url.replace(f":{server.port}/", f":{server.port},127.0.0.1:{standby.port}/")
        fleet = running.enter_context(fleet_of(2, tmp_path, database, url=both))
        watch = running.enter_context(watched(fleet))
        fleet.simulators[0].advance(300)
        wait_for_agreement(fleet.replicas, watch.accounts)
        until(lambda: server.sql(BEHIND) == "0", "the standby has everything")
        server.stop(immediate=True)
        standby.promote()
        fleet.simulators[0].advance(300)
        wait_for_agreement(fleet.replicas, watch.accounts)


BEHIND = "SELECT sum(pg_current_wal_lsn() - replay_lsn) FROM pg_stat_replication"


def tell(text: str) -> None:
    """Print figures, for whoever runs this by hand."""
    sys.stdout.write(f"{text}\n")
