"""A history that is loaded into a real Prometheus: its queries say what the simulator's account says."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.config import format_duration
from exporter.rules import RULES, generate, load_settings
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.processes import free_port, plain_environment, run
from tests.e2e.prometheus import Prometheus, program, prometheus
from tests.e2e.simulation import PROJECT, Simulation, start_ms

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]

DAY_SECONDS = 86_400
# Days of history; BACKFILL_DAYS=8 shows the whole baseline of the rules, which takes a minute or two.
DAYS = int(os.environ.get("BACKFILL_DAYS", "2"))
JOBS_PER_DAY = 400
STEP_SECONDS = 240
SPIKE = 40
# The rules of spikes, and what they read.
GROUPS = ("octopus", "octopus-baselines", "octopus-hours")
BY_STATUS = ("job_type", "status")
Key = tuple[str, ...]


def test_a_backfill_equals_the_account_and_the_alerts_know_it(tmp_path: Path, simulate: Simulate) -> None:
    jobs = int(JOBS_PER_DAY * (DAYS + 0.5) * 4 / 3)
    simulator = simulate(
        jobs=jobs, jobs_per_day=JOBS_PER_DAY, start_ms=start_ms(-2), speed=1.0, reopening=False
    )
    # Its clock, which was behind, is ours: the days of both are the same.
    simulator.advance(time.time() - simulator.now_ms() / 1000)
    exporter = Exporter(tmp_path / "exporter", simulator.url)
    folder, history = tmp_path / "prometheus", tmp_path / "history"
    settings = load_settings()
    every_second = settings.intervals.model_copy(update=dict.fromkeys(("poll", "scrape", "evaluation"), 1.0))
    document = yaml.safe_load(generate(settings.model_copy(update={"intervals": every_second}))[RULES])
    groups = [group for group in document["groups"] if group["name"] in GROUPS]
    rules = {RULES: yaml.safe_dump({"groups": groups})}
    with exporter.ready():
        with prometheus(folder, exporter.port, rules=rules) as server:
            server.wait_for("count(octopus_up)", 1)
            server.wait_for_value("count(project_job_type_status:octopus_jobs_completed:increase_long)")
            # Without a history, the alerts know nothing of what is usual.
            assert server.query("project:octopus_job_runs:is_known") is None
            seam = server.wait_for_value("min_over_time(timestamp(octopus_up)[1h:1s])")
            began_ms = (int(time.time()) - DAYS * DAY_SECONDS) // STEP_SECONDS * STEP_SECONDS * 1000
            said = backfill(exporter, server.url, history)
            assert "gets a history" not in said
            refused = load(history, folder, LOAD_EARLY="no")
            assert refused.returncode == 1
            assert "still in the memory of Prometheus" in refused.stderr
            loaded = load(history, folder)
            assert loaded.returncode == 0, loaded.stderr
            again = load(history, folder)
            assert (again.returncode, "already loaded" in again.stdout) == (0, True)
        # Prometheus looks for new blocks every minute, and when it starts.
        with prometheus(folder, exporter.port, rules=rules) as server:
            server.wait_for("count(octopus_up)", 1)
            (target,) = exporter.targets()
            check_days(server, simulator, began_ms, target["baseline_ms"])
            check_history(server, simulator, began_ms, target["baseline_ms"], f"@ {seam - 0.001:.3f}")
            check_rules(server)

            simulator.create_jobs(job_type="FRAME_EXTRACT", count=SPIKE, outcome="RUN_FAILED", msg_code=3001)
            simulator.advance(3600)
            server.wait_for_value(
                'max(project_job_type_status:octopus_jobs_completed:spike_leg{leg="short_excess",severity="critical",'
                'job_type="FRAME_EXTRACT",status="RUN_FAILED"})'
            )
            server.wait_for(
                'count(ALERTS{alertname="OctopusRunFailedSpike",severity="critical",alertstate="firing"})', 1
            )
            check_seam(server, simulator, began_ms)
            refused = run(command(exporter, server.url, tmp_path / "again"), tmp_path)
            assert "or it is loaded already" in refused.stdout
            assert not (tmp_path / "again").exists()


def command(exporter: Exporter, url: str, output: Path) -> tuple[str | Path, ...]:
    options = ("--prometheus", url, "--from", f"{DAYS}d")
    return ("backfill", "--config", exporter.write(), "--output", output, *options)


def backfill(exporter: Exporter, url: str, output: Path) -> str:
    done = run(command(exporter, url, output), exporter.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def load(history: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    programs = {
        "PROMTOOL": program("promtool"),
        "PROMETHEUS": program("prometheus"),
        "PORT": str(free_port()),
    }
    return subprocess.run(
        [history / "load.sh", folder / "data"],
        env=plain_environment() | {"LOAD_EARLY": "yes"} | programs | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def flat(nested: Mapping[str, Any], above: Key = ()) -> Counter[Key]:
    """Give the figures of an account by their labels; those that are 0 are left out."""
    figures: Counter[Key] = Counter()
    for name, value in nested.items():
        figures.update(flat(value, (*above, name)) if isinstance(value, Mapping) else {(*above, name): value})
    return +figures


def account(simulator: Simulation, since_ms: int, until_ms: int | None = None) -> dict[str, Counter[Key]]:
    """Give what happened after `since_ms` and up to `until_ms`: a sample has what happened up to its time."""
    found = simulator.account(PROJECT, "0", since_ms + 1, None if until_ms is None else until_ms + 1)
    return {name: flat(figures) for name, figures in found.items() if isinstance(figures, Mapping)}


def check_days(server: Prometheus, simulator: Simulation, began_ms: int, until_ms: int) -> None:
    """Compare increase() with the account, for each whole day."""
    days = list(range(began_ms, until_ms - DAY_SECONDS * 1000, DAY_SECONDS * 1000))
    assert len(days) >= DAYS - 1
    for day_ms in days:
        end_ms = day_ms + DAY_SECONDS * 1000
        wanted = account(simulator, day_ms, end_ms)["ended"]
        assert len(wanted) > 6
        # A second more, since Prometheus 3 leaves out a sample at the very beginning of a range.
        window = f"[{DAY_SECONDS + 1}s] @ {end_ms / 1000:.3f}"
        found = server.by(f"increase(octopus_jobs_completed_total{window}) > 0", *BY_STATUS)
        assert found == pytest.approx(dict(wanted), rel=1e-3)


def check_history(server: Prometheus, simulator: Simulation, began_ms: int, until_ms: int, at: str) -> None:
    """Compare the last samples of all counters with the account of the whole past."""
    wanted = account(simulator, began_ms, until_ms)

    def last(name: str, *labels: str) -> dict[Key, float]:
        return server.by(f"last_over_time({name}[10m] {at}) > 0", *labels)

    assert last("octopus_jobs_created_total", "job_type") == dict(wanted["created"])
    assert last("octopus_jobs_completed_total", *BY_STATUS) == dict(wanted["ended"])
    assert last("octopus_job_failures_total", *BY_STATUS, "msg_code") == dict(wanted["failures"])
    submitting, running = "octopus_job_submitting_duration_seconds", "octopus_job_running_duration_seconds"
    assert last(f"{submitting}_count", "job_type") == dict(wanted["started"])
    assert last(f"{submitting}_sum", "job_type") == approx_seconds(wanted["submitting_ms"], 1000)
    assert last(f"{running}_count", *BY_STATUS) == dict(wanted["ran"])
    assert last(f"{running}_sum", *BY_STATUS) == approx_seconds(wanted["running_ms"], 1000)
    assert last("octopus_job_core_seconds_total", *BY_STATUS) == approx_seconds(wanted["core_us"], 1_000_000)

    rows = simulator.rows()
    waits = [
        (row["start_at"], (row["job_type"],), row["start_at"] - row["create_at"])
        for row in rows
        if row.get("start_at")
    ]
    runs = [
        (row["end_at"], (row["job_type"], row["status"]), row["end_at"] - row["start_at"])
        for row in rows
        if row.get("end_at") and row.get("start_at")
    ]
    for name, labels, moments in ((submitting, ("job_type",), waits), (running, BY_STATUS, runs)):
        found = last(f'{name}_bucket{{le!="+Inf"}}', *labels, "le")
        bounds = {key[-1] for key in found}
        assert found == buckets(bounds, [one for one in moments if began_ms < one[0] <= until_ms])

    at_ms = began_ms + DAY_SECONDS * 1000
    queued = sum(
        row["create_at"] <= at_ms < row.get("start_at", row.get("end_at", at_ms + 1)) for row in rows
    )
    found = server.query(f'sum(octopus_jobs{{status="QUEUING"}} @ {at_ms / 1000:.3f})')
    assert (found or 0) == queued


def approx_seconds(figures: Counter[Key], units: int) -> Any:
    return pytest.approx({key: value / units for key, value in figures.items()})


def buckets(bounds: Iterable[str], moments: Iterable[tuple[int, Key, int]]) -> dict[Key, int]:
    counted: Counter[Key] = Counter()
    for (_, labels, took_ms), bound in itertools.product(moments, sorted(bounds)):
        counted[(*labels, bound)] += took_ms <= float(bound) * 1000
    return dict(+counted)


def check_rules(server: Prometheus) -> None:
    """See that the rules know the past, as if they had been evaluated all the time."""
    server.wait_for_value("project:octopus_job_runs:is_known")
    hours = server.wait_for_value("max(last_over_time(project_job_type:octopus_job_runs:history_hours[2h]))")
    assert min(DAYS * 24, 168) - 3 <= hours <= min(DAYS * 24, 168) + 1
    for record in ("ratio_week", "ratio_day", "hour"):
        name = f"project_job_type_status:octopus_jobs_completed:{record}"
        assert server.query(f'count(last_over_time({name}{{status="RUN_FAILED"}}[2h]))')
    # What the rules took before, without a history, is 0.3.
    share = "project_job_type_status:octopus_jobs_completed:ratio_mean"
    server.wait_for(f'{share}{{job_type="FRAME_EXTRACT",status="RUN_FAILED"}} < bool 0.2', 1)


def check_seam(server: Prometheus, simulator: Simulation, began_ms: int) -> None:
    """Compare a window across the seam with all that happened, in the past and since then."""
    wanted = account(simulator, began_ms)["ended"]
    window = format_duration((DAYS + 1) * DAY_SECONDS)
    ended = "octopus_jobs_completed_total"

    def risen() -> dict[Key, float]:
        found = server.samples_by(f"{ended}[{window}]", *BY_STATUS)
        return {
            key: rise for key, samples in found.items() if (rise := rise_of([value for _, value in samples]))
        }

    assert risen() == dict(wanted)
    found = server.by(f"increase({ended}[{window}]) > 0", *BY_STATUS)
    assert found == pytest.approx(dict(wanted), rel=1e-3)


def rise_of(values: list[float]) -> float:
    """Add up what a counter rises; one that falls has begun again at 0."""
    return sum(
        later - (earlier if later >= earlier else 0) for earlier, later in itertools.pairwise([0, *values])
    )
