"""The Helm chart: what it renders for each file of values, what it refuses, and what is made from it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.helm.generate import CHART, MANIFESTS, made, manifests, values
from exporter import __version__
from exporter.config import load
from exporter.rules import RULES, load_settings
from release.distributions import pack_chart
from tests.charts import (
    KUBERNETES,
    LIMIT_OF_ANNOTATIONS,
    LIMIT_OF_RULES,
    NAMESPACE,
    VALUES,
    Object,
    chart_tool,
    container,
    helm,
    objects,
    of_kind,
    parsed,
    pod,
    problems,
    refusal,
    size,
    text_of,
    the,
)
from tests.e2e.prometheus import program
from tests.test_readme import blocks

ROOT = Path(__file__).parent.parent
DASHBOARDS = ROOT / "grafana" / "dashboards"
FOLDERS = sorted(folder for folder in MANIFESTS.iterdir() if folder.is_dir())

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
# Values that Kubernetes checks, not the chart.
PASSED_ON = {
    *("podSecurityContext", "securityContext", "livenessProbe", "readinessProbe", "startupProbe", "affinity"),
    *("dnsConfig", "serviceMonitor.tlsConfig", "serviceMonitor.basicAuth"),
    *("resources.limits", "resources.requests"),
}

every = pytest.mark.parametrize("name", VALUES)
manifest_folders = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


# --- what every rendering keeps


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


def sources(name: str) -> list[Any]:
    (volume,) = (one for one in pod(name)["volumes"] if one["name"] == "config")
    # The group of the pod reads it, and nobody else.
    assert volume["projected"]["defaultMode"] == 0o440
    return [source["secret"] for source in volume["projected"]["sources"]]


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


# --- what is refused


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("sqlite", ["replicas=2"], "at '/replicas': maximum: got 2, want 1"),
        ("", ["existingSecret=a,replicas=2"], "at '/replicas': maximum: got 2, want 1"),
        ("sqlite", ["replicaCount=1"], "additional properties 'replicaCount' not allowed"),
        ("sqlite", ["image.name=a"], "at '/image': additional properties 'name' not allowed"),
        ("sqlite", ["ledger.type=mysql"], "at '/ledger/type': value must be one of 'sqlite', 'postgresql'"),
        ("sqlite", ["serviceMonitor.interval=often"], "at '/serviceMonitor/interval'"),
        ("sqlite", ["persistence.size=big"], "at '/persistence/size'"),
        ("sqlite", ["existingSecret=Not_A_Name"], "at '/existingSecret'"),
        ("", [], "config: missing, expected the exporter's configuration, or in existingSecret"),
        ("", ["config=a: [b"], "config: is not a YAML mapping"),
        (
            "sqlite",
            ["config.ledger.url=postgresql://a/b"],
            "config.ledger.url: found PostgreSQL with ledger.type",
        ),
        ("sqlite", ["ledger.type=postgresql"], "ledger.postgresql.url: missing, expected a URL such as"),
        (
            "postgresql",
            ["config.ledger.url=sqlite://"],
            "config.ledger.url: found beside ledger.postgresql.url",
        ),
        ("postgresql", ["ledger.postgresql.url=mysql://a"], "at '/ledger/postgresql/url'"),
    ],
)
def test_values_that_cannot_work_are_refused(name: str, arguments: list[str], problem: str) -> None:
    given = chain.from_iterable(("--set", argument) for argument in arguments)
    assert problem in refusal(name, *given)


def sections(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give the schema of each value, with its path."""
    for key, one in schema.get("properties", {}).items():
        yield (*path, key), one
        yield from sections(one, (*path, key))


def test_the_schema_refuses_unknown_keys_everywhere() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].startswith("http://json-schema.org/draft-07/")
    assert SCHEMA["additionalProperties"] is False
    # Helm gives the globals of all charts to each of them.
    passed_on = {*PASSED_ON, "global"}
    loose = {
        ".".join(path)
        for path, one in sections(SCHEMA)
        if one.get("type") == "object" and one.get("additionalProperties") is not False
    }
    assert loose == passed_on


def test_the_schema_has_every_value_and_no_other() -> None:
    """But for those that may be left out: they are in no default."""
    optional = {
        *("persistence.retentionPolicy.whenDeleted", "persistence.retentionPolicy.whenScaled"),
        *("resources.limits", "resources.requests", "resources.claims"),
        *("podDisruptionBudget.minAvailable", "podDisruptionBudget.unhealthyPodEvictionPolicy"),
    }
    assert {".".join(path) for path, _ in sections(SCHEMA)} - optional == set(keys(DEFAULTS))
    jsonschema.Draft7Validator(SCHEMA).validate(DEFAULTS)


def keys(tree: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[str]:
    for key, value in tree.items():
        path = ".".join((*above, key))
        yield path
        if isinstance(value, dict) and path not in PASSED_ON and path != "dashboards.labels":
            yield from keys(value, (*above, key))


def test_every_value_is_described() -> None:
    described = {
        ".".join(value.path) for value in values((CHART / "values.yaml").read_text(encoding="utf-8"))
    }
    bare = {
        path
        for path in keys(DEFAULTS)
        if not any(
            path == one or path.startswith(f"{one}.") or one.startswith(f"{path}.") for one in described
        )
    }
    assert bare == set()


# --- the configuration


def test_another_configuration_restarts_the_pods_and_nothing_else_does() -> None:
    def template(*arguments: str) -> Any:
        return the("StatefulSet", "sqlite", *arguments)["spec"]["template"]

    first = template()
    changed = template("--set", "config.poll.interval=1m")
    assert changed["metadata"]["annotations"] != first["metadata"]["annotations"]
    assert (changed["metadata"]["labels"], changed["spec"]) == (first["metadata"]["labels"], first["spec"])
    assert template("--set", "service.port=80,serviceMonitor.enabled=true") == first
    assert not any("version" in label or "chart" in label for label in first["metadata"]["labels"])


def test_the_configuration_may_be_a_text() -> None:
    config = yaml.safe_load(the("Secret", "config-text")["stringData"]["config.yaml"])
    assert config == yaml.safe_load(
        yaml.safe_load(VALUES["config-text"].read_text(encoding="utf-8"))["config"]
    )
    assert config["metrics"]["running_buckets"][1] == 172_800


def test_a_secret_of_ones_own_has_the_configuration() -> None:
    assert of_kind("Secret", "existing-secret") == []
    assert sources("existing-secret") == [{"name": "octopus-exporter"}]
    assert (
        "checksum/config"
        not in the("StatefulSet", "existing-secret")["spec"]["template"]["metadata"]["annotations"]
    )


def test_arguments_and_environment_are_given_to_the_exporter() -> None:
    only = container("pod")
    assert only["args"] == [
        *("run", "--config=/etc/octopus-exporter/config.yaml", "--web.listen-address=:10877"),
        "--log.format=json",
    ]
    assert only["env"] == [
        {"name": "OCTOPUS_EXPORTER_PORT", "value": "10877"},
        {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"},
    ]
    assert container("web-config")["args"][2] == "--web.listen-address=:8443"
    assert container("config-text")["envFrom"] == [{"secretRef": {"name": "octopus-keys"}}]


@pytest.mark.parametrize(
    ("arguments", "image"),
    [
        ("image.registry=swr.example", f"swr.example/octopus-exporter:{__version__}"),
        ("image.registry=swr.example/,image.tag=2.0.0-arm", "swr.example/octopus-exporter:2.0.0-arm"),
        ("image.registry=one,global.imageRegistry=two", f"two/octopus-exporter:{__version__}"),
        ("image.tag=1,image.digest=sha256:" + "0" * 64, "octopus-exporter@sha256:" + "0" * 64),
    ],
)
def test_the_image_is_where_the_values_say(arguments: str, image: str) -> None:
    assert container("sqlite", "--set-string", arguments)["image"] == image


def test_secrets_to_pull_with_may_be_names_or_mappings() -> None:
    assert pod("image")["imagePullSecrets"] == [{"name": "swr"}, {"name": "default-secret"}]


# --- what reads the exporter


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


# --- what is made from it


def test_the_package_of_a_release_renders_as_the_chart_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules and dashboards are links in the chart, and files in its package."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    monkeypatch.chdir(ROOT)
    package = pack_chart(tmp_path)
    assert package is not None
    done = helm("template", "octopus", package, "--namespace", NAMESPACE, "--values", VALUES["monitoring"])
    assert (done.returncode, done.stdout) == (0, text_of("monitoring")), done.stderr


def test_the_readme_and_the_schema_are_made_from_the_values() -> None:
    """If not: make chart"""
    assert [file.name for file, text in made(None) if file.read_text(encoding="utf-8") != text] == []


def test_the_plain_manifests_are_made_from_the_chart() -> None:
    """If not: make chart"""
    rendered = dict(manifests(chart_tool("helm")))
    assert [file for file, text in rendered.items() if file.read_text(encoding="utf-8") != text] == []
    own = {"kustomization.yaml", "config.yaml"}
    there = {file for folder in FOLDERS for file in folder.iterdir() if file.name not in own}
    assert there == rendered.keys()


def manifests_of(folder: Path) -> list[Object]:
    names = kustomization(folder)["resources"]
    return [one for name in names for one in parsed((folder / name).read_text(encoding="utf-8"))]


def kustomization(folder: Path) -> Any:
    return yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))


def test_the_examples_of_the_documentation_work(tmp_path: Path) -> None:
    page = ROOT / "docs" / "kubernetes.md"
    sqlite, postgresql, scrape, job = (yaml.safe_load(block) for block in blocks(page, "yaml"))
    assert problems(job) == []
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert f"--to={postgresql['ledger']['postgresql']['url']}" in arguments
    # Debian's promtool knows no Kubernetes.
    discovery = scrape["scrape_configs"][0].pop("kubernetes_sd_configs")
    assert discovery == [{"role": "pod", "namespaces": {"names": ["octopus"]}}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(scrape))
    checked = [program("promtool"), "check", "config", tmp_path / "prometheus.yml"]
    assert subprocess.run(checked, capture_output=True, check=False).returncode == 0
    files = []
    for number, example in enumerate((sqlite, postgresql)):
        files += ["--values", tmp_path / f"{number}.yaml"]
        files[-1].write_text(yaml.safe_dump(example))
        done = helm("template", "octopus", CHART, *files)
        assert done.returncode == 0, done.stderr
    claims = job["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
    stateful = the("StatefulSet", "sqlite")
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    assert claims == f"{claim['metadata']['name']}-{stateful['metadata']['name']}-0"


@manifest_folders
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_the_plain_manifests(folder: Path, version: str) -> None:
    assert [found for one in manifests_of(folder) for found in problems(one, version)] == []


@manifest_folders
def test_a_kustomization_has_all_that_its_pods_name(folder: Path, tmp_path: Path) -> None:
    one = kustomization(folder)
    assert {*one["resources"], "servicemonitor.yaml"} == {
        file.name for file in folder.iterdir() if file.name not in {"kustomization.yaml", "config.yaml"}
    }
    (stateful,) = (found for found in manifests_of(folder) if found["kind"] == "StatefulSet")
    template = stateful["spec"]["template"]["spec"]
    (volume,) = template["volumes"]
    (generated,) = one["secretGenerator"]
    assert generated["files"] == ["config.yaml"]
    assert volume["projected"]["sources"][0] == {"secret": {"name": generated["name"]}}
    assert template["containers"][0]["image"].split(":")[0] == one["images"][0]["name"]
    shutil.copy(folder / "config.yaml", tmp_path)
    environ = {f"OCTOPUS_{key}": "text" for key in ("DOMAIN", "USER", "PASSWORD")}
    assert load(tmp_path / "config.yaml", environ).ledger.url.backend == folder.name
