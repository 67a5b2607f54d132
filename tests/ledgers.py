"""Ledgers of both back ends for tests: one that holds whatever target it is asked about."""

from __future__ import annotations

import psycopg

from exporter.config import LedgerSettings
from exporter.ledger.postgres.connection import LedgerDatabase
from exporter.ledger.postgres.lanes import Fence
from exporter.ledger.postgres.ledger import PostgresLedger
from exporter.model import Target, TargetKey
from exporter.sync.ledger import TargetState

_TARGET = """
    INSERT INTO targets (project, project_id, workspace, path) VALUES (%s, %s, %s, %s)
    ON CONFLICT (project, project_id, workspace, path) DO UPDATE SET path = excluded.path RETURNING id
"""
_LEASE = """
    INSERT INTO leases (target, holder, fence) VALUES (%s, %s, 1)
    ON CONFLICT (target) DO UPDATE SET holder = excluded.holder, fence = leases.fence + 1 RETURNING fence
"""


class SoleReplica(PostgresLedger):
    """The PostgreSQL ledger of a replica that is alone: it takes each target when it first uses it."""

    replica = "sole"

    @classmethod
    async def at(cls, url: str) -> SoleReplica:
        ledger = cls(LedgerDatabase(LedgerSettings(url=url)))  # type: ignore[arg-type]  # pydantic parses it
        await ledger.opened()
        return ledger

    def take(self, key: TargetKey) -> Fence:
        """Take a target from whoever holds it."""
        with psycopg.connect(self._database.settings.url.url.get()) as db:
            names = key.project, key.project_id, key.workspace, key.path
            (row,) = db.execute(_TARGET, names).fetchone() or ()
            (fence,) = db.execute(_LEASE, (row, self.replica)).fetchone() or ()
        self._fences[key] = Fence(key, self.replica, fence, 15.0)
        return self._fences[key]

    def _fence_of(self, key: TargetKey) -> Fence:
        return self._fences.get(key) or self.take(key)

    async def summary(self, target: Target) -> TargetState:
        self._fence_of(target.key)
        return await super().summary(target)
