"""
The rows a poll has read so far: how they are staged, and what is asked of them.

In SQLite they are in a temporary table: on disk if they are many, gone with the process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, compress
from operator import attrgetter, itemgetter
from typing import Protocol, TypeVar

import msgspec

from exporter.counting.rules import CountingRules
from exporter.counting.transitions import ended_before
from exporter.ledger.database import Database
from exporter.ledger.labels import LabelSet, read_labels, write_labels
from exporter.ledger.targets import fetch_number
from exporter.model import IN_FLIGHT_STATUSES, Job, is_failed
from exporter.sync.ledger import ALL_ASKED, FoundBy, JobRef, Missing, PageOrigin, RowKind, Staged, Unasked

T = TypeVar("T")

# The fields of a job that are staged, under the same names: all that a commit or an event needs. Of history
# only what `jobs` keeps is staged: a first sync brings a million such rows, and each column costs time.
JOB_COLUMNS = tuple(name for name in Job.__struct_fields__ if name not in ("workspace_id", "named_terminal"))
_DETAILS = ("submitting_ms", "running_ms", "msg_code", "msg_error", "data_id", "resource_spec")
_HISTORY_COLUMNS = tuple(name for name in JOB_COLUMNS if name not in _DETAILS)
# `history` marks a row that is history if its job is new. `failed` is decided by the status that came, since
# `status` may be the label "other".
_FLAGS = {"history": "1", "in_flight": "0", "failed": "0", "wanted": f"{RowKind.OWN:d}"}
FLAG_COLUMNS = tuple(_FLAGS)
PAGE_COLUMNS = ("target", "found_by", "last_pass")
# SQLite reads a row from its beginning: what every row is asked for comes first. The key needs the type of
# the columns in `jobs` that it is compared with: without it SQLite cannot use the key, and reads every staged
# row for each job.
_TYPES = {"target": "target INTEGER", "id": "id INTEGER"}
_COLUMNS = ", ".join(_TYPES.get(name, name) for name in (*PAGE_COLUMNS, *_FLAGS, *JOB_COLUMNS))
STAGING = f"""
    CREATE TEMP TABLE staged ({_COLUMNS}, repeated DEFAULT 0,
        PRIMARY KEY (target, id)) WITHOUT ROWID
"""
_IS_NEWER = "excluded.updated_ms >= staged.updated_ms"
# Of two copies of a row the one updated later stays; of two equally old ones the one read later.
_TAKE_NEWER = ", ".join(
    f"{name} = CASE WHEN {_IS_NEWER} THEN excluded.{name} ELSE staged.{name} END"
    for name in (*_FLAGS, *JOB_COLUMNS[1:])
    if name != "history"
)
# History stays history through a mere update, whichever copy is staged first. Another run is not: see
# transitions._is_another_run.
_KEEP_HISTORY = f"""
    history = CASE
        WHEN CASE WHEN {_IS_NEWER} THEN excluded.history ELSE staged.history END = 1 THEN 1
        WHEN (staged.history = 1 OR excluded.history = 1)
            AND CASE WHEN {_IS_NEWER} THEN excluded.in_flight ELSE staged.in_flight END = 0
            AND coalesce(excluded.started_ms = staged.started_ms, 1 = 1)
            AND coalesce(excluded.ended_ms = staged.ended_ms, 1 = 1) THEN 1
        ELSE 0 END
"""
# How a batch is written; `{{columns}}` and `{{rows}}` are put in by who writes it.
STAGE = f"""
    INSERT INTO staged ({{columns}}) {{rows}}
    ON CONFLICT (target, id) DO UPDATE SET {_TAKE_NEWER}, {_KEEP_HISTORY},
        found_by = staged.found_by | excluded.found_by,
        repeated = CASE WHEN staged.last_pass = excluded.last_pass THEN staged.repeated
            WHEN staged.last_pass = excluded.last_pass - 1 THEN 1 ELSE 0 END,
        last_pass = excluded.last_pass
"""
_values = attrgetter(*JOB_COLUMNS)
_history_values = attrgetter(*_HISTORY_COLUMNS)

_MISSING = """
    known.target = :target AND known.listed = 1 AND {which}
      AND NOT EXISTS (
        SELECT 1 FROM staged
        WHERE staged.target = known.target AND staged.id = known.id AND staged.wanted <> 0
      )
"""
# Polls list jobs in an undocumented status only if they are young. The older ones are not missing.
MISSING_IN_FLIGHT = _MISSING.format(
    which=f"""known.in_flight = 1
      AND (known.status IN {IN_FLIGHT_STATUSES} OR known.created_ms >= :undocumented)"""
)
MISSING_TERMINAL = _MISSING.format(which="known.in_flight = 0 AND known.created_ms >= :horizon")
# The index is named because SQLite, without statistics, would walk the primary key: all stored jobs.
IN_FLIGHT_JOBS = "jobs AS known INDEXED BY jobs_in_flight"
FINISHED_JOBS = "jobs AS known INDEXED BY jobs_by_creation"
_LISTED_IN_FLIGHT = f"SELECT known.id, known.created_ms FROM {IN_FLIGHT_JOBS} WHERE {MISSING_IN_FLIGHT}"  # noqa: S608
_LISTED_TERMINAL = f"SELECT known.id FROM {FINISHED_JOBS} WHERE {MISSING_TERMINAL} LIMIT :most"  # noqa: S608
_COUNT_TERMINAL = f"SELECT count(*) FROM {FINISHED_JOBS} WHERE {MISSING_TERMINAL}"  # noqa: S608
# A status and a span of creation times, of each type by itself: only so SQLite finds them in the index.
_IN_FLIGHT_IN = """
    known.target = :target AND known.in_flight = 1 AND known.status IN {statuses}
    AND known.job_type IN (SELECT job_type FROM listing WHERE target = :target)
    AND known.created_ms >= :start AND known.created_ms < :end
"""
_GIVEN_STATUSES = "(SELECT value FROM json_each(:statuses))"
_COUNT_BETWEEN = f"""
    SELECT known.status, count(*) FROM {IN_FLIGHT_JOBS}
    WHERE {_IN_FLIGHT_IN.format(statuses=_GIVEN_STATUSES)} GROUP BY known.status
"""  # noqa: S608 - constants only
_COUNT_LISTED = (
    "SELECT status, CAST(sum(jobs) AS BIGINT) FROM listing"
    " WHERE target = :target AND in_flight = 1 GROUP BY status"
)
# What replaces a known job in flight, or shows one that is new. A CROSS JOIN is read in this order by SQLite,
# which would walk all stored jobs instead, and look for each among the staged rows.
_STAGED_BETWEEN = """
    SELECT known.status, -count(*)
    FROM staged CROSS JOIN jobs AS known
    WHERE staged.target = :target AND staged.wanted = 1 AND known.in_flight = 1
        AND known.target = staged.target AND known.id = staged.id
        AND known.created_ms >= :start AND known.created_ms < :end
    GROUP BY known.status
    UNION ALL
    SELECT status, count(*) FROM staged
    WHERE target = :target AND wanted = 1 AND in_flight = 1 AND created_ms >= :start AND created_ms < :end
    GROUP BY status
    UNION ALL
    SELECT status, -count(*) FROM jobs
    WHERE target = :target AND id IN (SELECT value FROM json_each(:gone)) AND in_flight = 1
        AND created_ms >= :start AND created_ms < :end
    GROUP BY status
"""
_OLDEST = """
    SELECT coalesce(min((
        SELECT min(created_ms) FROM jobs INDEXED BY jobs_in_flight
        WHERE target = :target AND in_flight = 1 AND job_type = kinds.job_type AND status = :status
    )), 0) FROM (SELECT DISTINCT job_type FROM listing WHERE target = :target) AS kinds
"""
_NOT_STAGED = """
    NOT EXISTS (SELECT 1 FROM staged
        WHERE staged.target = known.target AND staged.id = known.id AND staged.wanted <> 0)
"""
_UNSTAGED_IN_FLIGHT = f"""
    SELECT known.id, known.created_ms FROM {IN_FLIGHT_JOBS}
    WHERE {_IN_FLIGHT_IN.format(statuses=_GIVEN_STATUSES)} AND {_NOT_STAGED} LIMIT :most
"""  # noqa: S608 - constants only
_UNSTAGED_FINISHED = f"""
    SELECT known.id FROM {FINISHED_JOBS}
    WHERE known.target = :target AND known.in_flight = 0 AND known.listed = 1
        AND known.created_ms >= :start AND known.created_ms < :end AND {_NOT_STAGED} LIMIT :most
"""  # noqa: S608 - constants only
_GONE = """
    SELECT id, created_ms FROM jobs
    WHERE target = :target AND in_flight = 1 AND id IN (SELECT value FROM json_each(:gone))
"""
_CLEAR_SOME = """
    DELETE FROM staged
    WHERE target = :target AND id IN (SELECT id FROM staged WHERE target = :target LIMIT :most)
"""
_CLEARED_AT_ONCE = 20_000
# Few sizes: Python caches the last 128 compiled statements, and one of a thousand rows takes a megabyte.
_BATCH_SIZES = (1, 4, 10, 25, 50, 100, 200, 500, 1000)
_NEVER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class StagedBatch:
    """
    Rows to stage of one target.

    Shape: `page` has the values of PAGE_COLUMNS, the same for all rows; `flags` is the SQL of each of
    FLAG_COLUMNS: a constant, or "?" where every row begins with its values; `columns` are those of the rest
    of a row. The rows are in the order of their ids; copies of one in the order in which they came.
    """

    page: tuple[int, int, int]
    flags: tuple[str, ...]
    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]

    @property
    def all_columns(self) -> tuple[str, ...]:
        return (*PAGE_COLUMNS, *FLAG_COLUMNS, *self.columns)


class StagingTable(Protocol):
    """
    How a back end fills and empties its table `staged`.

    Shape: where it `is_transactional`, `begin` belongs into a transaction.
    """

    @property
    def is_transactional(self) -> bool: ...

    def begin(self, db: Database, target: int) -> None:
        """Delete what is staged of a target, because another poll begins."""

    def write(self, db: Database, batch: StagedBatch) -> None:
        """Stage rows by STAGE."""

    def recorded(self, db: Database, target: int) -> None:
        """Do what belongs into the transaction that records what is staged."""

    def tidy(self, db: Database, target: int, rows: int) -> None:
        """Clean up after that transaction, in none, when so many rows were staged for it."""


class TemporaryTable:
    """The temporary table of SQLite; implements StagingTable."""

    is_transactional = False

    def begin(self, db: Database, target: int) -> None:
        self.clear(db, target)

    def write(self, db: Database, batch: StagedBatch) -> None:
        # Many rows a statement: each step of SQLite releases the GIL, and has to win it back from the event
        # loop.
        for rows in _batches(batch.rows, _BATCH_SIZES):
            statement = _statement(batch.all_columns, batch.flags, len(batch.columns), len(rows))
            db.execute(statement, (*batch.page, *chain.from_iterable(rows)))

    def recorded(self, db: Database, target: int) -> None:
        """Nothing: if the transaction fails, the rows are lost with the next poll."""

    def tidy(self, db: Database, target: int, rows: int) -> None:
        self.clear(db, target)

    def clear(self, db: Database, target: int) -> None:
        # SQLite empties a table in one step, but takes the rows of one target out one by one.
        others = """
            SELECT EXISTS (SELECT 1 FROM staged WHERE target < :target)
                OR EXISTS (SELECT 1 FROM staged WHERE target > :target)
        """
        if fetch_number(db, others, {"target": target}):
            # In pieces: the journal, which is in memory, has every page that a statement changes.
            given = {"target": target, "most": _CLEARED_AT_ONCE}
            while db.execute(_CLEAR_SOME, given).rowcount == _CLEARED_AT_ONCE:
                pass
        else:
            db.execute("DELETE FROM staged")


class Pages:
    """
    The pages of one target that wait to be staged together; `rows` is how many rows they have.

    Rows of one origin that were read one after the other stand together.
    """

    def __init__(self, rules: CountingRules) -> None:
        self.rules = rules
        self.rows = 0
        self.by_origin: list[tuple[PageOrigin, list[Job], list[RowKind]]] = []

    def add(self, jobs: Sequence[Job], wanted: Sequence[RowKind], origin: PageOrigin) -> None:
        if not self.by_origin or self.by_origin[-1][0] != origin:
            self.by_origin.append((origin, [], []))
        self.by_origin[-1][1].extend(jobs)
        self.by_origin[-1][2].extend(wanted)
        self.rows += len(jobs)


def stage_pages(
    db: Database, table: StagingTable, target: int, job_types: Sequence[str], pages: Pages
) -> None:
    before, is_written = read_labels(db, target)
    labels = LabelSet(before, job_types, pages.rules)
    commits = fetch_number(db, "SELECT commits FROM targets WHERE id = ?", (target,))
    has_history = commits == 0 and not pages.rules.count_history
    for origin, jobs, wanted in pages.by_origin:
        before_ms = origin.history_before_ms if has_history else 0
        page = (target, int(origin.question), origin.pass_no)
        for batch in _staged_batches(page, labels, jobs, wanted, before_ms):
            table.write(db, batch)
    if labels.kept != before or not is_written:
        write_labels(db, target, labels.kept)


def _staged_batches(
    page: tuple[int, int, int],
    labels: LabelSet,
    jobs: Sequence[Job],
    wanted: Sequence[RowKind],
    history_before_ms: int,
) -> Iterator[StagedBatch]:
    """
    Give rows to stage; those of the target that ended before `history_before_ms` are history if they are new.

    In the order of the key: the API gives the newest first, and a B-tree is fuller that grows at its end.
    """
    shown = jobs if labels.learn(jobs, wanted) else list(map(labels.labelled, jobs))
    own = RowKind.OWN
    is_history = [
        kind is own and ended_before(job, history_before_ms) for job, kind in zip(jobs, wanted, strict=True)
    ]
    history = sorted(map(_history_values, compress(shown, is_history)), key=itemgetter(0))
    rows = [
        (0, not job.has_ended, is_failed(job.status), kind, *_values(labelled))
        for job, labelled, kind, past in zip(jobs, shown, wanted, is_history, strict=True)
        if not past
    ]
    rows.sort(key=itemgetter(len(_FLAGS)))  # the id; copies of one stay in the order in which they came
    if rows:
        yield StagedBatch(page, ("?",) * len(_FLAGS), JOB_COLUMNS, rows)
    if history:
        yield StagedBatch(page, tuple(_FLAGS.values()), _HISTORY_COLUMNS, history)


@cache
def _statement(all_columns: tuple[str, ...], flags: tuple[str, ...], values: int, rows: int) -> str:
    # What is the same for a whole page is bound once.
    row = f"({', '.join(('?1', '?2', '?3', *flags, *'?' * values))})"
    return STAGE.format(columns=", ".join(all_columns), rows=f"VALUES {', '.join([row] * rows)}")


def _batches(rows: list[T], sizes: Sequence[int]) -> Iterator[list[T]]:
    """
    Give the rows in batches of these sizes, each of which SQLite takes in one statement.

    A last batch that fills more than half of a size is filled up with its last row: to write that twice
    changes nothing, and another statement would wait for the GIL once more.
    """
    at = 0
    while left := len(rows) - at:
        size = next((size for size in sizes if left <= size < 2 * left), 0)
        size = size or next(size for size in reversed(sizes) if size <= left)
        batch = rows[at : at + size]
        yield batch + batch[-1:] * (size - len(batch))
        at += size
        if at >= len(rows):
            return


def count(db: Database, target: int, first_pass: int, pass_no: int, before_ms: int | None = None) -> Staged:
    given = {"target": target, "first": first_pass, "pass": pass_no}
    row = db.execute(
        """
        SELECT count(*) FILTER (WHERE last_pass = :pass), count(*) FILTER (WHERE last_pass >= :first),
            count(*) FILTER (WHERE last_pass = :pass AND repeated = 1)
        FROM staged WHERE target = :target AND created_ms < :before
        """,
        given | {"before": _NEVER if before_ms is None else before_ms},
    ).fetchone()
    return Staged(*map(int, row))


def vanished(db: Database, target: int, undocumented_from_ms: int, unasked: Unasked) -> tuple[JobRef, ...]:
    given: dict[str, object] = {"target": target, "undocumented": undocumented_from_ms}
    if unasked == ALL_ASKED:
        return tuple(JobRef(*row) for row in db.execute(_LISTED_IN_FLIGHT, given))
    # Without the many that were not asked for. Of those in an undocumented status the young ones were.
    undocumented = [
        status for status, _ in db.execute(_COUNT_LISTED, given) if status not in IN_FLIGHT_STATUSES
    ]
    listed = [status for status in IN_FLIGHT_STATUSES if status not in unasked.statuses]
    spans = ((unasked.statuses, unasked.before_ms), (listed, 0), (undocumented, undocumented_from_ms))
    rows = set(db.execute(_GONE, {**given, "gone": _encoded(unasked.gone)}))
    for statuses, start_ms in spans:
        span = {**given, "statuses": _encoded(statuses), "start": start_ms, "end": _NEVER, "most": _NEVER}
        rows.update(db.execute(_UNSTAGED_IN_FLIGHT, span))
    return tuple(JobRef(*row) for row in sorted(rows))


def in_flight_between(
    db: Database,
    target: int,
    statuses: Sequence[str],
    start_ms: int,
    end_ms: int,
    gone: Sequence[int],
) -> dict[str, int]:
    given: dict[str, object] = {"target": target, "start": start_ms, "end": end_ms}
    given |= {"statuses": _encoded(statuses), "gone": _encoded(gone)}
    jobs: Counter[str] = Counter()
    if start_ms > 0:
        jobs.update(dict(db.execute(_COUNT_BETWEEN, given)))
    else:
        # All are counted already, and few were created since the end.
        jobs.update(dict(db.execute(_COUNT_LISTED, given)))
        jobs.subtract(dict(db.execute(_COUNT_BETWEEN, {**given, "start": end_ms, "end": _NEVER})))
    for status, more in db.execute(_STAGED_BETWEEN, given):
        jobs[status] += more
    return {status: jobs[status] for status in statuses}


def oldest_in_flight(db: Database, target: int, status: str) -> int:
    return fetch_number(db, _OLDEST, {"target": target, "status": status})


def unstaged_between(
    db: Database, target: int, statuses: Sequence[str], start_ms: int, end_ms: int, most: int
) -> tuple[int, ...]:
    given = {"target": target, "start": start_ms, "end": end_ms, "most": most}
    in_flight = {**given, "statuses": _encoded(statuses or IN_FLIGHT_STATUSES)}
    found = [job_id for job_id, _ in db.execute(_UNSTAGED_IN_FLIGHT, in_flight)]
    if not statuses and len(found) < most:
        found += [job_id for (job_id,) in db.execute(_UNSTAGED_FINISHED, given | {"most": most - len(found)})]
    return tuple(found)


def missing(db: Database, target: int, horizon_ms: int | None, most: int) -> Missing:
    given = {"target": target, "horizon": horizon_ms or 0}
    some = db.execute(_LISTED_TERMINAL, given | {"most": most})
    return Missing(tuple(row[0] for row in some), fetch_number(db, _COUNT_TERMINAL, given))


def gone(db: Database, target: int, statuses: Sequence[str], start_ms: int) -> int:
    given = {
        "target": target,
        "horizon": start_ms,
        "undocumented": start_ms,
        "statuses": _encoded(statuses),
    }
    chosen = f"known.status IN {_GIVEN_STATUSES}" if statuses else "1 = 1"
    in_flight = f"""
        SELECT count(*) FROM {IN_FLIGHT_JOBS}
        WHERE {MISSING_IN_FLIGHT} AND known.created_ms >= :horizon AND {chosen}
    """  # noqa: S608 - constants only
    return fetch_number(db, in_flight, given) + fetch_number(db, f"{_COUNT_TERMINAL} AND {chosen}", given)


def readable(db: Database, target: int, job_ids: Sequence[int]) -> tuple[int, ...]:
    rows = db.execute(
        "SELECT id FROM staged WHERE target = ? AND wanted = ? AND id IN (SELECT value FROM json_each(?))",
        (target, RowKind.OWN, _encoded(job_ids)),
    )
    return tuple(job_id for (job_id,) in rows)


def staged_since(db: Database, target: int, start_ms: int) -> int:
    statement = "SELECT count(*) FROM staged WHERE target = ? AND created_ms >= ?"
    return fetch_number(db, statement, (target, start_ms))


def unlisted_statuses(db: Database, target: int, before_ms: int) -> int:
    statement = f"""
        SELECT count(*) FROM (
            SELECT 1 FROM staged
            WHERE target = :target AND wanted = 1 AND status IN {IN_FLIGHT_STATUSES}
            GROUP BY status HAVING max(found_by & :in_flight) = 0 AND min(created_ms) < :before
        ) AS unlisted
    """  # noqa: S608 - constants only
    given = {"target": target, "before": before_ms, "in_flight": FoundBy.IN_FLIGHT}
    return fetch_number(db, statement, given)


def rows_since(db: Database, target: int, cuts: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Count along the index of creation times, and no further than it matters."""
    finished = """
        SELECT count(*) FROM (
            SELECT 1 FROM jobs INDEXED BY jobs_by_creation
            WHERE target = :target AND in_flight = 0 AND created_ms >= :cut LIMIT :most
        ) AS newer
    """
    in_flight = """
        SELECT count(*) FROM jobs INDEXED BY jobs_in_flight
        WHERE target = :target AND in_flight = 1 AND created_ms >= :cut
    """
    given = {"target": target, "most": most}
    return [
        (cut_ms, sum(fetch_number(db, one, given | {"cut": cut_ms}) for one in (finished, in_flight)))
        for cut_ms in cuts
    ]


def _encoded(values: Sequence[object]) -> str:
    return msgspec.json.encode(values).decode()
