"""
One poll's transaction: compare what is staged with what is known, count, and write down what is listed now.

Everything here happens in one transaction of the caller (ledger.group), so a crash leaves either all of it or
nothing. That, and comparing rows with rows, is what makes every run count once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
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
from exporter.ledger.job_writer import JobWriter
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
from exporter.ledger.totals import read_totals, types_to_show
from exporter.model import OTHER, Job, SeriesKey, Target, Totals
from exporter.sync.ledger import ALL_ASKED, Audit, PollResult
from exporter.sync.server_traits import Filters, ServerTraits

_CHUNK = 2000
# A row stamped this much later than the clock of the rows was stamped by another, which is wrong.
_CLOCK_TOLERANCE_MS = 60_000
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
_IS_ONE_OF = "known.target = :target AND known.id IN (SELECT value FROM json_each(:ids))"
_IS_GONE = f"{_IS_ONE_OF} AND known.listed = 1 AND known.in_flight = 1"
_IS_DELETED = f"{_IS_ONE_OF} AND known.listed = 1 AND known.in_flight = 0"


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
    jobs = JobWriter(db, target, poll.clock_ms, poll.horizon_ms or 0)
    jobs.leave_scope(poll.target.job_types)
    empty_changed_histograms(db, target, rules, poll.now_ms)

    increments = Increments(rules, partial(known_codes, db, target), partial(known_specs, db, target))
    events = NewEvents(db, target, poll.now_ms, rules.events, events_taken)
    if is_first:
        jobs.keep_history()
    _fold(db, target, poll, baselines, jobs, increments, EndedRuns(db, target, poll, events))
    set_apart.keep(db, target, poll)
    _unlist(db, jobs, target, poll, is_first=is_first)
    if poll.horizon_ms is not None:
        jobs.forget(row.horizon_ms or 0)
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
    """Decide for each row that differs from the known job what it changes, and what of it counts."""
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
    Mark the jobs that a complete listing did not show as not listed: of all jobs, or of those in flight.

    Their rows stay until they leave the lookback, for comparison if the jobs show up again. A listed row
    without a readable id may belong to any job: while there is one, no missing job is marked.
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
    # it would make history of all that comes until then. But rows may well be a little ahead of all clocks:
    # what the first sync took for history by such a baseline must not be news to a backfill.
    latest_ms = now_ms + min(poll.lead_ms, _CLOCK_TOLERANCE_MS)
    known = {
        kind: at_ms if at_ms is None or at_ms <= latest_ms else min(at_ms, row.watermark_ms)
        for kind, at_ms in row.baselines.items()
    }
    begin_ms = None if rules.count_history and is_first else poll.began_ms + poll.lead_ms
    baselines = rescope(
        known, poll.target.job_types, begin_ms, row.forgotten_before_ms, row.shown_types.keys()
    )
    return replace(baselines, latest_ms=now_ms + poll.lead_ms + _CLOCK_TOLERANCE_MS, is_first_sync=is_first)


def _changed(
    db: Database, target: int, horizon_ms: int | None, rules: CountingRules
) -> Iterator[tuple[Job, bool, str | None, KnownJob | None]]:
    """
    Give the staged rows that differ from what is known of their jobs. With each come whether it has failed,
    and the label under which its job counts in `resource_jobs`, None where it does not.
    """
    given = {
        "target": target,
        "horizon": horizon_ms or 0,
        "most": _CHUNK,
        "most_specs": rules.max_resource_specs,
    }
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


def _missing_in_flight(db: Database, target: int, poll: PollResult) -> tuple[str, str, dict[str, object]]:
    """Give the jobs in flight that were not listed as JobWriter.unlist takes them."""
    if poll.unasked == ALL_ASKED:
        return IN_FLIGHT_JOBS, MISSING_IN_FLIGHT, {"undocumented": poll.undocumented_from_ms}
    left = vanished(db, target, poll.undocumented_from_ms, poll.unasked)
    return "jobs AS known", _IS_GONE, {"ids": _encoded([job.id for job in left])}


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
