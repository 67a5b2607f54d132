"""`check --online` against servers drawn by chance, with several quirks at once: what it says is true."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from exporter.commands.check.display import CheckedTarget
from exporter.commands.check.prober import probe_targets
from exporter.config import load
from exporter.masking import Secrets
from exporter.simulator import Quirks, SimulatorSettings, serve
from exporter.simulator.settings import DEMO_PROJECT

FILTERS = ("workspace_id", "job_types", "statuses", "start_time", "id")
ORDERS = {
    "created-desc": "created, descending",
    "created-asc": "created, ascending",
    "update-desc": "updated, descending",
}
TOTALS: tuple[tuple[Mapping[str, Any], set[str]], ...] = (
    ({}, {"agree"}),
    ({"omit_total": True}, {"missing"}),
    ({"total_of_page": True}, {"of the page", "agree"}),
    ({"total_surplus": 2}, {"too high"}),
    ({"total_fixed": -1}, {"unusable"}),
)


def drawn(seed: int) -> tuple[SimulatorSettings, dict[str, Any], dict[str, set[Any]]]:
    """Draw a server; give its settings, its quirks and what may be said of it beside `unknown`."""
    chance = Random(seed)
    totals, verdicts = chance.choice(TOTALS)
    order = chance.choice(tuple(ORDERS))
    quirks: dict[str, Any] = {**totals, "null_absent": chance.random() < 0.3}
    others = {
        "clamp_limit": chance.choice([5, 20, 100]),
        "max_limit": chance.choice([60, 117, 150]),
        "ignore_filters": tuple(chance.sample(FILTERS, 2)),
        "first_value_only": True,
        "comma_arrays": True,
        "shift": chance.choice(["insert", "delete"]),
    }
    quirks |= {name: value for name, value in others.items() if chance.random() < 0.3}
    settings = SimulatorSettings(
        jobs=chance.choice([8, 120, 300, 2000]), seed=seed, speed=0, order=order, quirks=Quirks(**quirks)
    )
    truth: dict[str, set[Any]] = {f"filters.{name}": filter_truth(name, quirks) for name in FILTERS}
    truth |= {
        "totals.verdict": verdicts,
        "page.longest": longest(settings.jobs, quirks),
        "order": {ORDERS[order]},
    }
    return settings, quirks, truth


def filter_truth(name: str, quirks: Mapping[str, Any]) -> set[Any]:
    """Give what may be said; of an array, of the key repeated for each value."""
    if name in quirks.get("ignore_filters", ()):
        return {"ignored"}
    is_array = name in ("statuses", "job_types")
    takes_one = "first_value_only" in quirks or "comma_arrays" in quirks
    return {"first value only"} if is_array and takes_one else {"works"}


def longest(jobs: int, quirks: Mapping[str, Any]) -> set[int]:
    """Give how long the longest page may be, with the few jobs that come and go meanwhile."""
    limit = min(quirks.get("clamp_limit", 200), quirks.get("max_limit", 200))
    return {limit} if jobs > limit + 20 else set(range(jobs - 20, limit + 1))


@pytest.mark.parametrize("seed", range(24))
async def test_what_is_said_of_a_server_is_true(seed: int, tmp_path: Path) -> None:
    settings, quirks, truth = drawn(seed)
    simulator = await serve(settings)
    try:
        told = await checked(tmp_path, simulator.url)
    finally:
        await simulator.close()
    assert told.probed.error is None
    said = {name: reduce(getattr, name.split("."), told.findings) for name in truth}
    for name in ("statuses", "job_types"):
        said[f"filters.{name}"] = said[f"filters.{name}"].repeated_keys
    said["order"] = next(
        (order for order in said["order"] if order in truth["order"]), said["order"] or "unknown"
    )
    wrong = {name: found for name, found in said.items() if found not in truth[name] | {"unknown"}}
    assert wrong == {}, quirks
    assert told.probed.cost.requests < 60
    assert told.probed.cost.complete


async def checked(folder: Path, api: str) -> CheckedTarget:
    login = {"domain": "octopus-demo", "user": "exporter", "password": "demo-password", "iam_endpoint": api}
    said = {
        "projects": [{"id": DEMO_PROJECT, "endpoint": api, "workspaces": ["0"]}],
        "credentials": {"default": {"type": "password", **login}},
        "poll": {"requests_per_second": 2000},
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(said))
    (one,) = await probe_targets(load(file, {}), Secrets(time.time))
    return CheckedTarget.of(one)
