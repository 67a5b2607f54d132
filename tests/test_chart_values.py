"""The values of the Helm chart: what is refused, and how the exporter gets its configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.helm.generate import CHART, values
from exporter import __version__
from tests.charts import (
    VALUES,
    container,
    of_kind,
    pod,
    refusal,
    sources,
    the,
)

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
# Values that Kubernetes checks, not the chart.
PASSED_ON = {
    *("podSecurityContext", "securityContext", "livenessProbe", "readinessProbe", "startupProbe", "affinity"),
    *("dnsConfig", "serviceMonitor.tlsConfig", "serviceMonitor.basicAuth"),
    *("resources.limits", "resources.requests"),
}


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
