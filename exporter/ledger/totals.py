"""From the ledger's tables to what is published of a target."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypedDict, TypeVar

from exporter.counting.increments import (
    COMPLETED,
    CORE_SECONDS,
    CREATED,
    FAILURES,
    GPU_SECONDS,
    MEMORY_SECONDS,
    RERUNS,
    RESOURCE_SUBMITTING,
    RUNNING,
    SUBMITTING,
)
from exporter.counting.released import STATUSES_SHOWN, Released, released_with
from exporter.counting.rules import CountingRules
from exporter.counting.transitions import latest
from exporter.ledger import set_apart
from exporter.ledger.database import Damaged, Database
from exporter.ledger.questions import FINISHED_JOBS
from exporter.ledger.series import read_counters, read_histograms, read_resource_seconds
from exporter.ledger.targets import TargetRow, fetch_number, find_target, read_target
from exporter.model import (
    AGE_BOUNDS_MS,
    FAILED_STATUSES,
    IN_FLIGHT_STATUSES,
    JOB_TYPES,
    OTHER,
    STATUSES,
    TERMINAL_STATUSES,
    WAITING_STATUSES,
    CounterValue,
    HistogramValue,
    SeriesKey,
    Target,
    Totals,
)
from exporter.sync.ledger import GoneJob, TargetState
from exporter.sync.server_traits import FILTERS

V = TypeVar("V", CounterValue, HistogramValue)
# Rows of _LISTING.
Listing = Sequence[tuple[str, str, int, int]]

_LISTING = "SELECT job_type, status, in_flight, jobs FROM listing WHERE target = ?"

# SQLite finds creation times in the index of jobs in flight only by type and status. PostgreSQL takes longer
# to plan for a max() than for the first of an order.
_NEWEST = f"""
    SELECT coalesce(max(newest_ms), 0) FROM (
        SELECT max((
            SELECT created_ms FROM jobs INDEXED BY jobs_in_flight
            WHERE target = :target AND in_flight = 1
                AND job_type = listing.job_type AND status = listing.status
            ORDER BY created_ms DESC LIMIT 1
        )) AS newest_ms FROM listing WHERE target = :target AND in_flight = 1
        UNION ALL
        SELECT created_ms FROM (
            SELECT created_ms FROM {FINISHED_JOBS} WHERE target = :target AND in_flight = 0
            ORDER BY created_ms DESC LIMIT 1
        ) AS finished
    ) AS newest
"""  # noqa: S608 - constants only
_SOUND = ((str, str, int, int), (str, str, int, type(None)))
_OLDEST = """
    SELECT job_type, status, min(created_ms), min(started_ms) FROM jobs INDEXED BY jobs_in_flight
    WHERE target = ? AND in_flight = 1 GROUP BY job_type, status
"""
_BEFORE = """
    SELECT {since} FROM jobs INDEXED BY jobs_in_flight
    WHERE target = ? AND in_flight = 1 AND job_type = ? AND status = ? AND {since} < ? ORDER BY {since}
"""
_CREATED_BEFORE, _STARTED_BEFORE = (_BEFORE.format(since=name) for name in ("created_ms", "started_ms"))
_LEAST_MS = min(AGE_BOUNDS_MS.values())
# Jobs that are gone are asked for again so long, and no more of them at once.
_GONE_FOR_MS, _MOST_GONE = 86_400_000, 1_000
# A listing is worth its requests if it shows a job in flight among so many.
_WORTH_LISTING = 100


def read_summary(db: Database, target: int) -> TargetState:
    """Give what the next poll can build on."""
    row = read_target(db, target)
    listed = db.execute(
        """
        SELECT status, CAST(sum(jobs) AS BIGINT), CAST(sum(jobs * in_flight) AS BIGINT) FROM listing
        WHERE target = ? AND jobs > 0 GROUP BY status
        """,
        (target,),
    ).fetchall()
    return TargetState(
        endpoint=row.endpoint,
        watermark_ms=row.watermark_ms,
        covered_from_ms=row.covered_from_ms,
        full_sync_ms=row.full_sync_ms,
        horizon_ms=row.horizon_ms,
        scope=frozenset(row.baselines),
        listed=sum(jobs for _, jobs, _ in listed),
        invented=_invented(listed),
        filters=row.filters,
        audit=row.audit,
        server=row.server,
        newest_ms=newest_creation(db, target),
        rows_unreadable=set_apart.read(db, target)[0],
        gone=_gone(db, target, row.watermark_ms - _GONE_FOR_MS),
    )


def _gone(db: Database, target: int, since_ms: int) -> tuple[GoneJob, ...]:
    rows = db.execute(
        """
        SELECT id, created_ms, left_ms FROM jobs INDEXED BY jobs_gone
        WHERE target = ? AND listed = -1 AND left_ms >= ? ORDER BY left_ms DESC LIMIT ?
        """,
        (target, since_ms, _MOST_GONE),
    )
    return tuple(GoneJob(*row) for row in rows)


def newest_creation(db: Database, target: int) -> int:
    """Give when the newest known job was created, 0 where none is known."""
    return fetch_number(db, _NEWEST, {"target": target})


def _invented(listed: Sequence[tuple[str, int, int]]) -> tuple[str, ...]:
    """
    Name the undocumented statuses to list what is in flight by. Nothing can be listed by OTHER, and where few
    of many jobs in a status are in flight, it costs less to ask for those one by one.
    """
    return tuple(
        sorted(
            status
            for status, jobs, in_flight in listed
            if in_flight and status not in (*STATUSES, OTHER) and jobs <= _WORTH_LISTING * in_flight
        )
    )


def listed_since(db: Database, target: int, horizon_ms: int | None) -> int:
    """Count what is listed, less what is in flight since before the horizon: nothing else is older."""
    listed = """
        SELECT (SELECT CAST(coalesce(sum(jobs), 0) AS BIGINT) FROM listing WHERE target = :target)
            - (SELECT count(*) FROM jobs INDEXED BY jobs_in_flight
                WHERE target = :target AND in_flight = 1 AND created_ms < :horizon
                    AND job_type IN (SELECT job_type FROM listing WHERE target = :target)
                    AND status IN (SELECT status FROM listing WHERE target = :target))
    """
    given = {"target": target, "horizon": horizon_ms or 0}
    return fetch_number(db, listed, given) + set_apart.unlisted_since(db, target, horizon_ms or 0)


def listed_lately(db: Database, target: int, since_ms: int) -> int:
    """Count what is listed of the jobs created since, row by row: for a time not long ago."""
    listed = """
        SELECT
            (SELECT count(*) FROM jobs INDEXED BY jobs_by_creation
                WHERE target = :target AND in_flight = 0 AND created_ms >= :since AND listed = 1)
            + (SELECT count(*) FROM jobs INDEXED BY jobs_in_flight
                WHERE target = :target AND in_flight = 1 AND created_ms >= :since
                    AND job_type IN (SELECT job_type FROM listing WHERE target = :target)
                    AND status IN (SELECT status FROM listing WHERE target = :target))
    """
    jobs = fetch_number(db, listed, {"target": target, "since": since_ms})
    return jobs + set_apart.unlisted_since(db, target, since_ms)


def finished_between(db: Database, target: int, start_ms: int, end_ms: int, most: int) -> tuple[int, ...]:
    """Name finished jobs listed with a creation time in this span, `most` of them at most."""
    rows = db.execute(
        """
        SELECT id FROM jobs INDEXED BY jobs_by_creation
        WHERE target = ? AND in_flight = 0 AND created_ms >= ? AND created_ms < ? AND listed = 1 LIMIT ?
        """,
        (target, start_ms, end_ms, most),
    )
    return tuple(job_id for (job_id,) in rows)


def oldest_created(db: Database, target: int) -> int:
    """Give the creation time of the oldest finished job, 0 where there is none."""
    oldest = """
        SELECT coalesce(min(created_ms), 0) FROM jobs INDEXED BY jobs_by_creation
        WHERE target = ? AND in_flight = 0
    """
    return fetch_number(db, oldest, (target,))


def types_to_show(db: Database, target_row: int, target: Target) -> tuple[str, ...]:
    """Give the configured types, or else the documented ones and then those the API has invented since."""
    rows = db.execute("SELECT DISTINCT job_type FROM listing WHERE target = ?", (target_row,))
    return _types({name for (name,) in rows}, target)


def _types(listed: set[str], target: Target) -> tuple[str, ...]:
    return target.job_types or (*JOB_TYPES, *sorted(listed - set(JOB_TYPES)))


def restore(db: Database, target: Target, rules: CountingRules) -> Totals | None:
    """Give what was last committed of a target, None where nothing ever was."""
    found = find_target(db, target.key)
    row = None if found is None else read_target(db, found)
    return None if row is None or row.commits == 0 else read_totals(db, row, target, rules)


def read_totals(db: Database, row: TargetRow, target: Target, rules: CountingRules) -> Totals:
    """Give what the last commit is to show of a target."""
    listing = db.execute(_LISTING, (row.id,)).fetchall()
    types = _types({kind for kind, *_ in listing}, target)
    series = _Series(row, row.released.under(rules))
    values = _read_series(db, row.id, series, types, rules)
    held = series.held(types)
    rows_unreadable, some_set_apart = set_apart.read(db, row.id)
    return Totals(
        jobs=_jobs(listing, types),
        **read_ages(db, row.id, types, row.committed_ms),
        **values,
        drift=dict.fromkeys(STATUSES, 0) | ({} if row.audit is None else row.audit.drift),
        last_audit_ms=None if row.audit is None else row.audit.at_ms,
        filters={name: row.filters.works(name) for name in FILTERS},
        baseline_ms=latest(row.baselines),
        committed_ms=row.committed_ms,
        rows_unreadable=rows_unreadable,
        set_apart=some_set_apart,
        undocumented_ended=_undocumented_ended(listing, types),
        drift_lasts=row.audit is not None and row.audit.lasts,
        unlisted_jobs=row.server.unlisted_jobs,
        page_size=row.server.page_size,
        held=frozenset(held),
        held_series=sum(held.values()),
        revision=row.revision,
        resource_jobs=_resource_jobs(db, row.id, types, values["resource_submitting"]),
        unreadable_specs=row.unreadable_specs,
    )


class SeriesValues(TypedDict):
    """What model.Totals has of counters and histograms."""

    created: dict[str, CounterValue]
    completed: dict[tuple[str, str], CounterValue]
    failures: dict[tuple[str, str, str], CounterValue]
    submitting: dict[str, HistogramValue]
    running: dict[tuple[str, str], HistogramValue]
    resource_submitting: dict[str, HistogramValue]
    core_seconds: dict[tuple[str, str], CounterValue]
    gpu_seconds: dict[tuple[str, str], CounterValue]
    memory_seconds: dict[tuple[str, str], CounterValue]
    reruns: dict[str, CounterValue]


def _read_series(
    db: Database, target: int, series: _Series, types: tuple[str, ...], rules: CountingRules
) -> SeriesValues:
    """Give the counters and histograms as they are shown, those without a row at 0."""
    counters = series.counters(read_counters(db, target), types)
    used = series.counters(read_resource_seconds(db, target), types)
    histograms = series.histograms(read_histograms(db, target, rules), types)
    none_waited = {kind: series.empty(kind, rules.submitting_bounds) for kind in types}
    none_ended = {(kind, status): series.zero(kind) for kind in types for status in TERMINAL_STATUSES}
    none_ran = {key: series.empty(key[0], rules.running_bounds) for key in none_ended}
    none_failed = {(kind, status, ""): series.zero(kind) for kind in types for status in FAILED_STATUSES}
    return {
        "created": {kind: counters.get(SeriesKey(CREATED, kind), series.zero(kind)) for kind in types},
        "completed": none_ended | _by_status(counters, COMPLETED),
        "failures": none_failed
        | {
            (key.job_type, key.status, key.msg_code): value
            for key, value in counters.items()
            if key.family == FAILURES
        },
        "submitting": {
            kind: histograms.get(SeriesKey(SUBMITTING, kind), empty) for kind, empty in none_waited.items()
        },
        "running": none_ran | _by_status(histograms, RUNNING),
        "resource_submitting": {
            key.resource_spec: value for key, value in histograms.items() if key.family == RESOURCE_SUBMITTING
        },
        "core_seconds": none_ended | _by_status(used, CORE_SECONDS),
        "gpu_seconds": none_ended | _by_status(used, GPU_SECONDS),
        "memory_seconds": none_ended | _by_status(used, MEMORY_SECONDS),
        "reruns": {kind: counters.get(SeriesKey(RERUNS, kind), series.zero(kind)) for kind in types},
    }


def _resource_jobs(
    db: Database, target: int, types: tuple[str, ...], specs: Collection[str]
) -> dict[tuple[str, str], int]:
    """Count the jobs in flight of these types by the label of their spec, at 0 for specs known before."""
    rows = db.execute(
        "SELECT job_type, resource_spec, status, jobs FROM resource_jobs WHERE target = ?", (target,)
    )
    counted = Counter({(spec, status): 0 for spec in specs for status in IN_FLIGHT_STATUSES})
    for kind, spec, status, jobs in rows:
        if kind in types:
            counted[spec, status] += jobs
    return dict(counted)


def _by_status(series: Mapping[SeriesKey, V], family: str) -> dict[tuple[str, str], V]:
    return {(key.job_type, key.status): value for key, value in series.items() if key.family == family}


class _Series:
    """
    How series are to be shown: those that are not released at 0, and all with their beginnings.

    Shape: `released` holds for the bounds of the histograms that are shown.
    """

    def __init__(self, row: TargetRow, released: Released) -> None:
        self._shown_types = row.shown_types
        self._released = released
        self._rows_held: Counter[SeriesKey] = Counter()
        self._rows_released: Counter[SeriesKey] = Counter()

    def counters(
        self, known: dict[SeriesKey, tuple[bool, CounterValue]], types: tuple[str, ...]
    ) -> dict[SeriesKey, CounterValue]:
        return {
            key: value if self._shows(key, released) else CounterValue(created_ms=value.created_ms)
            for key, (released, value) in known.items()
            if key.job_type in types
        }

    def histograms(
        self, known: dict[SeriesKey, tuple[bool, HistogramValue]], types: tuple[str, ...]
    ) -> dict[SeriesKey, HistogramValue]:
        return {
            key: value
            if self._shows(key, released)
            else replace(HistogramValue.empty(value.bounds), created_ms=value.created_ms)
            for key, (released, value) in known.items()
            if key.job_type in types or key.family == RESOURCE_SUBMITTING
        }

    def _shows(self, key: SeriesKey, released: bool) -> bool:
        """Tell whether a series shows its value, and keep count of those that do and of the others."""
        (self._rows_released if released else self._rows_held)[released_with(key)] += 1
        return released

    def zero(self, job_type: str) -> CounterValue:
        return CounterValue(created_ms=self._shown_types.get(job_type))

    def empty(self, job_type: str, bounds: tuple[float, ...]) -> HistogramValue:
        return replace(HistogramValue.empty(bounds), created_ms=self._shown_types.get(job_type))

    def held(self, types: tuple[str, ...]) -> dict[SeriesKey, int]:
        """Give, by the key that releases them, how many series show 0 until then; of the rows read before."""
        with_types = {
            key: len(statuses) - self._rows_released[key]
            for family, statuses in STATUSES_SHOWN.items()
            if statuses
            for kind in types
            for key in [SeriesKey(family, kind)]
            if not self._released.has(family, kind)
        }
        return self._rows_held | with_types


def _jobs(listing: Listing, types: tuple[str, ...]) -> dict[tuple[str, str], int]:
    listed = Counter({(kind, status): 0 for kind in types for status in STATUSES})
    for kind, status, _, jobs in listing:
        if kind in types:
            listed[kind, status] += jobs
    return dict(listed)


def _undocumented_ended(listing: Listing, types: tuple[str, ...]) -> int:
    return sum(
        jobs
        for kind, status, in_flight, jobs in listing
        if not in_flight and kind in types and status not in STATUSES
    )


class Ages(TypedDict):
    """What model.Totals says of the ages of jobs."""

    oldest_created_ms: dict[tuple[str, str], int]
    oldest_started_ms: dict[tuple[str, str], int]
    older_than: dict[tuple[str, str, str], int]


def read_ages(db: Database, target: int, types: tuple[str, ...], now_ms: int) -> Ages:
    """
    Give the ages of a target's jobs in flight, of these types.

    Units: `now_ms` by our own clock, as the ages that are made of the oldest timestamps.
    Raises: Damaged for a damaged index.
    """
    found = db.execute(_OLDEST, (target,)).fetchall()
    # They come from the index, which no check of the tables looks into.
    if any(tuple(map(type, row)) not in _SOUND for row in found):
        raise Damaged("damaged: index jobs_in_flight holds a value of a wrong type")
    shown = [row for row in found if row[0] in types]
    ages: Ages = {"oldest_created_ms": {}, "oldest_started_ms": {}, "older_than": {}}
    for kind, status, created_ms, started_ms in shown:
        ages["oldest_created_ms"][kind, status] = created_ms
        if started_ms is not None:
            ages["oldest_started_ms"][kind, status] = started_ms
        since_ms = created_ms if status in WAITING_STATUSES else started_ms
        # The rows are read only where the oldest job has reached the first bound: usually nowhere.
        if since_ms is not None and since_ms < now_ms - _LEAST_MS:
            query = _CREATED_BEFORE if status in WAITING_STATUSES else _STARTED_BEFORE
            rows = db.execute(query, (target, kind, status, now_ms - _LEAST_MS)).fetchall()
            since = [row[0] for row in rows]
            for age, bound_ms in AGE_BOUNDS_MS.items():
                jobs = bisect_left(since, now_ms - bound_ms)
                if not jobs:
                    break
                ages["older_than"][kind, status, age] = jobs
    return ages
