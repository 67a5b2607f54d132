"""How a transaction begins: to write what belongs to a target with a look at its lease, or to read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from exporter.errors import LedgerError
from exporter.ledger.database import Cursor, Given
from exporter.ledger.postgres.connection import check_version
from exporter.ledger.postgres.database import PostgresDatabase
from exporter.ledger.postgres.leases import IS_TARGET, named
from exporter.model import TargetKey

# A heartbeat has nothing to compute between its statements.
_IDLE_SECONDS = 5.0
NOT_HELD = "this replica does not hold the lease of this target"
READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Whatever the database's own default is: who has waited for a lock has to see what was committed meanwhile.
_WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED"
_FIND = f"SELECT id FROM targets WHERE {IS_TARGET}"  # noqa: S608 - constants only
_FENCED = f"""
    SELECT targets.id, schema_version.version
    FROM targets JOIN leases ON leases.target = targets.id CROSS JOIN schema_version
    WHERE {IS_TARGET} AND holder = :holder AND fence = :fence FOR KEY SHARE OF leases
"""  # noqa: S608 - constants only


@dataclass(frozen=True, slots=True)
class Fence:
    """
    A lease as a transaction checks it: of a target, held by `holder` with this number.

    Units: a transaction that is idle for longer than `lease_seconds` is ended by the server.
    """

    key: TargetKey
    holder: str
    number: int
    lease_seconds: float


def beginning(
    key: TargetKey | None, fence: Fence | None, *, writes: bool, is_durable: bool
) -> tuple[list[tuple[str, Given]], Callable[[PostgresDatabase, Cursor], None]]:
    """Give the statements that begin a transaction, and what looks at the result of the last."""
    if fence is not None:
        return _begin_fenced(fence, is_durable), _check_held
    reading: list[tuple[str, Given]] = [(READING, ())]
    begin = _begin_writing(_IDLE_SECONDS) if writes else reading
    if key is None:
        return begin, _check_nothing
    return [*begin, (_FIND, named(key))], _note_row


def _begin_writing(idle_seconds: float) -> list[tuple[str, Given]]:
    # A process that is stopped keeps its locks, and nobody could take over: the server ends its session.
    idle_ms = int(idle_seconds * 1000)
    return [(_WRITING, ()), (f"SET LOCAL idle_in_transaction_session_timeout = {idle_ms}", ())]


def _begin_fenced(fence: Fence, is_durable: bool) -> list[tuple[str, Given]]:
    return [
        *_begin_writing(fence.lease_seconds),
        *([] if is_durable else [("SET LOCAL synchronous_commit = off", ())]),
        # KEY SHARE lets the heartbeat go on, and keeps others from taking the lease until the end.
        (_FENCED, {**named(fence.key), "holder": fence.holder, "fence": fence.number}),
    ]


def _check_held(db: PostgresDatabase, cursor: Cursor) -> None:
    row = cursor.fetchone()
    if row is None:
        raise LedgerError(NOT_HELD)
    found, version = row
    db.found_target(found)
    check_version(version)


def _note_row(db: PostgresDatabase, cursor: Cursor) -> None:
    row = cursor.fetchone()
    if row is None:
        db.found_row = None
    else:
        db.found_target(row[0])


def _check_nothing(_db: PostgresDatabase, _cursor: Cursor) -> None:
    """What belongs to no target has nothing to check."""
