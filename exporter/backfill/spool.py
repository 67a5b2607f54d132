"""The moments of all jobs, on the disk and in order of time: memory stays flat however many they are."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.backfill.past import PastMoment
from exporter.model import Job


class Spool:
    """A temporary SQLite database in the folder for temporary files, which is gone with the process."""

    def add(self, target: int, job: Job, moment: PastMoment, *, failed: bool) -> None:
        """Keep a moment of a job; `target` is the number of its target in the plan."""
        raise NotImplementedError

    def moments(self, target: int, after_ms: int, to_ms: int) -> Iterator[tuple[Job, PastMoment, bool]]:
        """Give the moments after one time, up to and with another, in order; each says whether it failed."""
        raise NotImplementedError
