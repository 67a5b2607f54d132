"""The Helm chart as tests see it: rendered by helm, and checked as Kubernetes and the operator check it."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from deploy.helm.generate import CHART
from tests.e2e.prometheus import program

VALUES = {file.stem.removesuffix("-values"): file for file in sorted((CHART / "ci").glob("*-values.yaml"))}
# The oldest and the newest version of Kubernetes that the chart is checked with.
KUBERNETES = ("1.28", "1.37")
# `kubectl apply` keeps an object's JSON in an annotation, and refuses more than this in all of them.
LIMIT_OF_ANNOTATIONS = 262_144
# The Prometheus Operator puts the rules into ConfigMaps, and refuses an object with more.
LIMIT_OF_RULES = 512 * 1024
OPERATOR = "monitoring.coreos.com/v1"
NAMESPACE = "octopus"

Object = Mapping[str, Any]


def chart_tool(name: str) -> str:
    """Give the path of helm or pod-security. CI names in CHART_WITHOUT what it cannot have."""
    if name in os.environ.get("CHART_WITHOUT", "").split():
        pytest.skip(f"{name} cannot be built here")
    found = program(name)
    if name == "helm" and not _version(found).startswith("v4."):
        pytest.skip(f"helm 4 is needed, {found} is {_version(found)}")
    return found


@functools.cache
def _version(helm: str) -> str:
    command = [helm, "version", "--template={{.Version}}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [chart_tool("helm"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@functools.cache
def text_of(name: str, *arguments: str, release: str = "octopus") -> str:
    """Render the chart with the values ci/NAME-values.yaml; none for an empty name."""
    files = ("--values", VALUES[name]) if name else ()
    done = helm("template", release, CHART, "--namespace", NAMESPACE, *files, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(name: str, *arguments: str) -> str:
    """Render values that are refused; give what helm says."""
    files = ("--values", VALUES[name]) if name else ()
    done = helm("template", "octopus", CHART, *files, *arguments)
    assert done.returncode != 0, done.stdout
    return done.stderr


@functools.cache
def objects(name: str, *arguments: str, release: str = "octopus") -> tuple[Object, ...]:
    return tuple(parsed(text_of(name, *arguments, release=release)))


def parsed(text: str) -> Iterator[Object]:
    # The loader in C reads the rules ten times as fast.
    yield from filter(None, yaml.load_all(text, Loader=yaml.CSafeLoader))


def of_kind(kind: str, name: str, *arguments: str) -> list[Object]:
    return [one for one in objects(name, *arguments) if one["kind"] == kind]


def the(kind: str, name: str, *arguments: str) -> Any:
    """Give the one object of a kind."""
    (only,) = of_kind(kind, name, *arguments)
    return only


def pod(name: str, *arguments: str) -> Any:
    return the("StatefulSet", name, *arguments)["spec"]["template"]["spec"]


def container(name: str, *arguments: str) -> Any:
    return next(one for one in pod(name, *arguments)["containers"] if one["name"] == "octopus-exporter")


def sources(name: str) -> list[Any]:
    """Give the Secrets whose keys are files in the folder of the configuration."""
    (volume,) = (one for one in pod(name)["volumes"] if one["name"] == "config")
    # The group of the pod reads it, and nobody else.
    assert volume["projected"]["defaultMode"] == 0o440
    return [source["secret"] for source in volume["projected"]["sources"]]


# --- what refuses an object


# It reads a megabyte of definitions for each object.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)


def problems(one: Object, version: str = KUBERNETES[-1]) -> list[str]:
    """Say what Kubernetes of a version, or the operator, does not take of an object. Unknown keys too."""
    if one["apiVersion"] == OPERATOR:
        found = [f"{error.json_path}: {error.message}" for error in _crd(one["kind"]).iter_errors(one)]
        return found + list(_repeated(one))
    try:
        kubernetes_validate.validate(dict(one), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{one['kind']} {'.'.join(map(str, error.path))}: {error.message}"]
    return []


@functools.cache
def _crd(kind: str) -> jsonschema.Draft202012Validator:
    text = (Path(__file__).parent / "crds" / f"{kind}.yaml").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(_strict(yaml.safe_load(text)))


def _strict(schema: Any) -> Any:
    """Refuse unknown keys, and read Go's (?i) at the begin of a pattern as Python does."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("pattern"), str):
        strict["pattern"] = schema["pattern"].replace("^(?i)", "(?i)^")
    if isinstance(schema.get("properties"), dict):
        strict.setdefault("additionalProperties", False)
    return strict


def _repeated(one: Object) -> Iterator[str]:
    """A list whose entries have names has each name once."""
    names = [group["name"] for group in one["spec"].get("groups", ())]
    yield from sorted({f"group {name}: there twice" for name in names if names.count(name) > 1})


def size(one: Object) -> int:
    """Give the length of an object as `kubectl apply` keeps it."""
    return len(json.dumps(one, separators=(",", ":")))
