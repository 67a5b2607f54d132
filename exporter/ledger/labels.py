"""
Which undocumented job types and statuses of a target have series of their own.

An undocumented value gets a label of its own, up to a limit; later values share the label "other", so that
the number of series is bounded. This is never changed again: otherwise counts would move from one series to
another. So labels are given out when rows are staged, and written in the transaction that first uses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from operator import attrgetter

import msgspec

from exporter.counting.rules import CountingRules
from exporter.ledger.database import Database
from exporter.model import JOB_TYPES, OTHER, STATUSES, Job
from exporter.sync.ledger import RowKind


class KeptLabels(msgspec.Struct, frozen=True):
    """The undocumented values with a label of their own, in the order they came."""

    job_types: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()


class LabelSet:
    """
    The labels of one target.

    Shape: `configured` are the job types that the configuration lists: they always have a label of their own.
    """

    def __init__(self, kept: KeptLabels, configured: Sequence[str], rules: CountingRules) -> None:
        self._job_types = _Values(JOB_TYPES, kept.job_types, configured, rules.max_job_types)
        self._statuses = _Values(STATUSES, kept.statuses, (), rules.max_statuses)

    @property
    def kept(self) -> KeptLabels:
        return KeptLabels(tuple(self._job_types.kept), tuple(self._statuses.kept))

    def learn(self, jobs: Sequence[Job], wanted: Sequence[RowKind]) -> bool:
        """Give labels to the values that are new, as far as there are any left; tell whether all have one."""
        job_types = self._job_types.learn(jobs, wanted, attrgetter("job_type"))
        statuses = self._statuses.learn(jobs, wanted, attrgetter("status"))
        return job_types and statuses

    def labelled(self, job: Job) -> Job:
        """Give a row with the labels of its job type and status in their places."""
        job_type, status = self._job_types.label(job.job_type), self._statuses.label(job.status)
        return msgspec.structs.replace(job, job_type=job_type, status=status)


class _Values:
    """The values of one field that have a label of their own; `kept` are the undocumented ones among them."""

    def __init__(
        self, documented: Iterable[str], kept: Sequence[str], configured: Sequence[str], most: int
    ) -> None:
        self.kept = list(kept)
        self._most = most
        self._configured = frozenset(configured)
        own = {"", *documented, *kept}  # "" stands for what cannot be read of a row set apart
        self._labels = {value: value for value in own}

    def learn(self, jobs: Sequence[Job], wanted: Sequence[RowKind], value_of: Callable[[Job], str]) -> bool:
        # `map` and `attrgetter` look at a million rows faster than a comprehension.
        found = set(map(value_of, jobs))
        if found <= self._labels.keys():  # nearly always
            return True
        ours = compress(jobs, map(RowKind.OWN.__eq__, wanted))
        for value in dict.fromkeys(map(value_of, ours)):
            if value in self._labels or value == OTHER:
                continue
            if value in self._configured or len(self.kept) < self._most:
                self.kept.append(value)
                self._labels[value] = value
        return found <= self._labels.keys()

    def label(self, value: str) -> str:
        return self._labels.get(value, OTHER)


_kept = msgspec.json.Decoder(KeptLabels).decode
_NOTHING = "{}"


def read_labels(db: Database, target: int) -> tuple[KeptLabels, bool]:
    """
    Give the labels of a target, and whether they were ever written.

    In a ledger of a version that had no bound, they are all that the target has used.
    """
    (labels,) = db.execute("SELECT labels FROM targets WHERE id = ?", (target,)).fetchone()
    if labels != _NOTHING:
        return _kept(labels), True
    used = KeptLabels(_used(db, target, "job_type", JOB_TYPES), _used(db, target, "status", STATUSES))
    return used, False


def _used(db: Database, target: int, column: str, documented: tuple[str, ...]) -> tuple[str, ...]:
    rows = db.execute(
        f"""
        SELECT {column} FROM listing WHERE target = :target
        UNION SELECT {column} FROM counters WHERE target = :target
        """,  # noqa: S608 - constants only
        {"target": target},
    )
    return tuple(sorted({value for (value,) in rows} - {*documented, "", OTHER}))


def write_labels(db: Database, target: int, kept: KeptLabels) -> None:
    db.execute("UPDATE targets SET labels = ? WHERE id = ?", (msgspec.json.encode(kept).decode(), target))
