"""
One poll's transaction: compare what is staged with what is known, count, and move the listing on.

Everything here happens between one BEGIN and one COMMIT, so that a crash leaves either all of it or nothing:
that, and comparing rows with rows, is what makes every run count once.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

import msgspec

from exporter.counting.baselines import Baselines, rescope
from exporter.counting.increments import Increments
from exporter.counting.released import Released
from exporter.counting.rules import CountingRules
from exporter.counting.transitions import KnownJob, Transition, transition
from exporter.events.outbox import OutboxNews
from exporter.ledger import set_apart
from exporter.ledger.ended import EndedRuns, is_another_hour, prune_runs
from exporter.ledger.outbox import NewEvents
from exporter.ledger.series import (
    Births,
    add_to_series,
    empty_changed_histograms,
    known_codes,
)
from exporter.ledger.staging import FINISHED_JOBS, IN_FLIGHT_JOBS, MISSING_IN_FLIGHT, MISSING_TERMINAL, clear
from exporter.ledger.totals import (
    TargetRow,
    newest_creation,
    read_target,
    read_totals,
    target_id,
    types_to_show,
)
from exporter.model import Job, Target, Totals
from exporter.sync.ledger import Audit, PollResult
from exporter.sync.server_traits import Filters, ServerTraits

# Where a job stands in the listing: its job type, its status, and whether it is in flight.
_Place = tuple[str, str, bool]

_CHUNK = 2000
# A row stamped this much later than the clock of the rows was stamped by another, which is wrong.
_CLOCK_TOLERANCE_MS = 60_000

# The columns of `jobs`, in the order of what a commit writes: the key, transitions.KnownJob, the details.
_JOBS = ("target", "id", *KnownJob.__struct_fields__, "data_id", "resource_spec")
# How a Job and a KnownJob are read, where that is not the column of the same name. A row's run has ended as
# the configuration said when it was staged.
_AS_JOB = {"workspace_id": "NULL", "named_terminal": "staged.in_flight = 0"}
_AS_KNOWN = {"listed": "known.listed = 1", "in_flight": "known.in_flight = 1 OR known.listed = -1"}
_JOB = [_AS_JOB.get(name, f"staged.{name}") for name in Job.__struct_fields__]
_KNOWN = [_AS_KNOWN.get(name, f"known.{name}") for name in KnownJob.__struct_fields__]
# A finished job that is new and was created before the lookback does not count; one that is known does,
# because its run may have ended since.
_CHANGED = f"""
    SELECT {", ".join(_JOB)}, staged.failed, known.id IS NOT NULL, {", ".join(_KNOWN)}
    FROM staged LEFT JOIN jobs AS known ON known.target = staged.target AND known.id = staged.id
    WHERE staged.target = :target AND staged.wanted = 1 AND staged.history = 0
        AND iif(known.id IS NULL,
            staged.created_ms >= :horizon OR staged.in_flight = 1,
            known.listed <> 1 OR known.status <> staged.status OR known.job_type <> staged.job_type
                OR known.in_flight <> staged.in_flight
                OR (staged.in_flight = 1 AND (known.data_id IS NOT staged.data_id
                    OR known.resource_spec IS NOT staged.resource_spec))
                OR known.updated_ms <> staged.updated_ms OR known.started_ms IS NOT staged.started_ms
                OR iif(staged.in_flight = 1 AND staged.ended_ms IS NULL, 0,
                    known.ended_ms IS NOT staged.ended_ms))
    ORDER BY staged.id
"""  # noqa: S608 - constants only
_HISTORY = "target = :target AND history = 1 AND created_ms >= :horizon"
_COUNT_HISTORY = f"SELECT job_type, status, count(*) FROM staged WHERE {_HISTORY} GROUP BY 1, 2"  # noqa: S608
_AS_HISTORY = {"counted_start_ms": "started_ms", "listed": "1", "in_flight": "0", "runs": "1"}
_KEEP_HISTORY = f"""
    INSERT INTO jobs ({", ".join(_JOBS[:-2])})
    SELECT {", ".join(_AS_HISTORY.get(name, name) for name in _JOBS[:-2])} FROM staged WHERE {_HISTORY}
"""  # noqa: S608 - constants only
_KEEP = f"INSERT OR REPLACE INTO jobs ({', '.join(_JOBS)}) VALUES ({', '.join('?' * len(_JOBS))})"  # noqa: S608
_MOVE = """
    INSERT INTO listing VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (target, job_type, status, in_flight) DO UPDATE SET jobs = jobs + excluded.jobs
"""


def record(
    db: sqlite3.Connection, observation: PollResult, rules: CountingRules, events_taken: int = 0
) -> tuple[Totals, OutboxNews]:
    """
    Fold what is staged of a target into the ledger; see protocol.Ledger.record.

    Shape: events up to the id `events_taken` are being written. With the totals come the events that were
    added and dropped.
    """
    target = target_id(db, observation.target)
    db.execute("BEGIN IMMEDIATE")
    row = read_target(db, target)
    baselines = _baselines(row, observation, rules)
    _leave_scope(db, target, observation.target)
    empty_changed_histograms(db, target, rules, observation.now_ms)
    events = NewEvents(db, target, observation.now_ms, rules.events, events_taken)
    tally = _fold(db, target, observation, rules, baselines, events)
    set_apart.keep(db, target, observation)
    if row.commits and not set_apart.has_nameless(db, target):
        _unlist_missing(db, target, observation)
    if observation.deleted:
        _unlist_deleted(db, target, observation.deleted)
    _prune(db, target, observation.horizon_ms)
    if is_another_hour(row.committed_ms, observation.now_ms):
        prune_runs(db, target, observation.now_ms)
    add_to_series(db, target, tally, _births(row, observation, rules))
    _close(db, target, observation, baselines, row, row.released.under(rules))
    # What cannot be shown is not recorded: else a new series would have no publication at 0.
    totals = read_totals(db, read_target(db, target), observation.target, rules)
    db.execute("COMMIT")
    clear(db, target)
    return totals, events.news


def _births(row: TargetRow, observation: PollResult, rules: CountingRules) -> Births:
    is_first = row.commits + _step(observation) == 1
    at_once = rules.count_history and is_first
    return Births(row.shown_types, row.released.under(rules), observation.now_ms, at_once)


def _baselines(row: TargetRow, observation: PollResult, rules: CountingRules) -> Baselines:
    begin_ms = observation.began_ms + observation.lead_ms
    baselines = rescope(
        _without_future(row, observation.clock_ms),
        observation.target.job_types,
        None if rules.count_history and row.commits == 0 else begin_ms,
        row.forgotten_before_ms,
    )
    latest_ms = observation.clock_ms + observation.lead_ms + _CLOCK_TOLERANCE_MS
    return replace(baselines, latest_ms=latest_ms, begins=row.commits == 0)


def _without_future(row: TargetRow, now_ms: int) -> dict[str, int | None]:
    """
    Correct a beginning that is yet to come: a wrong clock gave it, or the absurd times of some rows. Left as
    it is, it makes history of all that comes until then.
    """
    return {
        kind: at_ms if at_ms is None or at_ms <= now_ms else min(at_ms, row.watermark_ms)
        for kind, at_ms in row.baselines.items()
    }


def _leave_scope(db: sqlite3.Connection, target: int, configured: Target) -> None:
    """Drop the rows of job types that are not polled any more; what they did meanwhile is not known."""
    if not configured.job_types:
        return
    listed = db.execute("SELECT DISTINCT job_type FROM listing WHERE target = ?", (target,)).fetchall()
    for kind in {kind for (kind,) in listed} - set(configured.job_types):
        db.execute("DELETE FROM jobs WHERE target = ? AND job_type = ?", (target, kind))
        for table in ("listing", "failed_runs", "hourly_runs"):
            db.execute(f"DELETE FROM {table} WHERE target = ? AND job_type = ?", (target, kind))  # noqa: S608 - constants only


def _fold(
    db: sqlite3.Connection,
    target: int,
    observation: PollResult,
    rules: CountingRules,
    baselines: Baselines,
    events: NewEvents,
) -> Increments:
    if baselines.begins:
        _keep_history(db, target, observation.horizon_ms)
    tally = Increments(rules, known_codes(db, target))
    moves = _Moves(db, target)
    ended = EndedRuns(db, target, observation, events)
    for job, failed, known in _changed(db, target, observation.horizon_ms):
        change = transition(known, job, baselines.of(job.job_type))
        if change is not None:
            tally.add(job, change, failed=failed)
            moves.add(job, known, change)
            if change.ended:
                ended.add(job, change, failed=failed)
    moves.flush()
    ended.flush()
    return tally


def _changed(
    db: sqlite3.Connection, target: int, horizon_ms: int | None
) -> Iterator[tuple[Job, bool, KnownJob | None]]:
    cursor, width = db.execute(_CHANGED, {"target": target, "horizon": horizon_ms or 0}), len(_JOB)
    while rows := cursor.fetchmany(_CHUNK):
        for row in rows:
            failed, is_known, *known = row[width:]
            yield Job(*row[:width]), bool(failed), KnownJob(*known) if is_known else None


def _keep_history(db: sqlite3.Connection, target: int, horizon_ms: int | None) -> None:
    """
    Keep what a first sync has staged as history: nearly all of its rows.

    No job of the target is known. So each is what transition() makes of a job that ended before the baseline:
    its own row, and nothing to count. Two statements spare a million calls.
    """
    given = {"target": target, "horizon": horizon_ms or 0}
    arriving = db.execute(_COUNT_HISTORY, given)
    moves = Counter({(kind, status, False): jobs for kind, status, jobs in arriving})
    db.execute(_KEEP_HISTORY, given)
    _move_listing(db, target, moves)


class _Moves:
    """The rows to write, some thousands at a time, and how they move the listing's numbers."""

    def __init__(self, db: sqlite3.Connection, target: int) -> None:
        self._db = db
        self._target = target
        self._rows: list[tuple[object, ...]] = []
        self._listing: Counter[_Place] = Counter()

    def add(self, job: Job, known: KnownJob | None, change: Transition) -> None:
        if known is not None and known.listed:
            self._listing[known.job_type, known.status, bool(known.in_flight)] -= 1
        now = change.known
        self._listing[now.job_type, now.status, now.in_flight] += 1
        # What a job works on is kept while it is in flight: finished jobs are many.
        details = (job.data_id, job.resource_spec) if now.in_flight else (None, None)
        self._rows.append((self._target, job.id, *msgspec.structs.astuple(now), *details))
        if len(self._rows) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        self._db.executemany(_KEEP, self._rows)
        _move_listing(self._db, self._target, self._listing)
        self._rows.clear()
        self._listing.clear()


def _move_listing(db: sqlite3.Connection, target: int, moves: Counter[_Place]) -> None:
    db.executemany(_MOVE, [(target, *place, jobs) for place, jobs in moves.items()])


def _unlist_deleted(db: sqlite3.Connection, target: int, job_ids: tuple[int, ...]) -> None:
    given = {"target": target, "ids": _encoded(job_ids)}
    which = "known.target = :target AND known.listed = 1 AND known.in_flight = 0"
    among = "known.id IN (SELECT value FROM json_each(:ids))"
    _unlist(db, target, "jobs AS known", f"{which} AND {among}", given)


def _unlist_missing(db: sqlite3.Connection, target: int, observation: PollResult) -> None:
    """
    Take what a complete listing did not show out of the listing: of all jobs, or of those in flight.

    The rows stay until they leave the lookback: a job that shows up again is compared with what was counted.
    """
    given = {
        "target": target,
        "horizon": observation.horizon_ms or 0,
        "undocumented": observation.undocumented_from_ms,
    }
    _unlist(db, target, IN_FLIGHT_JOBS, MISSING_IN_FLIGHT, given)
    if observation.full:
        _unlist(db, target, FINISHED_JOBS, MISSING_TERMINAL, given)


def _unlist(
    db: sqlite3.Connection, target: int, table: str, missing: str, given: Mapping[str, object]
) -> None:
    _subtract(db, target, table, missing, given)
    db.execute(
        f"""
        UPDATE {table} SET listed = -in_flight, in_flight = 0, data_id = NULL, resource_spec = NULL
        WHERE {missing}
        """,  # noqa: S608 - constants only
        given,
    )


def _prune(db: sqlite3.Connection, target: int, horizon_ms: int | None) -> None:
    """Forget the rows that have left the lookback; no counter is touched."""
    if horizon_ms is None:
        return
    given = {"target": target, "horizon": horizon_ms}
    # A clock that is wrong for once must not make us forget jobs that are yet to come.
    newest_ms = newest_creation(db, target)
    outside = "known.target = :target AND known.in_flight = 0 AND known.created_ms < :horizon"
    _subtract(db, target, FINISHED_JOBS, f"{outside} AND known.listed = 1", given)
    db.execute(f"DELETE FROM {FINISHED_JOBS} WHERE {outside}", given)  # noqa: S608 - constants only
    db.execute(
        """
        UPDATE targets SET forgotten_before_ms = max(coalesce(forgotten_before_ms, 0), :forgotten)
        WHERE id = :target
        """,
        given | {"forgotten": min(horizon_ms, newest_ms + 1)},
    )


def _subtract(
    db: sqlite3.Connection, target: int, table: str, which: str, given: Mapping[str, object]
) -> None:
    leaving = db.execute(
        f"""
        SELECT job_type, status, in_flight, count(*) FROM {table} WHERE {which}
        GROUP BY job_type, status, in_flight
        """,  # noqa: S608 - constants only
        given,
    )
    moves = Counter({(kind, status, bool(flies)): -jobs for kind, status, flies, jobs in leaving})
    _move_listing(db, target, moves)


def _step(observation: PollResult) -> int:
    """Count a poll as one commit, however often it records."""
    return 0 if observation.followed_up else 1


def _close(
    db: sqlite3.Connection,
    target: int,
    observation: PollResult,
    baselines: Baselines,
    row: TargetRow,
    released: Released,
) -> None:
    types, audit = types_to_show(db, target, observation.target), row.audit
    if audit is not None and observation.full_sync:
        # Whatever differed was read anew: what the next audit finds, another full sync would not change.
        audit = replace(audit, persists=False, again=False, standing=None)
    db.execute(
        """
        UPDATE targets SET commits = commits + :step, committed_ms = :now, baselines = :baselines,
            shown_types = :types, watermark_ms = :began, filters = :filters,
            horizon_ms = :given_horizon, covered_from_ms = iif(:full, :horizon, covered_from_ms),
            full_sync_ms = iif(:full, :now, full_sync_ms), endpoint = :endpoint,
            hourly_from_ms = iif(hourly_from_ms BETWEEN 1 AND :now, hourly_from_ms, :now),
            audit = :audit, server = :server, released = :released, revision = revision + 1,
            rows_ahead_ms = :ahead
        WHERE id = :target
        """,
        {
            "target": target,
            "endpoint": observation.target.endpoint,
            "step": _step(observation),
            "now": observation.now_ms,
            "ahead": observation.rows_ahead_ms,
            "began": observation.began_ms,
            "full": observation.full,
            "horizon": observation.horizon_ms or 0,
            "given_horizon": observation.horizon_ms,
            "baselines": _encoded(baselines.at_ms),
            "types": _encoded({kind: row.shown_types.get(kind, observation.now_ms) for kind in types}),
            "filters": _encoded(observation.filters),
            "audit": None if audit is None else _encoded(audit),
            "server": _encoded(observation.server),
            "released": _encoded(released.among(types)),
        },
    )


def keep_learnt(db: sqlite3.Connection, target: int, server: ServerTraits, filters: Filters) -> None:
    """See protocol.Ledger.learnt."""
    db.execute(
        "UPDATE targets SET server = ?, filters = ? WHERE id = ?",
        (_encoded(server), _encoded(filters), target),
    )


def _encoded(value: object) -> str:
    return msgspec.json.encode(value).decode()


def record_audit(db: sqlite3.Connection, target: Target, audit: Audit, rules: CountingRules) -> Totals:
    """Keep what an audit found; see protocol.Ledger.audited."""
    row = target_id(db, target)
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE targets SET audit = ?, revision = revision + 1 WHERE id = ?", (_encoded(audit), row))
    totals = read_totals(db, read_target(db, row), target, rules)
    db.execute("COMMIT")
    return totals
