"""The leases in a real PostgreSQL: who holds which target, and with which fence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, TypeVar

import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from exporter.config import LedgerSettings
from exporter.errors import LedgerError
from exporter.ledger.postgres.connection import LedgerDatabase
from exporter.ledger.postgres.database import PostgresDatabase
from exporter.ledger.postgres.leases import LeaseTable, Looks, takeovers
from exporter.model import Fault, PollStatus, TargetKey
from exporter.sync.shared_ledger import Heartbeat, HeldLeases, Lease, SharedTarget
from tests.postgres import PostgresDatabase as Made

R = TypeVar("R")
Start = Callable[..., "Replica"]
LEASE = 15.0


def keys(*workspaces: int) -> tuple[TargetKey, ...]:
    return tuple(TargetKey("perception", "p" * 32, str(number), "system-jobs") for number in workspaces)


TEN = keys(*range(10))


class Replica:
    """One process as the ledger sees it, with a connection of its own."""

    def __init__(self, url: str, name: str, targets: tuple[TargetKey, ...] = TEN) -> None:
        self.connection: psycopg.Connection[Any] = psycopg.connect(url, cursor_factory=psycopg.ClientCursor)
        self.table = LeaseTable(name)
        self.targets = targets
        self.looks = Looks()
        self.last = HeldLeases({}, (), 0)

    def do(self, work: Callable[[PostgresDatabase], R]) -> R:
        """Do some work in a transaction. Whatever waits for a lock for a second has failed."""
        with self.connection.transaction():
            self.connection.execute("SET LOCAL lock_timeout = '1s'")
            return work(PostgresDatabase(self.connection))

    def beat(self, lease: float = LEASE) -> list[int]:
        """Send a heartbeat; give the workspaces that this replica holds."""
        beat = Heartbeat(self.table.replica, self.targets, lease)
        self.last = self.do(lambda db: self.table.heartbeat(db, beat))
        return self.held

    @property
    def held(self) -> list[int]:
        return sorted(int(key.workspace) for key in self.last.held)

    @property
    def fences(self) -> set[int]:
        return {lease.fence for lease in self.last.held.values()}

    def give_back(self, *targets: TargetKey) -> None:
        self.do(lambda db: self.table.give_back(db, [self.last.held[key] for key in targets]))

    def give_what_others_want(self) -> None:
        self.give_back(*self.last.to_give)

    def look(self) -> dict[int, SharedTarget]:
        return {int(one.key.workspace): one for one in self.do(self.looks)}


@pytest.fixture
def start(database: Made) -> Iterator[Start]:
    """Start replicas on one ledger."""
    replicas: list[Replica] = []

    def started(name: str, targets: tuple[TargetKey, ...] = TEN) -> Replica:
        replicas.append(Replica(database.url, name, targets))
        return replicas[-1]

    settings = LedgerSettings(url=database.url)  # type: ignore[arg-type]  # pydantic parses it
    LedgerDatabase(settings).open().connection.close()
    yield started
    for replica in replicas:
        replica.connection.close()


@pytest.fixture
def move_clock(database: Made) -> Callable[[float], None]:
    """Move the clock of the database forward, as far as leases see it: all that is written gets older."""

    def move(seconds: float) -> None:
        back = f"- interval '{seconds} s'"
        database.sql(f"UPDATE replicas SET until = until {back}, patient_until = patient_until {back}")
        database.sql(f"UPDATE leases SET since = since {back}")
        database.sql(f"UPDATE takeovers SET at = at {back}")

    return move


def silence(replica: Replica, database: Made, seconds: float = LEASE + 1) -> None:
    """Let a replica seem to have been silent for so long."""
    database.sql(
        f"UPDATE replicas SET until = until - interval '{seconds} s' WHERE name = '{replica.table.replica}'"
    )


def forget_patience(database: Made) -> None:
    """Let replicas take from others at once, although they found themselves late."""
    database.sql("UPDATE replicas SET patient_until = now()")


def test_a_replica_alone_takes_all_and_keeps_it(start: Start) -> None:
    one = start("one")

    assert one.beat() == list(range(10))
    assert one.beat() == list(range(10))
    assert one.fences == {1}
    assert one.last.replicas == 1
    assert not one.last.to_give


def test_a_joiner_gets_its_share_when_it_was_given_back(start: Start) -> None:
    one, two = start("one"), start("two")
    one.beat()

    assert two.beat() == []
    one.beat()
    assert len(one.last.to_give) == 5
    one.give_what_others_want()

    assert len(two.beat()) == 5
    assert two.fences == {2}
    assert one.beat() == sorted({*range(10)} - {*two.held})
    assert (one.last.to_give, one.last.replicas) == ((), 2)


def test_what_was_given_back_is_not_taken_again_by_who_gave_it(start: Start) -> None:
    one, two = start("one"), start("two")
    one.beat(), two.beat(), one.beat()
    one.give_what_others_want()

    assert len(one.beat()) == 5
    assert len(two.beat()) == 5


def test_the_targets_of_a_silent_replica_go_to_the_others(start: Start, database: Made) -> None:
    one, two, three = start("one"), start("two"), start("three")
    for _ in range(3):
        for each in (one, two, three):
            each.beat()
            each.give_what_others_want()
    silence(one, database)

    assert len(two.beat()) + len(three.beat()) == 10
    assert {len(two.held), len(three.held)} == {5}
    assert {k.before for k in two.do(lambda db: takeovers(db, 3))} == {"one"}


def test_a_replica_that_slept_through_its_lease_finds_what_it_lost(start: Start, database: Made) -> None:
    one, two = start("one"), start("two")
    one.beat()
    silence(one, database)
    two.beat()
    stale = one.last.held[TEN[0]]

    with pytest.raises(LedgerError, match="gone to another replica"):
        one.do(lambda db: one.table.record_poll(db, stale, PollStatus()))
    one.give_back(TEN[0])

    assert one.beat() == []
    assert two.beat() == list(range(10))
    assert two.fences == {2}


def test_a_replica_that_nobody_replaced_goes_on_with_the_same_fence(start: Start, database: Made) -> None:
    one = start("one")
    one.beat()
    silence(one, database)

    assert one.beat() == list(range(10))
    assert one.fences == {1}


def test_a_replica_that_leaves_is_replaced_at_once(start: Start) -> None:
    one, two = start("one"), start("two")
    one.beat(), two.beat(), one.beat()
    one.give_what_others_want()
    two.beat()
    one.targets = ()

    one.beat()
    assert len(one.last.to_give) == 5
    one.give_what_others_want()

    assert one.beat() == []
    assert two.beat() == list(range(10))


def test_the_fence_grows_with_every_holder(start: Start, database: Made) -> None:
    one, two = start("one", keys(0)), start("two", keys(0))
    fences = []
    for taker in (one, two) * 3:
        taker.beat()
        forget_patience(database)
        assert taker.beat() == [0]
        fences += taker.fences
        silence(taker, database)

    assert fences == [1, 2, 3, 4, 5, 6]


def test_a_heartbeat_that_comes_late_is_refused(start: Start) -> None:
    """Its process has left: it must not take anything again."""
    one, again = start("one"), start("one")
    again.table._beats = 5
    again.beat()

    with pytest.raises(LedgerError, match="later heartbeat"):
        one.beat()


def test_a_heartbeat_whose_answer_was_lost_costs_nothing(start: Start) -> None:
    one = start("one")
    beat = Heartbeat("one", TEN, LEASE)
    one.do(lambda db: one.table.heartbeat(db, beat))

    assert one.beat() == list(range(10))
    assert one.fences == {1}


def test_a_heartbeat_that_was_rolled_back_registers_its_targets_again(start: Start) -> None:
    one = start("one")

    def fail(db: PostgresDatabase) -> None:
        one.table.heartbeat(db, Heartbeat("one", TEN, LEASE))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        one.do(fail)

    assert one.beat() == list(range(10))


def test_a_target_under_a_running_transaction_is_not_taken_and_not_waited_for(
    start: Start, database: Made
) -> None:
    one, two = start("one"), start("two")
    one.beat()
    with one.connection.transaction():
        one.connection.execute("SELECT 1 FROM leases WHERE target = 1 FOR KEY SHARE")
        silence(one, database)

        assert two.beat() == list(range(1, 10))

    assert two.beat() == list(range(10))


def test_the_holders_transaction_does_not_hold_up_its_heartbeat_or_its_status(start: Start) -> None:
    one, other = start("one"), start("other")
    one.beat()
    with other.connection.transaction():
        other.connection.execute("SELECT 1 FROM leases FOR KEY SHARE")

        one.do(lambda db: one.table.record_poll(db, one.last.held[TEN[0]], PollStatus()))
        assert one.beat() == list(range(10))


def test_a_heartbeat_waits_for_a_takeover_of_its_own_targets(start: Start, database: Made) -> None:
    """Else it would go on with what another replica has taken and not committed yet."""
    one, two = start("one"), start("two")
    one.beat()
    silence(one, database)
    with two.connection.transaction():
        two.table.heartbeat(PostgresDatabase(two.connection), Heartbeat("two", TEN, LEASE))
        with pytest.raises(psycopg.errors.LockNotAvailable):
            one.beat()

    assert one.beat() == []


def test_a_moved_clock_of_the_database_moves_no_target(
    start: Start, move_clock: Callable[[float], None]
) -> None:
    one, two = start("one"), start("two")
    for _ in range(3):
        for each in (one, two):
            each.beat()
            each.give_what_others_want()
    before = one.held, two.held

    for hour in (3600.0, -3600.0):
        move_clock(hour)
        # The first of both finds all leases ended, also those of the other. It may ask more often.
        one.beat(), one.beat(), two.beat(), one.beat()
        assert (one.held, two.held) == before
        move_clock(LEASE / 2 + 1)
        one.beat(), two.beat()
        assert (one.held, two.held) == before


def test_after_the_clock_was_set_back_the_dead_are_replaced_all_the_same(
    start: Start, move_clock: Callable[[float], None], database: Made
) -> None:
    one, two = start("one"), start("two")
    one.beat(), two.beat()
    move_clock(-3600)

    two.beat()
    forget_patience(database)

    assert two.beat() == list(range(10))


def test_replicas_with_different_configurations_share_what_both_have(start: Start) -> None:
    old, new = start("old", keys(0, 1, 2, 3)), start("new", keys(2, 3, 4, 5))
    for _ in range(4):
        for each in (old, new):
            each.beat()
            each.give_what_others_want()

    assert sorted(old.held + new.held) == list(range(6))
    assert {*old.held} >= {0, 1}
    assert {*new.held} >= {4, 5}
    assert len(old.held) == len(new.held) == 3


def test_a_target_that_left_the_configuration_is_given_back(start: Start) -> None:
    one, two = start("one", keys(0, 1)), start("two", keys(0, 1))
    one.beat()
    one.targets = keys(0)

    one.beat()

    assert one.last.to_give == keys(1)
    one.give_what_others_want()
    two.beat()
    assert 1 in two.held


def test_what_nobody_took_for_a_lease_is_taken_by_anyone(start: Start, database: Made) -> None:
    """A replica that is alive and does not take its share must not leave targets without a holder."""
    one, lazy = start("one"), start("lazy")
    one.beat(), lazy.beat(), one.beat()
    one.give_what_others_want()
    assert len(one.beat()) == 5
    database.sql(f"UPDATE leases SET since = now() - interval '{LEASE} s' WHERE holder = ''")

    assert one.beat() == list(range(10))


def test_a_look_shows_holders_polls_and_the_time_left(start: Start, database: Made) -> None:
    one, two = start("one", keys(0, 1)), start("two", keys(0, 1, 2))
    one.beat()
    status = PollStatus(up=False, polls=3, error=Fault("timeout", "no answer", 5), began_ms=1)
    one.do(lambda db: one.table.record_poll(db, one.last.held[TEN[0]], status))
    database.sql("UPDATE targets SET revision = 7 WHERE workspace = '0'")

    seen = two.look()
    assert (seen[0].poll, seen[0].revision, seen[0].holder) == (status, 7, "one")
    assert (seen[1].poll, seen[1].revision) == (None, 0)
    assert 0 < seen[0].lease_left_seconds <= LEASE
    silence(one, database)
    assert -2 < two.look()[0].lease_left_seconds < 0
    two.beat()
    assert {one.holder for one in two.look().values()} == {"two"}
    two.give_back(keys(2)[0])
    assert two.look()[2].holder == ""
    assert two.look()[2].lease_left_seconds <= 0


def test_a_look_brings_what_was_written_while_the_look_before_was_under_way(start: Start) -> None:
    """Transactions end in another order than they began in."""
    one, two = start("one", keys(0, 1)), start("two", ())
    one.beat()
    two.look()
    late = start("one", keys(0, 1))
    late.connection.execute("BEGIN")
    late.table.record_poll(PostgresDatabase(late.connection), one.last.held[TEN[0]], PollStatus(polls=7))
    one.do(lambda db: one.table.record_poll(db, one.last.held[TEN[1]], PollStatus(polls=8)))
    assert _polls_seen(two) == [0, 8]
    two.look()
    late.connection.execute("COMMIT")

    assert _polls_seen(two) == [7, 8]
    assert _polls_seen(two) == [7, 8]


def _polls_seen(replica: Replica) -> list[int]:
    seen = replica.look()
    return [0 if (poll := seen[workspace].poll) is None else poll.polls for workspace in sorted(seen)]


def test_another_server_with_a_lower_count_of_transactions_is_seen_within_some_looks(
    start: Start,
) -> None:
    one = start("one", keys(0))
    one.beat()
    one.look()
    one.do(lambda db: one.table.record_poll(db, one.last.held[TEN[0]], PollStatus(polls=7)))
    one.looks._looks_until_all = 2

    seen = []
    for _ in range(3):
        one.looks._seen_to = str(10**9)
        seen += _polls_seen(one)

    assert seen == [0, 0, 7]


def test_a_status_that_cannot_be_read_is_none(start: Start, database: Made) -> None:
    one = start("one", keys(0))
    one.beat()
    database.sql('UPDATE leases SET poll = \'{"polls": "many"}\'')

    assert one.look()[0].poll is None


def test_takeovers_are_kept_for_a_week_and_at_most_a_thousand(
    start: Start, database: Made, move_clock: Callable[[float], None]
) -> None:
    one, two = start("one"), start("two")
    one.beat()
    assert one.do(lambda db: takeovers(db, 5)) == []
    silence(one, database)
    two.beat()
    move_clock(8 * 86_400)
    database.sql(
        "INSERT INTO takeovers (target, before, holder, at)"
        " SELECT 1, 'x', 'y', now() FROM generate_series(1, 1500)"
    )

    one.beat()
    forget_patience(database)
    one.beat()

    assert database.sql("SELECT count(*) FROM takeovers") == "1000"
    newest = one.do(lambda db: takeovers(db, 2))
    assert [(each.before, each.holder) for each in newest] == [("two", "one")] * 2


def test_a_target_that_a_replica_has_configured_is_not_forgotten(start: Start) -> None:
    one, other = start("one", keys(0)), start("other", keys(1))
    one.beat(), other.beat()

    assert other.do(lambda db: other.table.take_to_forget(db, keys(0)[0])) is None


def test_a_target_that_is_being_forgotten_is_taken_by_who_has_it_configured(
    start: Start, database: Made
) -> None:
    one, other = start("one", keys(0)), start("other", keys(1))
    one.beat(), other.beat()
    silence(one, database)

    taken = other.do(lambda db: other.table.take_to_forget(db, keys(0)[0]))

    assert taken is not None
    assert taken.fence == 2
    assert other.beat() == [1]
    one.beat()
    assert one.beat() in ([], [0])  # it finds itself late, and takes from others a little later
    forget_patience(database)
    assert one.beat() == [0]
    assert one.fences == {3}


def test_a_target_that_was_forgotten_is_registered_again(start: Start, database: Made) -> None:
    one = start("one", keys(0, 1))
    one.beat()
    database.sql("DELETE FROM targets WHERE workspace = '0'")
    database.sql("DELETE FROM leases WHERE target = 1")

    assert one.beat() == [0, 1]


def test_a_lease_of_a_target_that_was_forgotten_is_none(start: Start, database: Made) -> None:
    """A replica that found the target just before, and made the lease just after, leaves one behind."""
    one = start("one", keys(0, 1))
    one.beat()
    database.sql("DELETE FROM targets WHERE workspace = '0'")

    assert one.beat() == [0, 1]


def test_a_row_without_a_path_becomes_the_targets(start: Start, database: Made) -> None:
    """An older version has written it."""
    database.sql(
        "INSERT INTO targets (project, project_id, workspace) VALUES ('perception', repeat('p', 32), '0')"
    )

    assert start("one", keys(0)).beat() == [0]
    assert database.sql("SELECT count(*), min(path) FROM targets") == "1|system-jobs"


EVENTS = st.tuples(
    st.sampled_from(("one", "two", "three")),
    st.sampled_from(("beat", "beat", "give", "sleep", "die", "clock", "record")),
    st.integers(0, 40),
)


def test_fences_only_grow_and_each_has_one_holder(
    start: Start, database: Made, move_clock: Callable[[float], None]
) -> None:
    """Whatever replicas do and in which order, sleeping through their leases included."""

    actions: dict[str, Callable[[Replica, float], object]] = {
        "beat": lambda replica, _: replica.beat(),
        "give": lambda replica, _: replica.give_what_others_want(),
        "sleep": lambda replica, seconds: silence(replica, database, seconds),
        "clock": lambda _, seconds: move_clock(seconds * 100 - 2000),
        "record": lambda replica, _: _record(replica),
    }

    @settings(max_examples=12, phases=[Phase.generate])
    @given(events=st.lists(EVENTS, min_size=10, max_size=20))
    def story(events: list[tuple[str, str, int]]) -> None:
        database.sql("TRUNCATE targets, leases, replicas, takeovers RESTART IDENTITY")
        replicas = {name: start(name, keys(0, 1, 2, 3)) for name in ("one", "two", "three")}
        holders: dict[tuple[TargetKey, int], str] = {}
        highest: dict[TargetKey, int] = {}
        for name, what, seconds in events:
            if what == "die":
                replicas[name].connection.close()
                replicas[name] = start(f"{name} after {seconds}", keys(0, 1, 2, 3))
            else:
                actions[what](replicas[name], seconds)
            for key, lease in replicas[name].last.held.items():
                assert holders.setdefault((key, lease.fence), replicas[name].table.replica) == (
                    replicas[name].table.replica
                )
            for workspace, fence in _fences(database).items():
                key = keys(workspace)[0]
                assert fence >= highest.get(key, 0)
                highest[key] = fence
        for replica in replicas.values():
            replica.connection.close()

    story()


def _fences(database: Made) -> dict[int, int]:
    rows = database.sql("SELECT workspace, fence FROM leases JOIN targets ON id = target").splitlines()
    return {int(workspace): int(fence) for workspace, fence in (row.split("|") for row in rows)}


def _record(replica: Replica) -> None:
    """What a replica believes to hold it can write, unless the ledger names another holder."""
    for key, lease in replica.last.held.items():
        seen = replica.look()[int(key.workspace)]
        with nullcontext() if seen.holder == replica.table.replica else pytest.raises(LedgerError):
            replica.do(lambda db, lease=lease: replica.table.record_poll(db, lease, PollStatus()))


def test_a_quiet_heartbeat_writes_one_row(start: Start, database: Made) -> None:
    one = start("one", keys(*range(300)))
    one.beat()
    before = database.sql("SELECT xmin FROM leases ORDER BY target")

    one.beat()

    assert database.sql("SELECT xmin FROM leases ORDER BY target") == before


def test_give_back_needs_the_fence(start: Start) -> None:
    one = start("one", keys(0))
    one.beat()

    one.do(lambda db: one.table.give_back(db, [Lease(keys(0)[0], 7)]))

    assert one.look()[0].holder == "one"
