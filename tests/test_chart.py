"""The Helm chart: what its objects are, for each file of values and with either ledger."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.generate import CHART
from exporter import __version__
from exporter.config import load
from tests.charts import (
    KUBERNETES,
    LIMIT_OF_ANNOTATIONS,
    VALUES,
    chart_tool,
    container,
    helm,
    objects,
    of_kind,
    pod,
    problems,
    size,
    sources,
    text_of,
    the,
)

every = pytest.mark.parametrize("name", VALUES)


@every
def test_helm_finds_nothing_to_say_about_the_chart(name: str) -> None:
    done = helm("lint", "--strict", CHART, "--values", VALUES[name])
    assert (done.returncode, "[WARNING]" in done.stdout) == (0, False), done.stdout


@pytest.mark.parametrize("version", KUBERNETES)
@every
def test_kubernetes_and_the_operator_take_every_object(name: str, version: str) -> None:
    assert [found for one in objects(name) for found in problems(one, version)] == []


@every
def test_pods_are_allowed_where_pod_security_is_restricted(name: str) -> None:
    judged = subprocess.run(
        [chart_tool("pod-security")], input=text_of(name), capture_output=True, text=True, check=False
    )
    assert (judged.returncode, judged.stdout.count("allowed: true")) == (0, 1), judged.stdout


@every
def test_what_belongs_together_finds_itself(name: str) -> None:
    """Selectors, ports, volumes, accounts and names of other objects."""
    found = {(one["kind"], one["metadata"]["name"]): one for one in objects(name)}
    stateful = the("StatefulSet", name)
    spec, labels = stateful["spec"], stateful["spec"]["template"]["metadata"]["labels"]
    selectors = [spec["selector"]["matchLabels"]]
    selectors += [one["spec"]["selector"] for one in of_kind("Service", name)]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in of_kind("PodDisruptionBudget", name)]
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in of_kind("NetworkPolicy", name)]
    assert all(selector.items() <= labels.items() for selector in selectors)
    ports = {port["name"] for port in container(name)["ports"]}
    assert {port["targetPort"] for one in of_kind("Service", name) for port in one["spec"]["ports"]} <= ports
    assert found["Service", spec["serviceName"]]["spec"]["clusterIP"] == "None"
    account = pod(name)["serviceAccountName"]
    assert account == "default" or ("ServiceAccount", account) in found
    volumes = [volume["name"] for volume in pod(name)["volumes"]]
    volumes += [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())]
    assert len(volumes) == len(set(volumes))
    assert {mount["name"] for mount in container(name)["volumeMounts"]} == set(volumes)


@every
def test_each_probe_asks_in_one_way(name: str) -> None:
    probes = [
        container(name).get(f"{kind}Probe", {"exec": {}}) for kind in ("startup", "liveness", "readiness")
    ]
    assert [len({"httpGet", "exec", "tcpSocket", "grpc"} & probe.keys()) for probe in probes] == [1, 1, 1]


@every
def test_kubectl_can_apply_every_object(name: str) -> None:
    assert [one["metadata"]["name"] for one in objects(name) if size(one) > LIMIT_OF_ANNOTATIONS] == []


@every
def test_the_exporter_takes_its_configuration(name: str, tmp_path: Path) -> None:
    secrets = [one for one in of_kind("Secret", name) if "config.yaml" in one["stringData"]]
    assert len(secrets) == (0 if "existing-secret" in name else 1)
    for secret in secrets:
        (tmp_path / "config.yaml").write_text(secret["stringData"]["config.yaml"], encoding="utf-8")
        environ = dict.fromkeys(("OCTOPUS_ACCESS_KEY", "OCTOPUS_SECRET_KEY"), "text")
        config = load(tmp_path / "config.yaml", environ)
        postgresql = "volumeClaimTemplates" not in the("StatefulSet", name)["spec"] and "ledger" not in {
            volume["name"] for volume in pod(name)["volumes"]
        }
        assert config.ledger.url.backend == ("postgresql" if postgresql else "sqlite")


def test_long_names_are_cut() -> None:
    release = "r" * 53
    found = objects("postgresql", "--set", f"nameOverride={'n' * 63}", release=release)
    names = {one["metadata"]["name"] for one in found}
    assert max(len(name) for name in names) <= 63
    (stateful,) = (one for one in found if one["kind"] == "StatefulSet")
    # The label of a pod's revision has 11 characters more.
    assert len(stateful["metadata"]["name"]) == 52


def test_a_release_with_the_charts_name_does_not_say_it_twice() -> None:
    found = objects("sqlite", release="octopus-exporter")
    assert {one["metadata"]["name"] for one in found} == {
        *("octopus-exporter", "octopus-exporter-headless", "octopus-exporter-config")
    }


def test_the_chart_has_the_exporters_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    assert container("sqlite")["image"] == f"octopus-exporter:{__version__}"


# --- the two ledgers


def test_sqlite_is_one_replica_with_a_claim() -> None:
    spec = the("StatefulSet", "sqlite")["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert (spec["replicas"], spec["updateStrategy"]) == (1, {"type": "RollingUpdate"})
    assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}}
    assert mounted("sqlite")["ledger"] == "/var/lib/octopus-exporter"
    assert of_kind("PodDisruptionBudget", "sqlite") == []
    assert "affinity" not in pod("sqlite")


def mounted(name: str) -> dict[str, str]:
    return {mount["name"]: mount["mountPath"] for mount in container(name)["volumeMounts"]}


def test_postgresql_is_two_replicas_without_volumes_on_two_nodes() -> None:
    spec = the("StatefulSet", "postgresql")["spec"]
    assert (spec["replicas"], spec["podManagementPolicy"]) == (2, "Parallel")
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}
    assert "volumeClaimTemplates" not in spec
    assert mounted("postgresql") == {"config": "/etc/octopus-exporter"}
    (term,) = pod("postgresql")["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term["podAffinityTerm"] == {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": spec["selector"],
    }
    assert the("PodDisruptionBudget", "postgresql")["spec"]["maxUnavailable"] == 1


def test_the_ledgers_password_is_a_file_beside_the_configuration(tmp_path: Path) -> None:
    config = yaml.safe_load(the("Secret", "postgresql")["stringData"]["config.yaml"])
    assert config["ledger"] == {
        "url": "postgresql://octopus@postgres.example:5432/octopus"
        "?sslmode=verify-full&sslrootcert=/etc/octopus-exporter/ca.crt",
        "password_file": "ledger-password",
    }
    assert sources("postgresql") == [
        {"name": "octopus-credentials"},
        {"name": "octopus-ledger", "items": [{"key": "password", "path": "ledger-password"}]},
        {
            "name": "octopus-octopus-exporter-config",
            "items": [{"key": "config.yaml", "path": "config.yaml"}],
        },
    ]
    assert sources("existing-secret-postgresql") == [
        {"name": "octopus-exporter"},
        {"name": "octopus-ledger", "items": [{"key": "pgpassword", "path": "ledger-password"}]},
    ]


def test_more_replicas_are_kept_apart_as_one_says() -> None:
    assert the("StatefulSet", "replicas")["spec"]["replicas"] == 3
    (term,) = pod("replicas")["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "topology.kubernetes.io/zone"
    budget = the("PodDisruptionBudget", "replicas")["spec"]
    assert {key: budget.get(key) for key in ("minAvailable", "maxUnavailable")} == {
        "minAvailable": 1,
        "maxUnavailable": None,
    }


def test_one_replica_has_no_disruption_budget() -> None:
    """It would keep its node from being drained."""
    assert of_kind("PodDisruptionBudget", "postgresql", "--set", "replicas=1") == []
    assert "affinity" not in pod("postgresql", "--set", "replicas=1")


def test_an_affinity_of_ones_own_replaces_the_charts() -> None:
    assert pod("pod")["affinity"].keys() == {"nodeAffinity"}
    assert "affinity" not in pod("postgresql", "--set", "podAntiAffinity=")


def test_the_ledger_is_where_the_values_say() -> None:
    def volume(name: str) -> Any:
        return next(one for one in pod(name)["volumes"] if one["name"] == "ledger")

    assert volume("no-persistence") == {"name": "ledger", "emptyDir": {}}
    assert volume("existing-claim")["persistentVolumeClaim"] == {"claimName": "octopus-ledger"}
    spec = the("StatefulSet", "persistence")["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert (claim["spec"]["storageClassName"], claim["spec"]["accessModes"]) == (
        "csi-disk",
        ["ReadWriteOncePod"],
    )
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Delete", "whenScaled": "Retain"}
    static = the("StatefulSet", "sqlite", "--set", "persistence.storageClass=-")["spec"]
    assert static["volumeClaimTemplates"][0]["spec"]["storageClassName"] == ""


# --- the rest


def allowed(rule: Any) -> list[tuple[Any, str]]:
    return [(port["port"], port["protocol"]) for port in rule["ports"]]


def test_pods_reach_dns_and_the_api_and_those_with_postgresql_its_port() -> None:
    policy = the("NetworkPolicy", "network-policy")["spec"]
    dns, api, agency = policy["egress"]
    assert allowed(dns) == [(53, "UDP"), (53, "TCP")]
    assert dns["to"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    ]
    assert (allowed(api), api["to"]) == ([(443, "TCP")], [{"ipBlock": {"cidr": "100.125.0.0/16"}}])
    assert allowed(agency) == [(80, "TCP")]
    scrape, proxy = policy["ingress"]
    assert allowed(scrape) == [("http", "TCP")]
    assert scrape["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]
    assert proxy["from"] == [{"podSelector": {"matchLabels": {"app": "proxy"}}}]
    *_, ledger = the("NetworkPolicy", "network-policy-postgresql")["spec"]["egress"]
    assert (allowed(ledger), ledger["to"]) == ([(5433, "TCP")], [{"ipBlock": {"cidr": "10.0.0.12/32"}}])


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("postgresql://octopus@postgres.example/octopus", [5432]),
        ("postgresql://postgres.example:6432", [6432]),
        (
            "postgresql://a:1@one:5433\\,two:5434\\,three:5433/octopus?target_session_attrs=read-write",
            [5433, 5434],
        ),
        ("postgresql://octopus@[2001:db8::1]:5435/octopus", [5435]),
        ("postgresql://octopus@[2001:db8::1]/octopus", [5432]),
    ],
)
def test_pods_reach_the_ports_in_the_url(url: str, ports: list[int]) -> None:
    given = ("--set", f"ledger.postgresql.url={url}")
    *_, ledger = the("NetworkPolicy", "network-policy-postgresql", *given)["spec"]["egress"]
    assert allowed(ledger) == [(port, "TCP") for port in ports]


def test_the_service_and_the_ingress_are_as_the_values_say() -> None:
    service = next(one for one in of_kind("Service", "service-ingress") if one["spec"].get("type"))
    assert (service["spec"]["type"], service["spec"]["ipFamilies"]) == ("LoadBalancer", ["IPv6", "IPv4"])
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"], port["nodePort"]) == (80, "http", 30877)
    (rule,) = the("Ingress", "service-ingress")["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": service["metadata"]["name"], "port": {"name": "http"}}


def test_the_pods_account_has_no_token_unless_one_says_so() -> None:
    assert pod("sqlite")["automountServiceAccountToken"] is False
    assert the("ServiceAccount", "sqlite")["automountServiceAccountToken"] is False
    assert pod("service-account")["automountServiceAccountToken"] is True
    assert pod("no-service-account")["serviceAccountName"] == "default"


def test_the_namespace_can_be_another_one() -> None:
    assert {one["metadata"]["namespace"] for one in objects("service-account")} == {"octopus"}
    moved = objects("monitoring", "--set", "namespaceOverride=other")
    assert {one["metadata"]["namespace"] for one in moved} == {"other", "monitoring"}


def test_labels_of_all_objects_are_on_all_of_them() -> None:
    labelled = objects(
        "pod", "--set", "prometheusRule.enabled=true,serviceMonitor.enabled=true,dashboards.enabled=true"
    )
    assert {one["metadata"]["labels"]["team"] for one in labelled} == {"perception"}
    assert the("StatefulSet", "pod")["spec"]["template"]["metadata"]["labels"]["team"] == "perception"


def test_templates_in_further_manifests_are_replaced() -> None:
    mapping, text = of_kind("ConfigMap", "extra-manifests")
    assert (mapping["metadata"]["name"], mapping["data"]) == (
        "octopus-mapping",
        {"chart": "octopus-exporter"},
    )
    assert (text["metadata"]["name"], text["data"]) == (
        "octopus-octopus-exporter-text",
        {"release": "octopus"},
    )
    assert text["metadata"]["labels"]["app.kubernetes.io/instance"] == "octopus"


@pytest.mark.parametrize("name", ["postgresql", "no-persistence", "monitoring"])
def test_the_notes_say_what_to_do_next(name: str) -> None:
    done = helm("install", "octopus", CHART, "--values", VALUES[name], "--dry-run=client")
    _, _, notes = done.stdout.partition("\nNOTES:\n")
    assert "rollout status statefulset/octopus-octopus-exporter" in notes
    assert ("with 2 replica(s)" in notes) == (name == "postgresql")
    assert ("WARNING: persistence is off" in notes) == (name == "no-persistence")
    assert ("Nothing scrapes it yet" in notes) == (name != "monitoring")
