"""What is pinned where, aside from the lock: each version that somebody has to raise by hand."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
# By file and name. No test can ask a registry whether a tag exists.
PINS = {
    "deploy/compose/compose.yaml": {
        "prom/prometheus": "v3.16.0",
        "prom/alertmanager": "v0.35.0",
        "grafana/grafana": "13.2.3",
    },
    "deploy/compose/ha.yaml": {"library/postgres": "18.1", "prom/prometheus": "v3.16.0"},
    ".ci/run": {
        "github.com/rhysd/actionlint/cmd/actionlint": "v1.7.12",
        "helm.sh/helm/v4/cmd/helm": "v4.3.1",
    },
    ".github/workflows/ci.yml": {
        "actions/checkout": "v6.0.2",
        "actions/setup-python": "v6.2.0",
        "docker.io/library/debian": "12",
    },
    ".github/workflows/release.yml": {
        "actions/attest-build-provenance": "v4.2.2",
        "actions/checkout": "v6.0.2",
        "actions/configure-pages": "v5.0.0",
        "actions/deploy-pages": "v4.0.5",
        "actions/download-artifact": "v4.3.0",
        "actions/setup-python": "v6.2.0",
        "actions/upload-artifact": "v4.6.2",
        "actions/upload-pages-artifact": "v4.0.0",
        "docker/login-action": "v3.7.0",
        "docker/setup-buildx-action": "v3.12.0",
        "docker/setup-qemu-action": "v3.7.0",
        "pypa/gh-action-pypi-publish": "v1.14.0",
    },
    "Dockerfile": {"library/python": "3.13-slim"},
    "pyproject.toml": {"grafana-foundation-sdk": "0.0.21"},
}

_IMAGE = re.compile(r"^\s*(?:- )?image: +[\"']?([^\s\"'#]+)", re.MULTILINE)
_ACTION = re.compile(r"^\s*(?:- )?uses: +(\S+?)@([0-9a-f]{40}) # (v[\d.]+)$", re.MULTILINE)
_GO = re.compile(r"\bgo install (\S+)@(v[\d.]+)$", re.MULTILINE)
_BASE = re.compile(r"^ARG PYTHON_IMAGE=(\S+)$", re.MULTILINE)
# A mirror has the images under the same names.
_REGISTRY = re.compile(r"^\$\{REGISTRY(:-docker\.io)?\}/")
_BUILT_HERE = "octopus-exporter"


def image_pins(references: list[str]) -> Iterator[tuple[str, str]]:
    for reference in references:
        if reference != _BUILT_HERE:
            assert _REGISTRY.match(reference), f"{reference}: expected ${{REGISTRY:-docker.io}}/ before it"
            name, _, tag = _REGISTRY.sub("", reference).rpartition(":")
            yield name, tag


def found() -> dict[str, dict[str, str]]:
    """Read the pins from the files."""
    files = sorted((ROOT / "deploy" / "compose").glob("*.yaml"))
    pins = {file: dict(image_pins(_IMAGE.findall(file.read_text(encoding="utf-8")))) for file in files}
    for file in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        text = file.read_text(encoding="utf-8")
        actions = _ACTION.findall(text)
        # A tag can be moved to another commit, a digest cannot.
        assert len(actions) == len(re.findall(r"\buses:", text)), (
            f"{file.name}: a digest or its version is missing"
        )
        images = (image.rpartition(":") for image in _IMAGE.findall(text))
        pins[file] = {name: version for name, _, version in [*actions, *images]}
    ci = ROOT / ".ci" / "run"
    pins[ci] = dict(_GO.findall(ci.read_text(encoding="utf-8")))
    dockerfile = ROOT / "Dockerfile"
    pins[dockerfile] = dict(image_pins(_BASE.findall(dockerfile.read_text(encoding="utf-8"))))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [one for group in project["dependency-groups"].values() for one in group if isinstance(one, str)]
    exact = (one.partition("==") for one in [*project["project"]["dependencies"], *asked])
    pins[ROOT / "pyproject.toml"] = {name: version for name, equals, version in exact if equals}
    return {file.relative_to(ROOT).as_posix(): of for file, of in pins.items() if of}


def test_what_is_pinned_where() -> None:
    """A new pin, or another version, is written here too, and is the same in every file."""
    assert found() == PINS
    versions: dict[str, set[str]] = {}
    for pins in PINS.values():
        for name, version in pins.items():
            versions.setdefault(name, set()).add(version)
    assert {name: several for name, several in versions.items() if len(several) > 1} == {}
