"""The pages of one target that wait in memory to be staged together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from exporter.counting.rules import CountingRules
from exporter.model import Job
from exporter.sync.ledger import PageOrigin, RowKind


class Pages:
    """Rows in the order they were read, those of one origin together; `rows` is how many."""

    def __init__(self, rules: CountingRules) -> None:
        self.rules = rules
        self.rows = 0
        self._runs: list[tuple[PageOrigin, list[Job], list[RowKind]]] = []

    def add(self, jobs: Sequence[Job], wanted: Sequence[RowKind], origin: PageOrigin) -> None:
        """Add a page; of each row it says whether it is the target's."""
        if not self._runs or self._runs[-1][0] != origin:
            self._runs.append((origin, [], []))
        self._runs[-1][1].extend(jobs)
        self._runs[-1][2].extend(wanted)
        self.rows += len(jobs)

    def by_origin(self) -> Iterator[tuple[PageOrigin, list[Job], list[RowKind]]]:
        """Give the rows that stand together."""
        return iter(self._runs)
