"""The rows of one poll that cannot be read: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from exporter.errors import ContractError
from exporter.model import Job, SetApart
from exporter.octopus.tolerant import SetApartRow
from exporter.sync.ledger import Staged

# The poll fails where there are more of them than this, and more than one in 20 rows (contract, rule 7).
_TOLERATED = 5
_TOLERATED_ONE_IN = 20


class UnreadableRows:
    """
    The rows set apart, each once, however many pages and passes show it.

    The key of a row is its id. A row without one is told apart from others by its place in a pass, and
    recognised in another pass by its content and its number among the rows with the same content.
    """

    def __init__(self) -> None:
        self._rows: dict[str, SetApart] = {}
        self._places: dict[int, dict[int, str]] = {}
        self._same_content: dict[int, Counter[str]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def all(self) -> tuple[SetApart, ...]:
        return tuple(self._rows.values())

    @property
    def job_ids(self) -> list[int]:
        return [row.job_id for row in self._rows.values() if row.job_id is not None]

    @property
    def has_rows_without_id(self) -> bool:
        """Tell whether there is a row that may belong to any job."""
        return bool(self._places)

    def add(self, rows: Iterable[SetApartRow], offset: int, pass_no: int) -> list[Job]:
        """Note the rows of a page, and give those that have an id as jobs that stay as they are."""
        unread = []
        for row in rows:
            if row.job_id is not None:
                key = str(row.job_id)
                # Older than any readable row, so that a readable one replaces it.
                unread.append(Job(row.job_id, "", "", row.created_ms or 0, -1))
            else:
                place, places = offset + row.index, self._places.setdefault(pass_no, {})
                if place not in places:
                    same_content = self._same_content.setdefault(pass_no, Counter())
                    same_content[row.digest] += 1
                    places[place] = f"{row.digest} {same_content[row.digest]}"
                key = places[place]
            self._rows[key] = SetApart(key, row.job_id, row.status, row.created_ms, row.problem)
        return unread

    def discard(self, job_ids: Iterable[int]) -> None:
        """Remove the rows of jobs that another answer showed readable: they have changed meanwhile."""
        for job_id in job_ids:
            del self._rows[str(job_id)]

    def counted_with(self, staged: Staged, first_pass: int, pass_no: int) -> Staged:
        """Add the rows without an id, which the ledger does not stage, to its count of staged rows."""
        passes = [len(self._places.get(number, ())) for number in range(first_pass, pass_no + 1)]
        if not any(passes):
            return staged
        repeated = min(passes[-2:]) if len(passes) > 1 else 0
        return Staged(staged.in_pass + passes[-1], staged.in_all + max(passes), staged.repeated + repeated)

    def check(self, rows_with_id: int) -> None:
        """
        Make sure that few of all rows that came cannot be read.

        Raises: ContractError.
        """
        rows = rows_with_id + len(self._rows) - len(self.job_ids)
        if len(self._rows) > _TOLERATED and len(self._rows) * _TOLERATED_ONE_IN > rows:
            first = next(iter(self._rows.values()))
            raise ContractError(
                f"payload.list: {len(self._rows)} of {rows} rows cannot be read, such as {first.problem}"
            )
