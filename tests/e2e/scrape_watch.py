"""
Scrape replicas all the time: no counter may ever go down, and none may be above the simulators' accounts.

Each replica is scraped by a thread of its own, because one that is frozen does not answer.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.e2e.agreement import lived
from tests.e2e.exposed import LISTED, Exposed, Figures, told
from tests.e2e.replicas import Replica
from tests.e2e.simulation import Simulation

_PAUSE_SECONDS = 0.25
_COUNTED = ("octopus_job_", "octopus_jobs_created", "octopus_jobs_completed", "octopus_resource_submitting")
_COUNTER_ENDS = ("_total", "_count", "_sum", "_bucket")
_START = "process_start_time_seconds"
# The exporter publishes seconds as floats.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Account:
    """Where the truth about a target is: its simulator, and since when the exporter counts."""

    simulator: Simulation
    project: str
    project_id: str
    workspace: str
    baseline_ms: int

    def figures(self) -> dict[str, Figures]:
        return lived(self.simulator.account(self.project_id, self.workspace, self.baseline_ms))


@dataclass
class ScrapeWatch:
    """Watches replicas from `start` to `end`. Whatever it finds wrong is in `found`."""

    replicas: list[Replica]
    accounts: list[Account] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    scrapes: int = 0

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=(replica,), name=f"watch {replica.name}")
            for replica in self.replicas
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop. No replica may be frozen: its thread waits for an answer."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _watch(self, replica: Replica) -> None:
        known: dict[str, float] = {}
        before: dict[str, float] = {}
        while not self._ended.wait(_PAUSE_SECONDS):
            answer = replica.try_page("metrics")
            if answer is None or answer.status != 200:
                continue
            self.scrapes += 1
            now = _counters(answer.text)
            self._compare_with_last(replica, known, before, now)
            before = now
            counted = {series: value for series, value in now.items() if series.startswith(_COUNTED)}
            if counted.items() - known.items():
                self._compare_with_accounts(replica, answer.text)
                known |= counted

    def _compare_with_last(
        self, replica: Replica, known: dict[str, float], before: dict[str, float], now: dict[str, float]
    ) -> None:
        """
        Find what went down or vanished since the last scrape of this process.

        What is in the ledger (`known`) does not even go down when another process begins.
        """
        if before.get(_START) == now.get(_START):
            self.found += [
                f"{replica.name}: {series} {value:g} has vanished"
                for series, value in before.items()
                if series not in now
            ]
            known = before | known
        self.found += [
            f"{replica.name}: {series} went down from {known[series]:.10g} to {value:.10g}"
            for series, value in now.items()
            if value < known.get(series, 0.0) - _ROUNDING
        ]

    def _compare_with_accounts(self, replica: Replica, text: str) -> None:
        """Find what is more than the account says, which is asked for after the scrape."""
        by_project = Exposed.of_text(text, _COUNTED).by_project()
        for account in self.accounts:
            exposed = by_project.get(account.project)
            if exposed is None:
                continue
            said = told(exposed, project=account.project, workspace=account.workspace)
            self.found += [
                f"{replica.name}: {account.project}/{account.workspace} {line}"
                for line in _above(said, account.figures())
            ]


def _above(said: Mapping[str, Figures], true: Mapping[str, Figures]) -> list[str]:
    return [
        f"{name}{key}: {value} exported, {true[name].get(key, 0)} in the account"
        for name, figures in said.items()
        if name not in LISTED
        for key, value in figures.items()
        if value > true[name].get(key, 0)
    ]


def _counters(text: str) -> dict[str, float]:
    """Read the counters of an exposition, and when its process began."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        series, _, value = line.rpartition(" ")
        name = series.partition("{")[0]
        if name.endswith(_COUNTER_ENDS) or name == _START:
            found[series] = float(value)
    return found
