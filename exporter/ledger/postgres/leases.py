"""
Who polls which target: the leases of the PostgreSQL ledger (sync.shared_ledger).

A lease lasts for as long as its holder is alive: a heartbeat renews `replicas.until`, in one row for all that
the replica holds. So it writes as much for a thousand targets as for one, and nothing in `leases` changes
while nothing is taken or given back.

Nothing here waits for a lock while it holds another one that somebody may wait for, so there is no deadlock.
A heartbeat locks the row of its own replica first, and skips what others have locked. A takeover locks the
row of the replica that has died: a late heartbeat of that one either came before, and then it is alive, or it
waits and sees what was taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from exporter.errors import LedgerError
from exporter.ledger.database import Database
from exporter.ledger.postgres.shares import Division, Moves, moves
from exporter.model import PollStatus, TargetKey
from exporter.sync.shared_ledger import Heartbeat, HeldLeases, Lease, SharedTarget, Takeover

# The tables; schema.py runs these statements.
TABLES: tuple[str, ...] = (
    # `since` is when the holder took it, or gave it back; `poll` the last model.PollStatus, as JSON.
    """
    CREATE TABLE leases (
        target BIGINT PRIMARY KEY,
        holder TEXT NOT NULL DEFAULT '',
        fence BIGINT NOT NULL DEFAULT 0,
        since TIMESTAMPTZ NOT NULL DEFAULT now(),
        poll TEXT
    ) WITH (fillfactor = 50)
    """,
    # `targets` are those of its configuration, `fingerprint` stands for them; `beat` numbers its last
    # heartbeat; until `patient_until` it takes nothing from others, because the clock may have been moved.
    """
    CREATE TABLE replicas (
        name TEXT PRIMARY KEY,
        until TIMESTAMPTZ NOT NULL,
        lease INTERVAL NOT NULL,
        patient_until TIMESTAMPTZ NOT NULL,
        beat BIGINT NOT NULL,
        fingerprint TEXT NOT NULL,
        targets BIGINT[] NOT NULL
    ) WITH (fillfactor = 50)
    """,
    # `before` is '' where the one before had given it back.
    """
    CREATE TABLE takeovers (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        target BIGINT NOT NULL,
        before TEXT NOT NULL,
        holder TEXT NOT NULL,
        at TIMESTAMPTZ NOT NULL
    )
    """,
    # The secret cannot be had from its fingerprint (octopus.auth.lockout_guard).
    """
    CREATE TABLE refusals (
        fingerprint TEXT PRIMARY KEY,
        replica TEXT NOT NULL,
        tried_until TIMESTAMPTZ NOT NULL,
        refused_until TIMESTAMPTZ NOT NULL,
        refusal TEXT NOT NULL
    )
    """,
)

# What ends later than two leases from now was written before the clock of the database was set back.
_IS_ALIVE = "(replicas.until > now() AND replicas.until <= now() + 2 * replicas.lease)"
_RENEWED = f"""
    until = now() + :lease * INTERVAL '1 second',
    lease = :lease * INTERVAL '1 second',
    beat = :beat,
    patient_until = CASE WHEN {_IS_ALIVE} THEN replicas.patient_until
        ELSE now() + :lease / 2 * INTERVAL '1 second' END
"""
_RENEW = f"""
    UPDATE replicas SET {_RENEWED}
    WHERE name = :me AND fingerprint = :fingerprint AND beat < :beat
    RETURNING patient_until > now()
"""  # noqa: S608 - constants only
_RENEW_WITH_TARGETS = f"""
    INSERT INTO replicas (name, until, lease, patient_until, beat, fingerprint, targets)
    VALUES (:me, now() + :lease * INTERVAL '1 second', :lease * INTERVAL '1 second', now(), :beat,
        :fingerprint, :targets)
    ON CONFLICT (name) DO UPDATE SET {_RENEWED}, fingerprint = excluded.fingerprint,
        targets = excluded.targets
    WHERE replicas.beat < :beat
    RETURNING patient_until > now()
"""  # noqa: S608 - constants only
IS_TARGET = "project = :project AND project_id = :project_id AND workspace = :workspace AND path = :path"
_GONE = "the lease of this target has gone to another replica"
# This is no replica that is alive: whoever has the target configured takes it at any time.
_FORGETTING = " (forgets it)"

_LOOKS_UNTIL_ALL = 30

_encode_poll = msgspec.json.Encoder().encode
_decode_poll = msgspec.json.Decoder(PollStatus).decode


class LeaseTable:
    """
    The leases as one replica takes them; `heartbeat` is used by one thread.

    Shape: each method is a part of a transaction of its caller, at the level READ COMMITTED. now() is when
    that began, so no lease lasts longer than its replica thinks. Raises: LedgerError; psycopg.Error.
    """

    def __init__(self, replica: str) -> None:
        self.replica = replica
        self._ids: dict[TargetKey, int] = {}  # of the configuration
        self._beats = 0

    def heartbeat(self, db: Database, beat: Heartbeat) -> HeldLeases:
        """See sync.shared_ledger.SharedLedger. Raises: LedgerError where a later heartbeat came before."""
        if self._ids.keys() != set(beat.targets):
            self._ids = register(db, beat.targets)
        # The first lock, and the one that is waited for: a takeover from this replica may be under way.
        is_patient = self._renew(db, beat.lease_seconds)
        rows = self._read(db, beat.lease_seconds)
        if not rows.targets.issuperset(self._ids.values()):
            # Another replica has forgotten a target, or the transaction that registered it was lost.
            self._ids = register(db, beat.targets)
            self._renew(db, beat.lease_seconds)
            rows = self._read(db, beat.lease_seconds)
        found = moves(self.replica, rows.division(is_patient))
        if found.take:
            self._take(db, found, rows)
        return self._held(db, found, len(rows.configured))

    def _renew(self, db: Database, lease_seconds: float) -> bool:
        """
        Stay alive, and show the others what is configured; tell whether to take nothing from others yet.

        A replica that finds itself dead was stopped for a while, or the clock of the database was moved. In
        the second case all replicas look dead until each has sent a heartbeat, so it lets them.
        """
        self._beats += 1
        given = {
            "me": self.replica,
            "lease": lease_seconds,
            "beat": self._beats,
            "fingerprint": self._fingerprint(),
        }
        row = db.execute(_RENEW, given).fetchone()
        if row is None:
            # All targets are only sent where they have changed: a thousand of them are 8 kB in the row.
            targets = sorted(self._ids.values())
            row = db.execute(_RENEW_WITH_TARGETS, {**given, "targets": targets}).fetchone()
        if row is None:
            # This one was on its way for so long that its answer is not waited for. It must not take anything
            # for a process that has left meanwhile.
            raise LedgerError("a later heartbeat of this replica came before")
        return bool(row[0])

    def _fingerprint(self) -> str:
        ids = ",".join(map(str, sorted(self._ids.values())))
        return hashlib.sha256(ids.encode()).hexdigest()[:32]

    def _read(self, db: Database, lease_seconds: float) -> _Rows:
        configured = db.execute(
            f"""
            SELECT name, CASE WHEN fingerprint = ? THEN NULL ELSE targets END FROM replicas WHERE {_IS_ALIVE}
            """,  # noqa: S608 - constants only
            (self._fingerprint(),),
        ).fetchall()
        mine = frozenset(self._ids.values())
        held = db.execute(
            f"""
            SELECT holder, replicas.name IS NOT NULL AS is_known, coalesce({_IS_ALIVE}, FALSE) AS is_alive,
                coalesce(replicas.until, since) <= now() - ? * INTERVAL '1 second' AS is_overdue,
                array_agg(target)
            FROM leases JOIN targets ON targets.id = leases.target
            LEFT JOIN replicas ON replicas.name = leases.holder
            GROUP BY holder, is_known, is_alive, is_overdue
            """,  # noqa: S608 - constants only
            (lease_seconds,),
        ).fetchall()
        return _Rows(
            {name: mine if targets is None else frozenset(targets) for name, targets in configured},
            tuple(
                _Group(holder, is_known, is_alive, is_overdue, frozenset(targets))
                for holder, is_known, is_alive, is_overdue, targets in held
            ),
        )

    def _take(self, db: Database, found: Moves, rows: _Rows) -> None:
        """Take targets from those who gave them back, and from the dead; no others, whatever was read."""
        groups = [group for group in rows.groups if not group.is_alive and group.targets & found.take]
        dead = db.execute(
            f"""
            SELECT name FROM replicas WHERE name = ANY (:names) AND NOT {_IS_ALIVE} FOR UPDATE SKIP LOCKED
            """,  # noqa: S608 - constants only
            {"names": [group.holder for group in groups]},
        ).fetchall()
        nobody = [group.holder for group in groups if not group.is_known]
        taken = db.execute(
            """
            WITH free AS (
                SELECT target, holder FROM leases WHERE target = ANY (:targets) AND holder = ANY (:holders)
                ORDER BY target FOR UPDATE SKIP LOCKED
            ), taken AS (
                UPDATE leases SET holder = :me, fence = leases.fence + 1, since = now()
                FROM free WHERE leases.target = free.target
                RETURNING leases.target, free.holder AS before, leases.fence
            )
            INSERT INTO takeovers (target, before, holder, at)
            SELECT target, before, :me, now() FROM taken WHERE fence > 1 ORDER BY target
            """,
            {
                "me": self.replica,
                "targets": sorted(found.take),
                "holders": [*nobody, *(name for (name,) in dead)],
            },
        ).rowcount
        if taken:
            _drop_old_takeovers(db)

    def _held(self, db: Database, found: Moves, replicas: int) -> HeldLeases:
        rows = db.execute(
            """
            SELECT id, fence, project, project_id, workspace, path
            FROM leases JOIN targets ON targets.id = leases.target WHERE holder = ?
            """,
            (self.replica,),
        ).fetchall()
        leases = {row[0]: Lease(TargetKey(*row[2:]), row[1]) for row in rows}
        return HeldLeases(
            held={lease.target: lease for lease in leases.values()},
            to_give=tuple(lease.target for target, lease in leases.items() if target in found.give),
            replicas=replicas,
        )

    def give_back(self, db: Database, leases: Collection[Lease]) -> None:
        """Let other replicas take these targets at once; those that have gone already stay where they are."""
        keys = [lease.target for lease in leases]
        db.execute(
            """
            WITH given AS (
                SELECT target FROM leases JOIN targets ON targets.id = leases.target
                WHERE holder = :me AND (project, project_id, workspace, path, fence) IN (
                    SELECT * FROM unnest(:projects::text[], :project_ids::text[], :workspaces::text[],
                        :paths::text[], :fences::bigint[])
                )
                ORDER BY target FOR NO KEY UPDATE OF leases
            )
            UPDATE leases SET holder = '', since = now() FROM given WHERE leases.target = given.target
            """,
            {
                "me": self.replica,
                "projects": [key.project for key in keys],
                "project_ids": [key.project_id for key in keys],
                "workspaces": [key.workspace for key in keys],
                "paths": [key.path for key in keys],
                "fences": [lease.fence for lease in leases],
            },
        )

    def record_poll(self, db: Database, lease: Lease, status: PollStatus) -> None:
        """Record how the polls of a target go. Raises: LedgerError where the lease has gone."""
        changed = db.execute(
            f"""
            UPDATE leases SET poll = :poll
            WHERE target = (SELECT id FROM targets WHERE {IS_TARGET}) AND holder = :me AND fence = :fence
            """,  # noqa: S608 - constants only
            {
                **named(lease.target),
                "poll": _encode_poll(status).decode(),
                "me": self.replica,
                "fence": lease.fence,
            },
        ).rowcount
        if not changed:
            raise LedgerError(_GONE)

    def take_to_forget(self, db: Database, key: TargetKey) -> FencedHolder | None:
        """
        Take a target that no replica has configured, to delete all that there is of it.

        A replica that gets it into its configuration meanwhile takes it from this one, which the fence stops.
        """
        row = db.execute(
            f"""
            INSERT INTO leases (target, holder, fence)
            SELECT id, :me, 1 FROM targets WHERE {IS_TARGET}
                AND NOT EXISTS (
                    SELECT FROM replicas WHERE targets.id = ANY (replicas.targets) AND {_IS_ALIVE}
                )
            ON CONFLICT (target) DO UPDATE SET holder = :me, fence = leases.fence + 1, since = now()
            WHERE NOT EXISTS (SELECT FROM replicas WHERE replicas.name = leases.holder AND {_IS_ALIVE})
            RETURNING fence
            """,  # noqa: S608 - constants only
            {**named(key), "me": self.replica + _FORGETTING},
        ).fetchone()
        return None if row is None else FencedHolder(self.replica + _FORGETTING, row[0])


@dataclass(frozen=True, slots=True)
class FencedHolder:
    """Who holds a target, and with which fence."""

    holder: str
    fence: int


@dataclass(frozen=True, slots=True)
class _Group:
    """Some leases of one holder, "" for nobody; `is_known` if there is a row of this replica."""

    holder: str
    is_known: bool
    is_alive: bool
    is_overdue: bool
    targets: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Rows:
    """What a heartbeat has read: the targets of all replicas that are alive, and all leases."""

    configured: Mapping[str, frozenset[int]]
    groups: tuple[_Group, ...]

    @property
    def targets(self) -> frozenset[int]:
        return frozenset(target for group in self.groups for target in group.targets)

    def division(self, is_patient: bool) -> Division:
        """Give what can be moved; a patient replica takes only what was given back."""
        held: dict[str, frozenset[int]] = {}
        for group in self.groups:
            if group.is_alive:
                held[group.holder] = held.get(group.holder, frozenset()) | group.targets
        free = [group for group in self.groups if not group.is_alive and not (is_patient and group.holder)]
        return Division(
            self.configured,
            held,
            frozenset(target for group in free for target in group.targets),
            frozenset(target for group in free if group.is_overdue for target in group.targets),
        )


def register(db: Database, keys: Collection[TargetKey]) -> dict[TargetKey, int]:
    """Give the ids of some targets, making the rows that are missing."""
    ids = _ids(db, keys)
    # In one order everywhere: another replica may be registering the same targets now.
    missing = sorted(set(keys) - ids.keys(), key=lambda key: tuple(named(key).values()))
    if missing:
        for key in missing:
            # As ledger.targets.target_id does: a row without a path becomes this target's.
            db.execute(
                "UPDATE targets SET path = :path WHERE project = :project AND project_id = :project_id"
                " AND workspace = :workspace AND path = ''",
                named(key),
            )
        db.executemany(
            """
            INSERT INTO targets (project, project_id, workspace, path) VALUES (?, ?, ?, ?)
            ON CONFLICT (project, project_id, workspace, path) DO NOTHING
            """,
            [tuple(named(key).values()) for key in missing],
        )
        ids = _ids(db, keys)
    db.execute(
        """
        INSERT INTO leases (target) SELECT id FROM unnest(?::bigint[]) AS ids (id) ORDER BY id
        ON CONFLICT (target) DO NOTHING
        """,
        (sorted(ids.values()),),
    )
    return ids


def _ids(db: Database, keys: Collection[TargetKey]) -> dict[TargetKey, int]:
    wanted = frozenset(keys)
    rows = db.execute("SELECT id, project, project_id, workspace, path FROM targets").fetchall()
    return {key: row[0] for row in rows if (key := TargetKey(*row[1:])) in wanted}


def named(key: TargetKey) -> dict[str, str]:
    """Give the values for IS_TARGET."""
    return {
        "project": key.project,
        "project_id": key.project_id,
        "workspace": key.workspace,
        "path": key.path,
    }


class Looks:
    """
    Looks at all targets of the ledger, with one statement; used by one thread.

    How the polls go would be four fifths of the answer. So it comes only where it was written since the look
    before: by the transactions that this one may not have seen, `_seen_to` and later. Now and then a look
    brings everything, because a server that took over may count transactions differently.
    """

    def __init__(self) -> None:
        self._polls: dict[int, PollStatus | None] = {}
        self._seen_to: str | None = None
        self._looks_until_all = 0

    def __call__(self, db: Database) -> tuple[SharedTarget, ...]:
        brings_all = self._seen_to is None or self._looks_until_all <= 0
        rows = db.execute(
            f"""
            SELECT id, CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS xid) AS TEXT),
                :brings_all = 1 OR age(leases.xmin) <= age(CAST(:seen_to AS xid)) AS is_new,
                CASE WHEN :brings_all = 1 OR age(leases.xmin) <= age(CAST(:seen_to AS xid)) THEN poll END,
                project, project_id, workspace, path, revision, coalesce(holder, ''),
                coalesce(CAST(extract(epoch FROM since) * 1000 AS BIGINT), 0),
                CAST(CASE
                    WHEN {_IS_ALIVE} THEN extract(epoch FROM replicas.until - now())
                    ELSE least(0, extract(epoch FROM coalesce(replicas.until, since) - now()))
                END AS DOUBLE PRECISION)
            FROM targets LEFT JOIN leases ON leases.target = targets.id
            LEFT JOIN replicas ON replicas.name = leases.holder
            """,  # noqa: S608 - constants only
            {"brings_all": brings_all, "seen_to": self._seen_to or "0"},
        ).fetchall()
        self._looks_until_all = _LOOKS_UNTIL_ALL if brings_all else self._looks_until_all - 1
        self._polls = {
            target: _poll_of(poll) if is_new else self._polls.get(target)
            for target, _, is_new, poll, *_ in rows
        }
        self._seen_to = rows[0][1] if rows else None
        return tuple(
            SharedTarget(TargetKey(*key), revision, self._polls[target], holder, since_ms, left or 0.0)
            for target, _, _, _, *key, revision, holder, since_ms, left in rows
        )


def _poll_of(text: str | None) -> PollStatus | None:
    """Read a status. One that this version cannot read is as good as none."""
    with suppress(msgspec.DecodeError):
        return None if text is None else _decode_poll(text)
    return None


def takeovers(db: Database, most: int) -> Sequence[Takeover]:
    """Give the last takeovers, the newest first."""
    rows = db.execute(
        """
        SELECT project, project_id, workspace, path, before, holder,
            CAST(extract(epoch FROM at) * 1000 AS BIGINT)
        FROM takeovers JOIN targets ON targets.id = takeovers.target ORDER BY takeovers.id DESC LIMIT ?
        """,
        (most,),
    ).fetchall()
    return [Takeover(TargetKey(*row[:4]), *row[4:]) for row in rows]


def _drop_old_takeovers(db: Database) -> None:
    """Keep those of 7 days, at most 1,000, and no replica that has been dead for longer."""
    db.execute(
        """
        DELETE FROM takeovers WHERE id IN (
            SELECT id FROM takeovers
            WHERE at < now() - INTERVAL '7 days'
                OR id <= (SELECT id FROM takeovers ORDER BY id DESC OFFSET 1000 LIMIT 1)
            ORDER BY id FOR UPDATE SKIP LOCKED
        )
        """
    )
    db.execute(
        """
        DELETE FROM replicas WHERE name IN (
            SELECT name FROM replicas WHERE until < now() - INTERVAL '7 days'
                AND NOT EXISTS (SELECT FROM leases WHERE holder = name)
            ORDER BY name FOR UPDATE SKIP LOCKED
        )
        """
    )


def drop_forgotten(db: Database) -> None:
    """Delete the leases of targets that are forgotten. Ids are not used again, so no fence is reset."""
    db.execute("DELETE FROM leases WHERE NOT EXISTS (SELECT FROM targets WHERE targets.id = leases.target)")
