"""The lock: it pins what pyproject.toml asks for, with hashes, and names no machine to fetch it from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("run", "build", "dev", "release")


def lock_text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def pins(name: str) -> dict[str, list[Requirement]]:
    """A package may be pinned more than once, for different versions of Python."""
    found: dict[str, list[Requirement]] = {}
    for line in re.findall(r"^[a-zA-Z0-9].*?(?= \\$)", lock_text(name), re.MULTILINE):
        pin = Requirement(line)
        found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def group(groups: dict[str, list[Any]], name: str) -> Iterator[str]:
    for entry in groups[name]:
        if isinstance(entry, dict):
            yield from group(groups, entry["include-group"])
        else:
            yield entry


def wanted(name: str) -> list[str]:
    asked = pyproject()
    groups, project = asked["dependency-groups"], asked["project"]
    # The lock, and with it the image, has all extras.
    run = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    return {
        "run": run,
        "build": [*asked["build-system"]["requires"], *group(groups, "build")],
        "dev": [*run, *group(groups, "dev")],
        "release": list(group(groups, "release")),
    }[name]


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_pinned_to_a_version_it_allows(name: str) -> None:
    """If not: make lock"""
    locked = pins(name)
    unmet = [
        requirement
        for requirement in map(Requirement, wanted(name))
        if not all(
            requirement.specifier.contains(version(pin), prereleases=True)
            for pin in locked.get(canonicalize_name(requirement.name), [])
        )
        or canonicalize_name(requirement.name) not in locked
    ]
    assert unmet == []


def version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "==", pin
    return specifier.version


@pytest.mark.parametrize("name", ["run", "build"])
def test_development_uses_the_versions_that_users_get(name: str) -> None:
    dev = pins("dev")
    assert {package: dev.get(package) for package in pins(name)} == pins(name)


def test_the_tools_of_a_release_change_nothing_of_the_others() -> None:
    """They are installed beside them."""
    dev, release = (
        {name: {version(pin) for pin in several} for name, several in pins(lock).items()}
        for lock in ("dev", "release")
    )
    shared = dev.keys() & release.keys()
    assert {name: release[name] for name in shared} == {name: dev[name] for name in shared}


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_a_hash(name: str) -> None:
    entries = re.split(r"\n(?! )", re.sub(r"^#.*\n", "", lock_text(name), flags=re.MULTILINE).strip())
    assert len(entries) == sum(map(len, pins(name).values()))
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("name", LOCKS)
def test_no_host_is_named(name: str) -> None:
    assert "://" not in lock_text(name)
    assert "--index" not in lock_text(name)
