"""The comparison this folder is about: what the exporter says against the simulator's own account."""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import urlencode

from tests.e2e.exporting import Exporter
from tests.e2e.exposed import Exposed, Figures, told, without_zeros
from tests.e2e.simulation import Simulation


def assert_agreement(exporter: Exporter, exposed: Exposed, simulator: Simulation, project: str = "") -> None:
    """
    Hold an exposition to the account of every target (of one project) since its baseline, number by number.

    The clock must stand still, and the last two polls must have begun after it stopped: the first to see
    everything, the second to show series that the first brought to the world (contract, rule 2).

    Nothing at the baseline is left to judgement. The baseline is the simulator's time of the first sync's
    first answer, cut to the second; from then on the exporter counts jobs created, runs started and runs
    ended by the times their rows show, and so does the account. A job in flight at the baseline counts for
    what it does afterwards only.
    """
    for target in exporter.targets():
        if project not in ("", target["project"]):
            continue
        baseline_ms = target["baseline_ms"]
        account = simulator.account(target["project_id"], target["workspace"], baseline_ms)
        said = told(exposed, project=target["project"], workspace=target["workspace"])
        found = differences(said, lived(account))
        assert found == [], f"{target['project']}/{target['workspace']} since {baseline_ms}: {found}"


def assert_failures_kept(exporter: Exporter, simulator: Simulation) -> None:
    """
    Hold the single failed runs of every target to its account since its baseline: each is kept, and once.

    All of them must have ended within 24 hours, and be fewer than are kept.
    """
    for target in exporter.targets():
        account = simulator.account(target["project_id"], target["workspace"], target["baseline_ms"])
        runs = failed_runs(exporter, project=target["project"], workspace=target["workspace"])
        kept = Counter((run["job_type"], run["status"], run["msg_code"]) for run in runs)
        assert dict(kept) == lived(account)["failures"]
        assert len({(run["job_id"], run["number"]) for run in runs}) == len(runs)


def failed_runs(exporter: Exporter, **filters: str) -> list[dict[str, Any]]:
    """Read all pages of the single failed runs that fit."""
    runs: list[dict[str, Any]] = []
    query = {"limit": "97", **filters}
    while True:
        answer = exporter.page(f"api/v1/failures?{urlencode(query)}")
        assert answer.status == 200, answer.text
        runs += answer.json["failures"]
        if answer.json["next"] is None:
            return runs
        query["next"] = answer.json["next"]


def counted_from(baseline_ms: int, newest_ms: int) -> int:
    """
    Give since when an exporter counts by the rows of a server whose time stood still during the first sync.

    Rows that are ahead of both clocks have moved the baseline to the newest of them. It is shown as our clock
    has it once that is known not to have come yet; nothing has happened in between.
    """
    return max(baseline_ms, newest_ms)


def lived(account: dict[str, Any]) -> dict[str, Figures]:
    """Give a target's account as figures by label values."""
    return {
        name: without_zeros(_flat(figures))
        for name, figures in account.items()
        if name not in ("project", "workspace", "odd")
    }


def differences(said: dict[str, Figures], true: dict[str, Figures]) -> list[str]:
    """Give a line for every series that differs."""
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
