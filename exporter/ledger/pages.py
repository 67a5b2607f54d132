"""The pages of one target that wait in memory to be staged together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from exporter.ledger.protocol import CountingRules, Origin, Wanted
from exporter.model import Job


class Pages:
    """Rows in the order they were read, those of one origin together; `rows` is how many."""

    def __init__(self, rules: CountingRules) -> None:
        self.rules = rules
        self.rows = 0
        self._runs: list[tuple[Origin, list[Job], list[Wanted]]] = []

    def add(self, jobs: Sequence[Job], wanted: Sequence[Wanted], origin: Origin) -> None:
        """Add a page; of each row it says whether it is the target's."""
        if not self._runs or self._runs[-1][0] != origin:
            self._runs.append((origin, [], []))
        self._runs[-1][1].extend(jobs)
        self._runs[-1][2].extend(wanted)
        self.rows += len(jobs)

    def by_origin(self) -> Iterator[tuple[Origin, list[Job], list[Wanted]]]:
        """Give the rows that stand together."""
        return iter(self._runs)
