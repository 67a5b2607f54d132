"""
PostgreSQL as the SQL of the ledger uses it (ledger.database): the spellings of SQLite, its values, and rows.

All parameters are bound here, by psycopg's client-side cursor, and every statement is one simple message. So
nothing is prepared on the server, and a pooler that changes the server connection between transactions does
no harm.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec
import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader

from exporter.errors import LedgerError
from exporter.ledger.database import Cursor, Given

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# PostgreSQL's texts have no NUL, and UTF-8 has no half of a surrogate pair.
_NOT_STORED = re.compile("[\x00\ud800-\udfff]")
_SPELLINGS = re.compile(
    r"""
    (?P<kept> '(?:[^']|'')*' | ::\w+ | --[^\n]* )
    | \bIN\s*\(\s*SELECT\s+value\s+FROM\s+json_each\(\s*(?: : (?P<names>\w+) | (?P<listed>\?) )\s*\)\s*\)
    | (?P<index> \bINDEXED\s+BY\s+\w+ )
    | (?P<differs> \bIS\s+NOT\b (?! \s+ (?: NULL | DISTINCT ) \b ) )
    | : (?P<name> [a-z_]\w* )
    | (?P<next> \? )
    | (?P<percent> % )
    """,
    re.VERBOSE,
)
# Of an INSERT with one row of parameters: what is before that row, the row, and what is after it.
_ONE_ROW = re.compile(r"(\s*INSERT\s.*?\bVALUES\s*)(\([^()]*\))(.*)", re.DOTALL)
# Longer messages gain nothing.
_ROWS_A_MESSAGE = 1_000


class AnotherRow(Exception):
    """The target was forgotten, and made again: its id is another one than was known."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    """Where a value comes from: a name or a position. `is_list` if it is a JSON list, taken as an array."""

    source: Any
    is_list: bool = False

    def of(self, given: Any) -> object:
        value = given[self.source]
        return array(msgspec.json.decode(value)) if self.is_list else storable(value)


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement in PostgreSQL's words, and its parameters in order."""

    text: str
    parameters: tuple[_Parameter, ...]

    def values(self, given: Any) -> list[object]:
        return [parameter.of(given) for parameter in self.parameters]


@lru_cache(maxsize=512)
def translated(statement: str) -> _Statement:
    """Put a statement into PostgreSQL's words."""
    parameters: list[_Parameter] = []

    def spelt(found: re.Match[str]) -> str:
        kind = found.lastgroup
        if kind == "kept":
            return found[0].replace("%", "%%")
        if kind in ("names", "listed"):
            parameters.append(_Parameter(found["names"] or _position(parameters), is_list=True))
            # The array is a literal without a type, and takes that of the left side.
            return "= ANY (%s)"
        if kind in ("name", "next"):
            parameters.append(_Parameter(found["name"] or _position(parameters)))
            return "%s"
        return {"index": "", "differs": "IS DISTINCT FROM", "percent": "%%"}[str(kind)]

    return _Statement(_SPELLINGS.sub(spelt, statement), tuple(parameters))


def _position(parameters: Sequence[_Parameter]) -> int:
    return sum(isinstance(parameter.source, int) for parameter in parameters)


def storable(value: object) -> object:
    if isinstance(value, str):
        return _NOT_STORED.sub(_REPLACEMENT, value) if _NOT_STORED.search(value) else value
    # Flags are numbers, and so are enums.
    return int(value) if isinstance(value, int) else value


def array(values: Iterable[Any]) -> str:
    """Write an array of numbers or of texts, as a literal without a type."""
    known: dict[Any, str] = {None: "NULL"}
    elements = []
    for value in values:
        element = known.get(value)
        if element is None:
            # Few texts of many rows differ. Flags and enums, which are equal to numbers, are written as such.
            element = known[value] = _element(value) if isinstance(value, str) else str(int(value))
        elements.append(element)
    return "{" + ",".join(elements) + "}"


def _element(text: str) -> str:
    escaped = str(storable(text)).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@lru_cache(maxsize=128)
def _split(statement: _Statement) -> tuple[str, _Statement, str]:
    """Give what is before the one row of an INSERT, the row, and what is after it; else all in the middle."""
    found = _ONE_ROW.fullmatch(statement.text)
    if found is None:
        return "", statement, ""
    before, row, after = found.groups()
    return before.replace("%%", "%"), _Statement(row, statement.parameters), after.replace("%%", "%")


@dataclass(frozen=True, slots=True)
class _Preceding:
    """Statements that wait for the next one, and what looks at the result of the last of them."""

    statements: Sequence[tuple[str, Given]]
    check: Callable[[PostgresDatabase, Cursor], None]


class PostgresDatabase:
    """
    A connection; implements ledger.database.Database.

    Raises: psycopg.Error, LedgerError (what precedes a statement says that it must not count).
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._binder = psycopg.ClientCursor(connection)
        self._preceding: _Preceding | None = None
        self.found_row: int | None = None  # of the target that the transaction is about
        self.has_answered = False  # since `precede`
        self.asked_at = 0.0  # when the last message was sent, as time.monotonic has it

    def precede(
        self,
        *statements: tuple[str, Given],
        check: Callable[[PostgresDatabase, Cursor], None],
        target_row: int | None = None,
    ) -> None:
        """
        Send these statements with the next one, in one message.

        Shape: `check` gets the result of the last of them, and raises where the next one must not count. Then
        the caller rolls back: all of them belong to one transaction. `target_row` is the id of the target
        that the transaction is about, as far as it is known.
        """
        self._preceding = _Preceding(statements, check)
        self.found_row = target_row
        self.has_answered = False

    @property
    def target_row(self) -> int:
        """The id of the target that the transaction is about. Raises: LedgerError where there is none."""
        if self.found_row is None and self._preceding is not None:
            self._send("")
        if self.found_row is None:
            raise LedgerError("the ledger has no such target")
        return self.found_row

    def found_target(self, row: int) -> None:
        """Take the id of the target, from `check`. Raises: AnotherRow where another one was known."""
        if self.found_row not in (None, row):
            raise AnotherRow
        self.found_row = row

    def precede_nothing(self) -> None:
        """Forget what waits for the next statement."""
        self._preceding = None

    def commit(self) -> str:
        """Commit, and give the server's answer: COMMIT, or ROLLBACK where a statement has failed before."""
        return str(self._send("COMMIT").statusmessage)

    def execute(self, statement: str, given: Given = (), /) -> Cursor:
        return self._send(self._bound(translated(statement), given))

    def executemany(self, statement: str, rows: Iterable[Sequence[object]], /) -> Cursor:
        """
        Execute a statement for every row, with few messages.

        Shape: an INSERT gets many rows; other statements are sent together. The cursor is that of the last.
        """
        before, each, after = _split(translated(statement))
        separator = "," if before else ";"
        cursor: Cursor = _NOTHING
        for batch in _batches(rows, _ROWS_A_MESSAGE):
            # Row by row: psycopg keeps what it knows of a short statement, and reads a long one every time.
            bound = [self._bound(each, row) for row in batch]
            cursor = self._send(before + separator.join(bound) + after)
        return cursor

    def _bound(self, statement: _Statement, given: Given) -> str:
        return self._binder.mogrify(statement.text.encode(), statement.values(given))

    def _send(self, message: str) -> psycopg.Cursor[Any]:
        preceding, self._preceding = self._preceding, None
        self.asked_at = time.monotonic()
        cursor = self.connection.cursor()
        if preceding is None:
            cursor.execute(message.encode())
            self.has_answered = True
            return cursor
        before = [self._bound(translated(statement), given) for statement, given in preceding.statements]
        cursor.execute(";".join([*before, message]).encode())
        self.has_answered = True
        for _ in before[1:]:
            cursor.nextset()
        preceding.check(self, cursor)
        cursor.nextset()
        return cursor


class _NoRows:
    """What comes of no statement at all."""

    rowcount = 0

    def fetchone(self) -> None:
        return None

    def fetchmany(self, _size: int, /) -> list[Any]:
        return []

    def fetchall(self) -> list[Any]:
        return []

    def __iter__(self) -> Iterator[Any]:
        return iter(())


_NOTHING: Cursor = _NoRows()


def _batches(rows: Iterable[Sequence[object]], most: int) -> Iterator[list[Sequence[object]]]:
    left = iter(rows)
    while batch := list(islice(left, most)):
        yield batch


class WholeNumber(Loader):
    """Reads a `numeric`, which is what PostgreSQL's sums are, as the whole number that it is."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data)
        return float(text) if b"." in text or not text.lstrip(b"-").isdigit() else int(text)
