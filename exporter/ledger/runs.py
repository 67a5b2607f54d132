"""
The questions of exporter.runs as SQL, answered beside whatever is being recorded.

Each question is short, since long answers are read piece by piece, and no snapshot is held between pieces,
however slow a client is.

No count depends on these rows. So damaged text is read as far as possible, and a row with a damaged number is
left out: the other rows can still be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import msgspec

from exporter.ledger.database import Database
from exporter.ledger.ended import HOUR_MS, HOURS_COUNTED, RUN_COLUMNS
from exporter.ledger.targets import find_target
from exporter.model import Run, TargetKey
from exporter.runs import (
    FailedRun,
    FailureGroup,
    FailureGroups,
    HourlyFailures,
    Position,
    RunFilter,
    Selection,
)

R = TypeVar("R")

_HOURS_OF_A_DAY = 24
# Of the last hour so many kinds of failure are told apart: a server may give every run a code of its own.
_KINDS = 1_000
_COLUMNS = ", ".join(RUN_COLUMNS)
_IS_OF = "target IN (SELECT value FROM json_each(:targets))"
_GROUP = "target, job_type, status, msg_code, msg_error"
# The columns of _GROUP.
_Group = tuple[Any, ...]
_NEWEST_FIRST = "at_ms DESC, target DESC, job_id DESC, number DESC"


def target_rows(db: Database, targets: Sequence[TargetKey]) -> dict[int, TargetKey]:
    """Give the targets by their number in the ledger, as far as it has them."""
    rows = {find_target(db, key): key for key in targets}
    return {row: key for row, key in rows.items() if row is not None}


def select_failed(
    db: Database,
    targets: Sequence[TargetKey],
    which: RunFilter,
    most: int,
    after: Position | None = None,
) -> Selection:
    """See runs.RunReader."""
    condition, given = _fitting(db, targets, which)
    if after is not None:
        # The first half is what the index can use.
        condition += """ AND at_ms <= :at
            AND (at_ms, target, job_id, number) < (:at, :after_target, :after_job, :after_number)"""
        given |= {"at": after.at_ms, "after_target": after.target}
        given |= {"after_job": after.job_id, "after_number": after.number}
    rows = db.execute(
        f"""
        SELECT rowid, at_ms, target, job_id, number FROM failed_runs
        WHERE {condition} ORDER BY {_NEWEST_FIRST} LIMIT :most
        """,  # noqa: S608 - constants only
        given | {"most": most + 1},
    ).fetchall()
    last = Position(*rows[most - 1][1:]) if len(rows) > most > 0 else None
    return Selection([row[0] for row in rows[:most]], last)


def failed(db: Database, targets: Sequence[TargetKey], keys: Sequence[int]) -> tuple[FailedRun, ...]:
    """See runs.RunReader."""
    known = target_rows(db, targets)
    rows = db.execute(
        f"""
        SELECT target, {_COLUMNS} FROM failed_runs
        WHERE rowid IN (SELECT value FROM json_each(:keys)) ORDER BY {_NEWEST_FIRST}
        """,  # noqa: S608 - constants only
        {"keys": _json(keys)},
    )
    read = [(target, _run(row)) for target, *row in rows]
    return tuple(FailedRun(known[target], run) for target, run in read if run is not None and target in known)


def recent_failures(
    db: Database, targets: Sequence[TargetKey], most: int
) -> Mapping[TargetKey, tuple[Run, ...]]:
    """See runs.RunReader."""
    latest = f"""
        SELECT {_COLUMNS} FROM failed_runs WHERE target = ?
        ORDER BY at_ms DESC, job_id DESC, number DESC LIMIT ?
    """  # noqa: S608 - constants only
    return {
        key: tuple(run for row in db.execute(latest, (target, most)) if (run := _run(row)) is not None)
        for target, key in target_rows(db, targets).items()
    }


def failure_groups(
    db: Database, targets: Sequence[TargetKey], which: RunFilter, most: int, most_ids: int = 500
) -> FailureGroups:
    """See runs.RunReader."""
    known = target_rows(db, targets)
    condition, given = _fitting(db, targets, which)
    rows = db.execute(
        f"""
        SELECT {_GROUP}, count(*), CAST(min(at_ms) AS BIGINT), CAST(max(at_ms) AS BIGINT),
            CAST(sum(count(*)) OVER () AS BIGINT), count(*) OVER ()
        FROM failed_runs WHERE {condition}
        GROUP BY {_GROUP} ORDER BY count(*) DESC, max(at_ms) DESC, {_GROUP} LIMIT :most
        """,  # noqa: S608 - constants only
        given | {"most": most},
    ).fetchall()
    if not rows:
        return FailureGroups()
    all_runs, all_groups = rows[0][-2:]
    ids = _job_ids(db, condition, given, [row[:5] for row in rows], most_ids)
    groups = tuple(
        FailureGroup(
            target=known[row[0]],
            job_type=row[1],
            status=row[2],
            msg_code=row[3],
            message=row[4],
            runs=row[5],
            first_ms=row[6],
            last_ms=row[7],
            job_ids=ids[row[:5]],
        )
        for row in rows
    )
    return FailureGroups(groups, all_runs, all_groups - len(groups))


def _job_ids(
    db: Database, condition: str, given: Mapping[str, object], groups: Sequence[_Group], most: int
) -> dict[_Group, tuple[int, ...]]:
    """Give the jobs of each group, the newest first, in one pass over the runs."""
    found: dict[_Group, dict[int, None]] = {group: {} for group in groups}
    for target in {group[0] for group in groups}:
        rows = db.execute(
            f"""
            SELECT {_GROUP}, job_id FROM failed_runs
            WHERE {condition} AND target = :of ORDER BY at_ms DESC, job_id DESC
            """,  # noqa: S608 - constants only
            {**given, "of": target},
        )
        for *group, job_id in rows:
            jobs = found.get(tuple(group))
            if jobs is not None and len(jobs) < most:
                jobs[job_id] = None
    return {group: tuple(jobs) for group, jobs in found.items()}


def _mean_per_hour(db: Database, target: int, which: RunFilter, now_ms: int) -> float | None:
    """Return how many runs of a target fail in an hour; see runs.HourlyFailures."""
    # The last hour is compared with the mean, so no hour that it reaches into counts.
    end = (now_ms - HOUR_MS) // HOUR_MS
    (from_ms,) = db.execute("SELECT hourly_from_ms FROM targets WHERE id = ?", (target,)).fetchone()
    # Whole hours only: counting began in the middle of one.
    first: int = max(-(-from_ms // HOUR_MS), end - HOURS_COUNTED)
    if not from_ms or end - first < _HOURS_OF_A_DAY:
        return None
    return _failed_between(db, target, which, first, end) / (end - first)


def _failed_between(db: Database, target: int, which: RunFilter, first_hour: int, end_hour: int) -> int:
    (runs,) = db.execute(
        """
        SELECT CAST(coalesce(sum(runs), 0) AS BIGINT) FROM hourly_runs
        WHERE target = :target AND hour >= :first AND hour < :end AND failed = 1
            AND job_type = coalesce(:job_type, job_type) AND status = coalesce(:status, status)
        """,
        {
            "target": target,
            "first": first_hour,
            "end": end_hour,
            "job_type": which.job_type,
            "status": which.status,
        },
    ).fetchone()
    return int(runs)


def last_hour(
    db: Database, targets: Sequence[TargetKey], which: RunFilter, now_ms: int
) -> tuple[HourlyFailures, ...]:
    """See runs.RunReader."""
    known = target_rows(db, targets)
    counted = RunFilter(job_type=which.job_type, status=which.status)
    condition, given = _fitting(db, targets, replace(counted, since_ms=now_ms - HOUR_MS))
    runs = dict(
        db.execute(f"SELECT target, count(*) FROM failed_runs WHERE {condition} GROUP BY target", given)  # noqa: S608
    )
    kinds: dict[int, dict[tuple[str, str], int]] = {}
    for target, job_type, msg_code, count in db.execute(
        f"""
        SELECT target, job_type, msg_code, count(*) FROM failed_runs WHERE {condition}
        GROUP BY target, job_type, msg_code ORDER BY count(*) DESC LIMIT :most
        """,  # noqa: S608 - constants only
        given | {"most": _KINDS},
    ):
        kinds.setdefault(target, {})[job_type, msg_code] = count
    ended = dict(
        db.execute(
            f"""
            SELECT target, CAST(sum(runs) AS BIGINT) FROM hourly_runs
            WHERE {_IS_OF} AND hour >= :hour AND job_type = coalesce(:type, job_type) GROUP BY target
            """,  # noqa: S608 - constants only
            {"targets": given["targets"], "hour": now_ms // HOUR_MS - 1, "type": which.job_type},
        )
    )
    return tuple(
        HourlyFailures(
            key,
            runs.get(target, 0),
            _mean_per_hour(db, target, counted, now_ms),
            kinds.get(target, {}),
            ended.get(target, 0),
        )
        for target, key in known.items()
    )


def _fitting(db: Database, targets: Sequence[TargetKey], which: RunFilter) -> tuple[str, dict[str, object]]:
    """Give the condition for the runs that are meant, and its values."""
    rows = [row for row, key in target_rows(db, targets).items() if which.fits_target(key)]
    conditions, given = [_IS_OF], dict[str, object](targets=_json(rows))
    for column in ("job_type", "status", "msg_code", "job_id"):
        value = getattr(which, column)
        if value is not None:
            conditions.append(f"{column} = :{column}")
            given[column] = value
    if which.since_ms is not None:
        conditions.append("at_ms >= :since")
        given["since"] = which.since_ms
    return " AND ".join(conditions), given


def _run(row: Sequence[object]) -> Run | None:
    """Read a row of _COLUMNS; None where a number is damaged."""
    try:
        return msgspec.convert(dict(zip(RUN_COLUMNS, row, strict=True), failed=True), Run)
    except msgspec.ValidationError:
        return None


def _json(values: Sequence[int]) -> str:
    return msgspec.json.encode(values).decode()


class Ask(Protocol):
    """Answers a question with a connection of the ledger, in a thread. Raises: LedgerError."""

    async def __call__(self, question: Callable[[Database], R], /) -> R: ...


@dataclass(frozen=True, slots=True)
class SqlRunReader:
    """Implements runs.RunReader."""

    ask: Ask

    async def select_failed(
        self, targets: Sequence[TargetKey], which: RunFilter, most: int, after: Position | None = None
    ) -> Selection:
        return await self.ask(lambda db: select_failed(db, targets, which, most, after))

    async def failed(self, targets: Sequence[TargetKey], keys: Sequence[int]) -> tuple[FailedRun, ...]:
        return await self.ask(lambda db: failed(db, targets, keys))

    async def failure_groups(
        self, targets: Sequence[TargetKey], which: RunFilter, most: int, most_ids: int = 500
    ) -> FailureGroups:
        return await self.ask(lambda db: failure_groups(db, targets, which, most, most_ids))

    async def last_hour(
        self, targets: Sequence[TargetKey], which: RunFilter, now_ms: int
    ) -> tuple[HourlyFailures, ...]:
        return await self.ask(lambda db: last_hour(db, targets, which, now_ms))

    async def recent_failures(
        self, targets: Sequence[TargetKey], most: int
    ) -> Mapping[TargetKey, tuple[Run, ...]]:
        return await self.ask(lambda db: recent_failures(db, targets, most))
