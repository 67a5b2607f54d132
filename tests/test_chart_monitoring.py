"""What the Helm chart gives to Prometheus and Grafana."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import yaml

from exporter.rules import RULES, load_settings
from tests.charts import (
    LIMIT_OF_RULES,
    NAMESPACE,
    of_kind,
    the,
)
from tests.e2e.prometheus import program

ROOT = Path(__file__).parent.parent
DASHBOARDS = ROOT / "grafana" / "dashboards"


def test_instance_is_the_name_of_the_pod() -> None:
    monitor = the("ServiceMonitor", "monitoring")
    (endpoint,) = monitor["spec"]["endpoints"]
    instance, job, drop, mine = endpoint["relabelings"]
    assert instance == {
        "action": "replace",
        "sourceLabels": ["__meta_kubernetes_pod_name"],
        "targetLabel": "instance",
    }
    assert job == {"action": "replace", "targetLabel": "job", "replacement": load_settings().job}
    assert drop == {"action": "labeldrop", "regex": "endpoint"}
    assert mine["targetLabel"] == "cluster"
    assert monitor["metadata"]["namespace"] == "monitoring"
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": [NAMESPACE]}


def test_each_pod_is_scraped_once() -> None:
    selector = the("ServiceMonitor", "monitoring")["spec"]["selector"]["matchLabels"]
    services = of_kind("Service", "monitoring")
    (chosen,) = (one for one in services if selector.items() <= one["metadata"]["labels"].items())
    assert len(services) == 2
    assert chosen["spec"]["ports"][0]["name"] == "http"


def test_the_rules_are_the_bundled_ones() -> None:
    bundled = yaml.safe_load((ROOT / "prometheus" / "rules" / RULES).read_text(encoding="utf-8"))["groups"]
    rule = the("PrometheusRule", "monitoring")
    assert rule["spec"]["groups"][:-1] == bundled
    assert rule["spec"]["groups"][-1]["name"] == "mine"
    assert rule["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_the_operator_takes_the_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(json.dumps(the("PrometheusRule", "monitoring")["spec"]))
    assert (tmp_path / "rules.yml").stat().st_size < LIMIT_OF_RULES
    done = subprocess.run(
        [program("promtool"), "check", "rules", tmp_path / "rules.yml"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_rules_of_ones_own_replace_them() -> None:
    (group,) = the("PrometheusRule", "rules-of-ones-own")["spec"]["groups"]
    assert [rule["alert"] for rule in group["rules"]] == ["OctopusExporterDown"]
    assert group["rules"][0]["annotations"]["summary"] == "{{ $labels.job }}"


def test_dashboards_are_config_maps_that_grafanas_sidecar_finds() -> None:
    maps = of_kind("ConfigMap", "monitoring")
    texts = {name: text for one in maps for name, text in one["data"].items()}
    assert {one["metadata"]["labels"]["grafana_dashboard"] for one in maps} == {"1"}
    assert {one["metadata"]["namespace"] for one in maps} == {"monitoring"}
    assert texts.keys() == {file.name for file in DASHBOARDS.glob("*.json")}
    for name, text in texts.items():
        shipped = (DASHBOARDS / name).read_text(encoding="utf-8")
        assert json.loads(text) == json.loads(
            shipped.replace("http://localhost:10877", "https://octopus-exporter.example")
        )
    assert {next(iter(one["data"])) for one in of_kind("ConfigMap", "rules-of-ones-own")} == {
        file.name for file in DASHBOARDS.glob("*-zh.json")
    }
