"""A poller with a fake API and a fake clock, and what it publishes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from exporter.ledger.sqlite import SqliteLedger
from exporter.model import PollStatus, Target, TargetSnapshot, Totals
from exporter.sync.poller import PollTiming, ProgressListener, TargetPoller
from tests.fake_api import FakeApi, a_target, poll_rules


class Stage:
    """A poller with a fake API and clock; implements poller.SnapshotSink."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self.ledger = ledger
        self.api = FakeApi(gives_time=False)
        self.now = 1_000.0
        self.shown: list[TargetSnapshot] = []
        self.on_publish: Callable[[TargetSnapshot], None] = lambda snapshot: None

    def publish(self, snapshot: TargetSnapshot) -> None:
        self.shown.append(snapshot)
        self.on_publish(snapshot)

    def poller(
        self,
        interval: float = 0.01,
        max_age: float = 300.0,
        listener: ProgressListener | None = None,
        status: PollStatus | None = None,
        totals: Totals | None = None,
        on_polled: Callable[[Target, PollStatus], Awaitable[None]] | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> TargetPoller:
        return TargetPoller(
            a_target(),
            self.api,
            self.ledger,
            self,
            poll_rules(),
            PollTiming(interval, max_age),
            clock=lambda: self.now,
            listener=listener,
            status=status,
            totals=totals,
            on_polled=on_polled,
            timer=timer,
        )

    @property
    def last(self) -> TargetSnapshot:
        return self.shown[-1]


def raise_fault(_asked_or_shown: object) -> None:
    raise ZeroDivisionError("in the midst of it")
