"""Look into the ledger's leases all the time, to measure how long nobody polled a target."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import psycopg

from tests.e2e.waiting import until
from tests.postgres import PostgresDatabase

_PAUSE_SECONDS = 0.03
_LOOK = """
    SELECT project, workspace, holder, fence, poll FROM leases JOIN targets ON targets.id = leases.target
"""
Target = tuple[str, str]


@dataclass(slots=True)
class Hold:
    """One replica's time with a target. Units: our monotonic seconds, None while it has recorded no poll."""

    holder: str
    fence: int
    first_record: float | None = None
    last_record: float | None = None


@dataclass
class LeaseWatch:
    """Watches the leases of a database, from `start` to `end`. `holds` are those of each target, in order."""

    database: PostgresDatabase
    holds: dict[Target, list[Hold]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="leases")

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def now(self) -> dict[Target, Hold]:
        """Give who holds each target."""
        return {target: holds[-1] for target, holds in self.holds.items()}

    def recorded(self) -> set[Target]:
        """Name the targets of which a poll has been recorded by whoever holds them."""
        return {target for target, hold in self.now().items() if hold.last_record is not None}

    def takeover_seconds(self, target: Target, lost: Hold) -> float:
        """Wait until another replica records a poll. Returns how long that is after the last one before."""

        def next_record() -> float | None:
            later = [hold for hold in self.holds[target] if hold.fence > lost.fence]
            return next((hold.first_record for hold in later if hold.first_record is not None), None)

        found = until(next_record, f"another replica polls {target}")
        assert found is not None
        assert lost.last_record is not None
        return found - lost.last_record

    def _watch(self) -> None:
        url = self.database.server.admin_url(self.database.name)
        polls: dict[Target, str | None] = {}
        with psycopg.connect(url, autocommit=True) as connection:
            while not self._ended.wait(_PAUSE_SECONDS):
                for project, workspace, holder, fence, poll in connection.execute(_LOOK).fetchall():
                    target = (project, workspace)
                    holds = self.holds.setdefault(target, [])
                    if not holds or (holds[-1].fence, holds[-1].holder) != (fence, holder):
                        if holder:
                            holds.append(Hold(holder, fence))
                        polls.setdefault(target, poll)
                    if poll != polls[target] and holds:
                        polls[target], now = poll, time.monotonic()
                        holds[-1].first_record = holds[-1].first_record or now
                        holds[-1].last_record = now
