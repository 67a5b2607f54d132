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
    "Dockerfile": {"library/python": "3.13-slim"},
    "pyproject.toml": {"grafana-foundation-sdk": "0.0.21"},
}

_IMAGE = re.compile(r"^\s*(?:- )?image: +[\"']?([^\s\"'#]+)", re.MULTILINE)
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
