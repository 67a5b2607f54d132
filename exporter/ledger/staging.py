"""
How the rows that a poll reads are staged.

In SQLite they are in a temporary table: on disk if they are many, gone with the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, compress
from operator import attrgetter, itemgetter
from typing import Protocol, TypeVar

from exporter.counting.rules import CountingRules
from exporter.counting.transitions import ended_before
from exporter.ledger.database import Database
from exporter.ledger.labels import LabelSet, read_labels, write_labels
from exporter.ledger.targets import fetch_number
from exporter.model import Job, is_failed
from exporter.sync.ledger import PageOrigin, RowKind

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

_CLEAR_SOME = """
    DELETE FROM staged
    WHERE target = :target AND id IN (SELECT id FROM staged WHERE target = :target LIMIT :most)
"""
_CLEARED_AT_ONCE = 20_000
# Few sizes: Python caches the last 128 compiled statements, and one of a thousand rows takes a megabyte.
_BATCH_SIZES = (1, 4, 10, 25, 50, 100, 200, 500, 1000)


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
