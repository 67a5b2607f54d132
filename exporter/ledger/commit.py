"""
One poll's transaction: compare what is staged with what is known, count, and write down what is listed now.

Everything here happens in one transaction of the caller (ledger.group), so a crash leaves either all of it or
nothing. That, and comparing rows with rows, is what makes every run count once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial

import msgspec

from exporter.counting.increments import UNREADABLE_SPECS_NAMED, Increments
from exporter.counting.released import Released
from exporter.counting.rules import CountingRules
from exporter.counting.transitions import Baselines, KnownJob, rescope, transition
from exporter.events.outbox import OutboxNews
from exporter.ledger import set_apart
from exporter.ledger.database import Database
from exporter.ledger.ended import EndedRuns, NewEvents, is_another_hour, prune_runs
from exporter.ledger.questions import (
    FINISHED_JOBS,
    IN_FLIGHT_JOBS,
    MISSING_IN_FLIGHT,
    MISSING_TERMINAL,
    vanished,
)
from exporter.ledger.series import (
    SPECS_WITH_SERIES,
    NewSeries,
    add_to_series,
    empty_changed_histograms,
    known_codes,
    known_specs,
    release_rows,
)
from exporter.ledger.targets import TargetRow, read_target, target_id
from exporter.ledger.totals import newest_creation, read_totals, types_to_show
from exporter.model import OTHER, Job, SeriesKey, Target, Totals
from exporter.sync.ledger import ALL_ASKED, Audit, PollResult
from exporter.sync.server_traits import Filters, ServerTraits

_CHUNK = 2000
# A row stamped this much later than the clock of the rows was stamped by another, which is wrong.
_CLOCK_TOLERANCE_MS = 60_000
# How long finished jobs older than the lookback are kept: as long as the lookback, within these limits.
_LEAST_KEPT_MS, _MOST_KEPT_MS = 3_600_000, 86_400_000

# The columns of `jobs`, in the order of what a commit writes: the key, transitions.KnownJob, the details, and
# when the job was last seen to have left flight, by our clock.
_DETAILS = ("data_id", "resource_spec", "resource_label")
_JOBS = ("target", "id", *KnownJob.__struct_fields__, *_DETAILS, "left_ms")
# How a Job and a KnownJob are read, where that is not the column of the same name. A row's run has ended as
# the configuration said when it was staged.
_AS_JOB = {"workspace_id": "NULL", "named_terminal": "staged.in_flight = 0"}
_AS_KNOWN = {
    "listed": "known.listed = 1",
    "in_flight": "known.in_flight = 1 OR known.listed = -1",
    "rerun": "known.rerun = 1",
    "start_counted": "known.start_counted = 1",
    "end_counted": "known.end_counted = 1",
}
_JOB = [_AS_JOB.get(name, f"staged.{name}") for name in Job.__struct_fields__]
_ID = Job.__struct_fields__.index("id")
_BEFORE_ALL = -1  # no id is negative (octopus.wire)
_KNOWN = [_AS_KNOWN.get(name, f"known.{name}") for name in KnownJob.__struct_fields__]
# A job in flight counts as "other", but its spec has a label of its own now, or can get one: the maximum was
# raised.
_GETS_OWN_LABEL = f"""
    known.resource_label = '{OTHER}' AND staged.resource_spec <> '{OTHER}' AND (
        staged.resource_spec IN ({SPECS_WITH_SERIES})
        OR (SELECT count(*) FROM ({SPECS_WITH_SERIES}) AS specs WHERE resource_spec NOT IN ('', '{OTHER}'))
            < :most_specs
    )
"""  # noqa: S608 - constants only
# A finished job that is new and was created before the lookback does not count; one that is known does,
# because its run may have ended since.
_CHANGED = f"""
    SELECT {", ".join(_JOB)}, staged.failed, known.resource_label, known.id IS NOT NULL, {", ".join(_KNOWN)}
    FROM staged LEFT JOIN jobs AS known ON known.target = staged.target AND known.id = staged.id
    WHERE staged.target = :target AND staged.wanted = 1 AND staged.history = 0
        AND staged.id > :after
        AND CASE WHEN known.id IS NULL THEN staged.created_ms >= :horizon OR staged.in_flight = 1
            ELSE (known.listed <> 1
                    AND (known.listed = -1 OR staged.created_ms >= :horizon OR staged.in_flight = 1))
                OR known.status <> staged.status OR known.job_type <> staged.job_type
                OR known.in_flight <> staged.in_flight
                OR (staged.in_flight = 1 AND (known.data_id IS NOT staged.data_id
                    OR known.resource_spec IS NOT staged.resource_spec
                    OR known.resource_label IS NULL OR ({_GETS_OWN_LABEL})))
                OR known.updated_ms <> staged.updated_ms OR known.started_ms IS NOT staged.started_ms
                OR (known.ended_ms IS NOT staged.ended_ms
                    AND (staged.in_flight = 0 OR staged.ended_ms IS NOT NULL))
            END
    ORDER BY staged.id LIMIT :most
"""  # noqa: S608 - constants only
_HISTORY = "target = :target AND history = 1 AND created_ms >= :horizon"
_COUNT_HISTORY = f"SELECT job_type, status, count(*) FROM staged WHERE {_HISTORY} GROUP BY 1, 2"  # noqa: S608
_AS_HISTORY = {
    "counted_start_ms": "started_ms",
    "listed": "1",
    "in_flight": "0",
    "runs": "1",
    **dict.fromkeys(("rerun", "start_counted", "end_counted"), "0"),
}
_HISTORY_COLUMNS = ("target", "id", *KnownJob.__struct_fields__)
_KEEP_HISTORY = f"""
    INSERT INTO jobs ({", ".join(_HISTORY_COLUMNS)})
    SELECT {", ".join(_AS_HISTORY.get(name, name) for name in _HISTORY_COLUMNS)} FROM staged WHERE {_HISTORY}
"""  # noqa: S608 - constants only
_OUTSIDE = "known.target = :target AND known.in_flight = 0 AND known.created_ms < :horizon"
_FORGET = f"DELETE FROM {FINISHED_JOBS} WHERE {_OUTSIDE} AND coalesce(known.left_ms, 0) < :kept"  # noqa: S608
_IS_ONE_OF = "known.target = :target AND known.id IN (SELECT value FROM json_each(:ids))"
_IS_GONE = f"{_IS_ONE_OF} AND known.listed = 1 AND known.in_flight = 1"
_IS_DELETED = f"{_IS_ONE_OF} AND known.listed = 1 AND known.in_flight = 0"
_UNLISTED = ", ".join(
    (
        "listed = -in_flight",
        "left_ms = CASE WHEN in_flight = 1 THEN :now ELSE left_ms END",
        "in_flight = 0",
        *(f"{name} = NULL" for name in _DETAILS),
    )
)
_KEEP = f"""
    INSERT INTO jobs ({", ".join(_JOBS)}) VALUES ({", ".join("?" * len(_JOBS))})
    ON CONFLICT (target, id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _JOBS[2:])}
"""  # noqa: S608 - constants only
_ADD_TO_LISTING = """
    INSERT INTO listing (target, job_type, status, in_flight, jobs) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (target, job_type, status, in_flight) DO UPDATE SET jobs = listing.jobs + excluded.jobs
"""
_ADD_TO_RESOURCE_JOBS = """
    INSERT INTO resource_jobs (target, job_type, resource_spec, status, jobs) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (target, job_type, resource_spec, status)
        DO UPDATE SET jobs = resource_jobs.jobs + excluded.jobs
"""


def record(
    db: Database, poll: PollResult, rules: CountingRules, events_taken: int = 0
) -> tuple[Totals, OutboxNews]:
    """
    Fold what is staged of a target into the ledger; see sync.ledger.Ledger.record.

    Shape: events up to the id `events_taken` are being written. With the totals come the events that were
    added and dropped.
    """
    target = target_id(db, poll.target)
    row = read_target(db, target)
    is_first = row.commits == 0
    baselines = _baselines(row, poll, rules)
    jobs = JobWriter(db, target, poll.now_ms)
    jobs.leave_scope(poll.target.job_types)
    empty_changed_histograms(db, target, rules, poll.now_ms)

    increments = Increments(rules, partial(known_codes, db, target), partial(known_specs, db, target))
    events = NewEvents(db, target, poll.now_ms, rules.events, events_taken)
    if is_first:
        jobs.keep_history(poll.horizon_ms)
    _fold(db, target, poll, baselines, jobs, increments, EndedRuns(db, target, poll, events))
    set_apart.keep(db, target, poll)
    _unlist(db, jobs, target, poll, is_first=is_first)
    if poll.horizon_ms is not None:
        _prune(db, jobs, target, poll, poll.horizon_ms)
    if is_another_hour(row.committed_ms, poll.now_ms):
        prune_runs(db, target, poll.now_ms)

    released = row.released.under(rules)
    # With `count_history` the first commit shows what it counts at once (contract, rule 2).
    at_once = rules.count_history and (is_first or (row.commits == 1 and poll.same_poll))
    add_to_series(db, target, increments, NewSeries(row.shown_types, released, poll.now_ms, at_once))
    named = dict.fromkeys((*row.unreadable_specs, *increments.unreadable_specs))
    _write_target(db, target, poll, baselines, row, released, tuple(named)[:UNREADABLE_SPECS_NAMED])
    # What cannot be shown is not recorded: else a new series would have no publication at 0.
    return read_totals(db, read_target(db, target), poll.target, rules), events.news


def _fold(
    db: Database,
    target: int,
    poll: PollResult,
    baselines: Baselines,
    jobs: JobWriter,
    increments: Increments,
    ended: EndedRuns,
) -> None:
    """Ask each row that differs from its job what it changes, and what of it counts."""
    for job, failed, label, known in _changed(db, target, poll.horizon_ms, increments.rules):
        change = transition(known, job, baselines.of(job.job_type))
        if change is not None:
            increments.add(job, change, failed=failed)
            jobs.put(job, known, label, change.known, increments)
            if change.ended:
                ended.add(job, change, failed=failed)
    jobs.flush()
    ended.flush()


def _unlist(db: Database, jobs: JobWriter, target: int, poll: PollResult, *, is_first: bool) -> None:
    """
    Take what a complete listing did not show out of what is listed: of all jobs, or of those in flight.

    Their rows stay until they leave the lookback, to be compared with if they show up again. While a row
    without a readable id is listed, it may be the row of any of them.
    """
    if not is_first and not set_apart.has_nameless(db, target):
        jobs.unlist(*_missing_in_flight(db, target, poll))
        if poll.full:
            jobs.unlist(FINISHED_JOBS, MISSING_TERMINAL, {"horizon": poll.horizon_ms or 0})
    if poll.deleted:
        jobs.unlist("jobs AS known", _IS_DELETED, {"ids": _encoded(poll.deleted)})


def _baselines(row: TargetRow, poll: PollResult, rules: CountingRules) -> Baselines:
    is_first, now_ms = row.commits == 0, poll.clock_ms
    # A baseline in the future was set by a wrong clock, or by the absurd times of some rows. Left as it is,
    # it would make history of all that comes until then.
    known = {
        kind: at_ms if at_ms is None or at_ms <= now_ms else min(at_ms, row.watermark_ms)
        for kind, at_ms in row.baselines.items()
    }
    begin_ms = None if rules.count_history and is_first else poll.began_ms + poll.lead_ms
    baselines = rescope(known, poll.target.job_types, begin_ms, row.forgotten_before_ms)
    return replace(baselines, latest_ms=now_ms + poll.lead_ms + _CLOCK_TOLERANCE_MS, is_first_sync=is_first)


def _changed(
    db: Database, target: int, horizon_ms: int | None, rules: CountingRules
) -> Iterator[tuple[Job, bool, str | None, KnownJob | None]]:
    """
    Give the staged rows that differ from what is known of their jobs. With each come whether it has failed,
    and the label under which its job counts in `resource_jobs`, None where it does not.
    """
    given = {"target": target, "horizon": horizon_ms or 0, "most": _CHUNK}
    given["most_specs"] = rules.max_resource_specs
    width = len(_JOB)
    after = _BEFORE_ALL
    while True:
        # Piece by piece: the caller writes to the tables meanwhile, and memory holds one piece.
        rows = db.execute(_CHANGED, {**given, "after": after}).fetchall()
        for row in rows:
            failed, label, is_known, *known = row[width:]
            yield Job(*row[:width]), bool(failed), label, KnownJob(*known) if is_known else None
        if len(rows) < _CHUNK:
            return
        after = rows[-1][_ID]


class JobWriter:
    """
    All that one commit writes to `jobs`. It keeps `listing`, which counts the listed jobs, in balance, and
    `resource_jobs`, which counts those in flight.

    What was put waits in memory for `flush`. Units: `now_ms` by our clock.
    """

    def __init__(self, db: Database, target: int, now_ms: int) -> None:
        self._db = db
        self._target = target
        self._now_ms = now_ms
        self._rows: list[tuple[object, ...]] = []
        self._added: Counter[tuple[str, str, bool]] = Counter()  # by job type, status, in flight
        self._in_flight: Counter[tuple[str, str, str]] = Counter()  # by job type, resource label, status

    def leave_scope(self, job_types: tuple[str, ...]) -> None:
        """Drop the jobs of types that are not polled any more; what they do meanwhile is not known."""
        if not job_types:
            return
        db, target = self._db, self._target
        listed = db.execute("SELECT DISTINCT job_type FROM listing WHERE target = ?", (target,)).fetchall()
        for kind in {kind for (kind,) in listed} - set(job_types):
            for table in ("jobs", "listing", "resource_jobs", "failed_runs", "hourly_runs"):
                db.execute(f"DELETE FROM {table} WHERE target = ? AND job_type = ?", (target, kind))  # noqa: S608 - constants only

    def keep_history(self, horizon_ms: int | None) -> None:
        """
        Keep what a first sync has staged as history: nearly all of its rows.

        No job of the target is known. So each is what transition() makes of a job that ended before the
        baseline: its own row, and nothing to count. Two statements spare a million calls.
        """
        given = {"target": self._target, "horizon": horizon_ms or 0}
        for kind, status, jobs in self._db.execute(_COUNT_HISTORY, given):
            self._added[kind, status, False] += jobs
        self._db.execute(_KEEP_HISTORY, given)

    def put(
        self, job: Job, known: KnownJob | None, label: str | None, now: KnownJob, increments: Increments
    ) -> None:
        """Write what is known of a job from now on; `label` as _changed gives it."""
        if known is not None and known.listed:
            self._added[known.job_type, known.status, bool(known.in_flight)] -= 1
        if known is not None and label is not None:
            self._in_flight[known.job_type, label, known.status] -= 1
        self._added[now.job_type, now.status, now.in_flight] += 1
        # What a job works on is kept while it is in flight: finished jobs are many.
        details: tuple[str | None, ...] = (None,) * len(_DETAILS)
        if now.in_flight:
            label = increments.in_flight(job)
            self._in_flight[now.job_type, label, now.status] += 1
            details = job.data_id, job.resource_spec, label
        left_ms = None if now.in_flight else self._now_ms
        self._rows.append((self._target, job.id, *msgspec.structs.astuple(now), *details, left_ms))
        if len(self._rows) >= _CHUNK:
            self.flush()

    def unlist(self, table: str, which: str, given: Mapping[str, object]) -> None:
        """Mark listed jobs as not listed any more."""
        given = {**given, "target": self._target, "now": self._now_ms}
        if self._take_out(table, which, given):
            self._db.execute(f"UPDATE {table} SET {_UNLISTED} WHERE {which}", given)  # noqa: S608 - constants only
            self.flush()

    def _take_out(self, table: str, which: str, given: Mapping[str, object]) -> bool:
        """Take those of these jobs that are listed out of `listing`; tell whether there are any."""
        leaving = f"""
            SELECT job_type, status, in_flight, resource_label, count(*) FROM {table}
            WHERE {which} GROUP BY job_type, status, in_flight, resource_label
        """  # noqa: S608 - constants only
        rows = self._db.execute(leaving, given).fetchall()
        for kind, status, in_flight, label, jobs in rows:
            self._added[kind, status, bool(in_flight)] -= jobs
            if label is not None:
                self._in_flight[kind, label, status] -= jobs
        return bool(rows)

    def flush(self) -> None:
        self._db.executemany(_KEEP, self._rows)
        self._rows.clear()
        added = [(self._target, *place, jobs) for place, jobs in self._added.items()]
        self._db.executemany(_ADD_TO_LISTING, added)
        self._added.clear()
        in_flight = [(self._target, *place, jobs) for place, jobs in self._in_flight.items() if jobs]
        self._db.executemany(_ADD_TO_RESOURCE_JOBS, in_flight)
        self._in_flight.clear()


def _missing_in_flight(db: Database, target: int, poll: PollResult) -> tuple[str, str, dict[str, object]]:
    """Give the jobs in flight that were not listed as JobWriter.unlist takes them."""
    if poll.unasked == ALL_ASKED:
        return IN_FLIGHT_JOBS, MISSING_IN_FLIGHT, {"undocumented": poll.undocumented_from_ms}
    left = vanished(db, target, poll.undocumented_from_ms, poll.unasked)
    return "jobs AS known", _IS_GONE, {"ids": _encoded([job.id for job in left])}


def _prune(db: Database, jobs: JobWriter, target: int, poll: PollResult, horizon_ms: int) -> None:
    """
    Forget the finished jobs that have left the lookback.

    A job that was in flight until a moment ago is not forgotten yet. A late answer may show it in flight once
    more, or a listing may have lacked it. If it were forgotten, its run would count again.
    """
    # A clock that is wrong for once must not make us forget jobs that are yet to come.
    newest_ms = newest_creation(db, target)
    kept_ms = min(max(poll.clock_ms - horizon_ms, _LEAST_KEPT_MS), _MOST_KEPT_MS)
    given = {"horizon": horizon_ms, "kept": poll.now_ms - kept_ms}
    jobs.unlist(FINISHED_JOBS, f"{_OUTSIDE} AND known.listed = 1", given)
    db.execute(_FORGET, {**given, "target": target})
    db.execute(
        """
        UPDATE targets SET forgotten_before_ms = CASE
            WHEN coalesce(forgotten_before_ms, 0) < :forgotten THEN :forgotten
            ELSE coalesce(forgotten_before_ms, 0) END
        WHERE id = :target
        """,
        {"target": target, "forgotten": min(horizon_ms, newest_ms + 1)},
    )


def _write_target(
    db: Database,
    target: int,
    poll: PollResult,
    baselines: Baselines,
    row: TargetRow,
    released: Released,
    unreadable_specs: tuple[str, ...],
) -> None:
    types, audit = types_to_show(db, target, poll.target), row.audit
    if audit is not None and poll.full_sync:
        # All rows were just read: a difference that the next audit finds would survive another full sync.
        audit = replace(audit, persists=False, again=False, standing=None)
    columns = {
        "endpoint": poll.target.endpoint,
        # A poll is one commit, however often it records.
        "commits": row.commits + (0 if poll.same_poll else 1),
        "committed_ms": poll.now_ms,
        "baselines": _encoded(baselines.at_ms),
        "shown_types": _encoded({kind: row.shown_types.get(kind, poll.now_ms) for kind in types}),
        "watermark_ms": poll.began_ms,
        "filters": _encoded(poll.filters),
        "horizon_ms": poll.horizon_ms,
        "covered_from_ms": (poll.horizon_ms or 0) if poll.full else row.covered_from_ms,
        "full_sync_ms": poll.now_ms if poll.full else row.full_sync_ms,
        "audit": None if audit is None else _encoded(audit),
        "server": _encoded(poll.server),
        "released": _encoded(released.among(types)),
        "unreadable_specs": _encoded(unreadable_specs),
        "revision": row.revision + 1,
        "rows_ahead_ms": poll.rows_ahead_ms,
    }
    db.execute(
        f"""
        UPDATE targets SET {", ".join(f"{name} = :{name}" for name in columns)},
            hourly_from_ms = CASE WHEN hourly_from_ms BETWEEN 1 AND :now THEN hourly_from_ms ELSE :now END
        WHERE id = :target
        """,  # noqa: S608 - constants only
        {"target": target, "now": poll.now_ms, **columns},
    )


def keep_learnt(db: Database, target: int, server: ServerTraits, filters: Filters) -> None:
    """See sync.ledger.Ledger.learnt."""
    given = _encoded(server), _encoded(filters), target
    db.execute("UPDATE targets SET server = ?, filters = ? WHERE id = ?", given)


def record_audit(db: Database, target: Target, audit: Audit, rules: CountingRules) -> Totals:
    """Keep what an audit found; see sync.ledger.Ledger.audited."""
    target_row = target_id(db, target)
    given = _encoded(audit), target_row
    db.execute("UPDATE targets SET audit = ?, revision = revision + 1 WHERE id = ?", given)
    return read_totals(db, read_target(db, target_row), target, rules)


def record_release(
    db: Database, target: Target, keys: Collection[SeriesKey], rules: CountingRules, now_ms: int
) -> Totals:
    """Let these series show their values; see sync.ledger.Ledger.release."""
    target_row = target_id(db, target)
    # Histograms of other bounds are shown empty before a poll makes them so. Those are the ones released.
    empty_changed_histograms(db, target_row, rules, now_ms)
    release_rows(db, target_row, keys)
    released = read_target(db, target_row).released.under(rules).adding(keys)
    given = _encoded(released), target_row
    db.execute("UPDATE targets SET released = ?, revision = revision + 1 WHERE id = ?", given)
    return read_totals(db, read_target(db, target_row), target, rules)


def _encoded(value: object) -> str:
    return msgspec.json.encode(value).decode()
