"""The main comparison of the end-to-end tests: the exporter's numbers and the simulator's own account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any
from urllib.parse import urlencode

from tests.e2e.exporting import Exporter
from tests.e2e.exposed import Exposed, Figures, told, without_zeros
from tests.e2e.simulation import Simulation

OF_RESOURCES = ("core_us", "gpu_us", "memory_gib_us", "spec_started", "spec_submitting_ms", "reruns")


def assert_agreement(
    exporter: Exporter,
    exposed: Exposed,
    simulator: Simulation,
    project: str = "",
    upgraded_ms: int | None = None,
) -> None:
    """
    Compare an exposition with the account of every target (of one project) since its baseline, exactly.

    The clock must stand still, and the last two polls must have begun after it stopped: the first poll sees
    everything, the second shows the new series of the first (contract, rule 2).

    The baseline is exact: the simulator's time of the first answer of the first sync, cut to the second. From
    then on the exporter and the account both count created jobs, started runs and ended runs by the times in
    their rows. For a job in flight at the baseline only later events count. If a version that
    had no families of resources was replaced at `upgraded_ms`, they began at 0 then.
    """
    for target in exporter.targets():
        if project not in ("", target["project"]):
            continue
        baseline_ms = target["baseline_ms"]
        account = simulator.account(target["project_id"], target["workspace"], baseline_ms)
        said = told(exposed, project=target["project"], workspace=target["workspace"])
        true = lived(account)
        if upgraded_ms is not None:
            before = lived(
                simulator.account(target["project_id"], target["workspace"], baseline_ms, upgraded_ms)
            )
            for name in OF_RESOURCES:
                true[name] = {key: value - before[name].get(key, 0) for key, value in true[name].items()}
        found = differences(said, true)
        assert found == [], f"{target['project']}/{target['workspace']} since {baseline_ms}: {found}"


def assert_failures_kept(exporter: Exporter, simulator: Simulation) -> None:
    """
    Compare the single failed runs of every target with its account since its baseline: each is kept once.

    All must have ended within 24 hours, and there must be fewer than the ledger keeps.
    """
    for target in exporter.targets():
        account = simulator.account(target["project_id"], target["workspace"], target["baseline_ms"])
        runs = failed_runs(exporter, project=target["project"], workspace=target["workspace"])
        kept = Counter((run["job_type"], run["status"], run["msg_code"]) for run in runs)
        assert dict(kept) == lived(account)["failures"]
        assert len({(run["job_id"], run["number"]) for run in runs}) == len(runs)


def failed_runs(exporter: Exporter, **filters: str) -> list[dict[str, Any]]:
    """Read all pages of the single failed runs that match the filter."""
    runs: list[dict[str, Any]] = []
    query = {"limit": "97", **filters}
    while True:
        answer = exporter.page(f"api/v1/failures?{urlencode(query)}")
        assert answer.status == 200, answer.text
        runs += answer.json["failures"]
        if answer.json["next"] is None:
            return runs
        query["next"] = answer.json["next"]


def counted_from(baseline_ms: int, newest_ms: int, quirks: Collection[str]) -> tuple[int, ...]:
    """
    Give since when an exporter counts by the rows of a server whose time stood still during the first sync.

    All until `newest_ms` had happened before the first sync, and the baseline was after that. Later it may be
    shown as earlier, as our clock has it; nothing has happened in between. Where the server tells a wrong
    time, only the newest row shows what time it is, and it is history or not: two answers are right.
    """
    is_wrong = any(name.startswith("clock_") for name in quirks)
    since_ms = max(baseline_ms, newest_ms + 1)
    return (since_ms, newest_ms) if is_wrong else (since_ms,)


def lived(account: dict[str, Any]) -> dict[str, Figures]:
    """Return a target's account as numbers by label values."""
    return {
        name: without_zeros(_flat(figures))
        for name, figures in account.items()
        if name not in ("project", "workspace", "odd")
    }


def differences(said: dict[str, Figures], true: dict[str, Figures]) -> list[str]:
    """Return a line for every series that differs."""
    return [
        f"{name}{{{', '.join(key)}}}: expected {figures.get(key, 0)}, exported {said[name].get(key, 0)}"
        for name, figures in true.items()
        for key in sorted(figures.keys() | said[name].keys())
        if figures.get(key, 0) != said[name].get(key, 0)
    ]


def _flat(nested: dict[str, Any], path: tuple[str, ...] = ()) -> Figures:
    flat: Figures = {}
    for name, value in nested.items():
        key = (*path, name)
        flat.update(_flat(value, key) if isinstance(value, dict) else {key: value})
    return flat
