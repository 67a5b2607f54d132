"""The rows of one poll that cannot be read: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from exporter.errors import ContractError
from exporter.model import Job, SetApart
from exporter.octopus.tolerant import SetApartRow
from exporter.sync.ledger import Staged

# More rows than these, and more than one in so many, fail the poll (contract, rule 7).
_FEW = 5
_ONE_IN = 20


class UnreadableRows:
    """
    The rows set apart, each once, however many pages and passes show it.

    A row with an id is known by it. Others are told apart by their place in a pass, and known again in
    another pass by their content and their number among rows of the same content.
    """

    def __init__(self) -> None:
        self._rows: dict[str, SetApart] = {}
        self._places: dict[int, dict[int, str]] = {}
        self._alike: dict[int, Counter[str]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def all(self) -> tuple[SetApart, ...]:
        return tuple(self._rows.values())

    @property
    def job_ids(self) -> list[int]:
        return [row.job_id for row in self._rows.values() if row.job_id is not None]

    @property
    def has_nameless(self) -> bool:
        """Tell whether one of them may be the row of any job."""
        return bool(self._places)

    def add(self, rows: Iterable[SetApartRow], offset: int, pass_no: int) -> list[Job]:
        """Note the rows of a page, and give those that have an id as jobs that stay as they are."""
        unread = []
        for row in rows:
            if row.job_id is None:
                key = self._key_at(offset + row.index, row.digest, pass_no)
            else:
                key = str(row.job_id)
                # Older than any row that can be read, so that one that can takes its place.
                unread.append(Job(row.job_id, "", "", row.created_ms or 0, -1))
            self._rows[key] = SetApart(key, row.job_id, row.status, row.created_ms, row.problem)
        return unread

    def _key_at(self, place: int, digest: str, pass_no: int) -> str:
        places, alike = self._places.setdefault(pass_no, {}), self._alike.setdefault(pass_no, Counter())
        if place not in places:
            alike[digest] += 1
            places[place] = f"{digest} {alike[digest]}"
        return places[place]

    def were_read(self, job_ids: Iterable[int]) -> None:
        """Take away those that another answer showed readable: they changed meanwhile."""
        for job_id in job_ids:
            del self._rows[str(job_id)]

    def counted_with(self, staged: Staged, first_pass: int, pass_no: int) -> Staged:
        """Add the rows without an id to a count of rows by their ids."""
        passes = [len(self._places.get(number, ())) for number in range(first_pass, pass_no + 1)]
        if not any(passes):
            return staged
        repeated = min(passes[-2:]) if len(passes) > 1 else 0
        return Staged(staged.in_pass + passes[-1], staged.in_all + max(passes), staged.repeated + repeated)

    def check(self, read: int) -> None:
        """
        Make sure that they are few among the rows with an id that came.

        Raises: ContractError.
        """
        rows = read + len(self._rows) - len(self.job_ids)
        if len(self._rows) > _FEW and len(self._rows) * _ONE_IN > rows:
            first = next(iter(self._rows.values()))
            raise ContractError(
                f"payload.list: {len(self._rows)} of {rows} rows cannot be read, such as {first.problem}"
            )
