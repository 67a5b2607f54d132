"""A rolling restart as Kubernetes makes it: `instance` is the pod's name, and increase() stays exact."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.processes import Program, free_port
from tests.e2e.prometheus import SCRAPE_SECONDS, Prometheus, prometheus
from tests.e2e.simulation import PROJECT, Simulation
from tests.e2e.waiting import until
from tests.postgres import PostgresDatabase

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]

MANIFESTS = Path(__file__).parents[2] / "deploy" / "kubernetes"
FAILED = 'octopus_jobs_completed_total{job_type="FRAME_EXTRACT",status="RUN_FAILED"}'
# The rules and the dashboards take it so.
INCREASE = "max by (project, workspace, job_type, status) (increase({}[5m]))"
RUNS = 40


class Pod:
    """An exporter with the name of a pod of a StatefulSet. Each start has another address."""

    def __init__(self, name: str, exporter: Exporter) -> None:
        self.name = name
        self.exporter = exporter
        self._program: Program | None = None
        self._running: Any = None

    def start(self) -> None:
        self.exporter.port = free_port()
        self.exporter.change(web={"listen": [f"127.0.0.1:{self.exporter.port}"]})
        self._running = self.exporter.ready()
        self._program = self._running.__enter__()

    def stop(self) -> None:
        """End it as the kubelet does."""
        assert self._program is not None
        assert self._program.stop()[0] == 0
        self._running.__exit__(None, None, None)
        self._running = None

    def is_running(self) -> bool:
        return self._running is not None


class Cluster:
    """Pods, and a Prometheus that finds them as the ServiceMonitor of the chart says."""

    def __init__(self, folder: Path, pods: list[Pod]) -> None:
        self.pods = pods
        self._targets = folder / "targets.json"
        self.announce()

    def announce(self) -> None:
        """Tell Prometheus the pods that run."""
        found = [
            {
                "targets": [f"127.0.0.1:{pod.exporter.port}"],
                "labels": {"__meta_kubernetes_pod_name": pod.name, "endpoint": "http"},
            }
            for pod in self.pods
            if pod.is_running()
        ]
        written = self._targets.with_suffix(".new")
        written.write_text(json.dumps(found))
        written.replace(self._targets)

    def scraping(self) -> dict[str, Any]:
        """Give the scrape configuration that the Prometheus Operator makes of the ServiceMonitor."""
        text = (MANIFESTS / "postgresql" / "servicemonitor.yaml").read_text(encoding="utf-8")
        (endpoint,) = yaml.safe_load(text)["spec"]["endpoints"]
        names = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
        return {
            "static_configs": [],
            "file_sd_configs": [{"files": [str(self._targets)]}],
            "relabel_configs": [
                {names.get(key, key): value for key, value in one.items()} for one in endpoint["relabelings"]
            ],
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        try:
            for pod in self.pods:
                pod.start()
            self.announce()
            yield
        finally:
            for pod in self.pods:
                if pod.is_running():
                    pod.stop()


def fail_runs(simulator: Simulation, times: int) -> None:
    """Let runs fail, and other jobs go on."""
    simulator.create_jobs(job_type="FRAME_EXTRACT", count=RUNS * times, outcome="RUN_FAILED", msg_code=3001)
    simulator.advance(3600)


def failed(simulator: Simulation, pod: Pod) -> int:
    """Give the failed runs by the simulator's own account."""
    (target,) = pod.exporter.targets()
    return int(simulator.account(PROJECT, "0", target["baseline_ms"])["ended"]["FRAME_EXTRACT"]["RUN_FAILED"])


def assert_shown(server: Prometheus, pods: list[Pod], wanted: int) -> None:
    """Every running pod shows the truth, under its name and the job of the rules."""
    running = sum(pod.is_running() for pod in pods)

    def shown() -> bool:
        found = server.by(f"{FAILED} and on (instance) up == 1", "instance", "job")
        names = {(pod.name, "octopus") for pod in pods if pod.is_running()}
        return {key for key, value in found.items() if value == wanted} >= names and len(names) == running

    until(shown, f"{wanted} from {running} pods")


def assert_exact(server: Prometheus, wanted: int) -> None:
    """
    Hold the increase over all restarts to the count.

    No instance ever showed less than before, or more than the truth; so none was counted twice. What
    increase() adds by stretching is less than two scrapes' share of the time.
    """
    found = server.samples_by(f"{FAILED}[5m]", "instance").values()
    for samples in found:
        values = [value for _, value in samples]
        assert values == sorted(values)
        assert (values[0], values[-1]) == (0, wanted)
    increase = server.query(INCREASE.format(FAILED))
    assert increase is not None
    shortest = min(samples[-1][0] - samples[0][0] for samples in found)
    assert wanted - 1e-6 <= increase <= wanted * (1 + 4 * SCRAPE_SECONDS / shortest)


def roll(cluster: Cluster, server: Prometheus, simulator: Simulation) -> int:
    """Replace the pods one by one, the last one first, while runs end; return how many failed."""
    wanted = 0
    for times, pod in enumerate(reversed(cluster.pods), 1):
        pod.stop()
        cluster.announce()
        fail_runs(simulator, times)
        others = [one for one in cluster.pods if one.is_running()]
        if others:
            wanted = failed(simulator, others[0])
            assert_shown(server, cluster.pods, wanted)
        pod.start()
        cluster.announce()
        wanted = failed(simulator, pod)
        assert_shown(server, cluster.pods, wanted)
    return wanted


def test_a_replica_with_a_volume_counts_on_under_its_name(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate(jobs_per_day=0)
    cluster = Cluster(tmp_path, [Pod("octopus-0", Exporter(tmp_path / "pod", simulator.url))])
    assert_rolls(tmp_path, cluster, simulator)


def test_replicas_on_postgresql_are_replaced_one_by_one_and_nothing_is_missed(
    tmp_path: Path, simulate: Simulate, database: PostgresDatabase
) -> None:
    simulator = simulate(jobs_per_day=0)
    pods = [Pod(f"octopus-{n}", Exporter(tmp_path / f"pod-{n}", simulator.url)) for n in range(2)]
    for pod in pods:
        pod.exporter.change(ledger={"url": database.url, "lease": "5s"})
    assert_rolls(tmp_path, Cluster(tmp_path, pods), simulator)


def assert_rolls(folder: Path, cluster: Cluster, simulator: Simulation) -> None:
    with prometheus(folder / "prometheus", 0, **cluster.scraping()) as server, cluster.running():
        assert_shown(server, cluster.pods, 0)
        fail_runs(simulator, 1)
        wanted = failed(simulator, cluster.pods[0])
        assert wanted >= RUNS
        assert_shown(server, cluster.pods, wanted)
        wanted = roll(cluster, server, simulator)
        assert wanted >= RUNS * 2
        assert_exact(server, wanted)
